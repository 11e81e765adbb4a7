//! The names of an output's classes, where the model's owner gave some: `labels` in model.toml.

use crate::error::{Error, Result};
use crate::repository::ModelFiles;
use crate::tensor::dtype::DataType;
use crate::tensor::shape::Shape;
use crate::tensor::signature::Signature;
use crate::tensor::value::{Element, NamedTensor, Tensor};

/// The names of the classes that an output gives by number, or has a score for each of.
pub struct ClassNames {
    output: String,
    names: Vec<String>,
}

impl ClassNames {
    /// The names that the owner gave, if any; fails unless the output can have some.
    pub fn new(files: &ModelFiles, signature: &Signature) -> Result<Option<ClassNames>> {
        let Some(labels) = &files.manifest.labels else {
            return Ok(None);
        };
        let output = signature.output(&labels.output)?;
        if !output.dtype.is_integer() && !output.dtype.is_float() {
            let (name, dtype) = (&output.name, output.dtype);
            return Err(Error::invalid(format!(
                "labels need an output of numbers, and '{name}' is {dtype}"
            )));
        }
        Ok(Some(ClassNames {
            output: labels.output.clone(),
            names: files.labels.clone(),
        }))
    }

    /// The names that stand beside the scores of an output: their own, or those of another one's classes where there
    /// are as many.
    pub fn of_scores(&self, output: &str, classes: usize) -> Option<&[String]> {
        (output == self.output || classes == self.names.len()).then_some(&self.names)
    }

    /// The names of the classes in `outputs`, as one more output called `<output>_name`; none where it has scores.
    pub fn lookup(&self, outputs: &[NamedTensor]) -> Option<NamedTensor> {
        let output = outputs.iter().find(|output| output.name == self.output)?;
        let classes = whole_numbers(&output.tensor)?;
        let name = |class: i64| {
            usize::try_from(class)
                .ok()
                .and_then(|class| self.names.get(class))
        };
        // A class without a name keeps its number, so that the answer stays useful.
        let names = classes.map(|class| name(class).cloned().unwrap_or_else(|| class.to_string()));
        let shape: Shape = output.tensor.shape().clone();
        let tensor = Tensor::from_strings(shape, names).ok()?;
        Some(NamedTensor {
            name: format!("{}_name", self.output),
            tensor,
        })
    }
}

fn whole_numbers(tensor: &Tensor) -> Option<Box<dyn Iterator<Item = i64>>> {
    fn of<T: Element + TryInto<i64>>(tensor: &Tensor) -> Box<dyn Iterator<Item = i64>> {
        let elements = tensor.elements::<T>().into_owned();
        Box::new(
            elements
                .into_iter()
                .map(|element| element.try_into().unwrap_or(i64::MAX)),
        )
    }

    Some(match tensor.dtype() {
        DataType::UInt8 => of::<u8>(tensor),
        DataType::UInt16 => of::<u16>(tensor),
        DataType::UInt32 => of::<u32>(tensor),
        DataType::UInt64 => of::<u64>(tensor),
        DataType::Int8 => of::<i8>(tensor),
        DataType::Int16 => of::<i16>(tensor),
        DataType::Int32 => of::<i32>(tensor),
        DataType::Int64 => of::<i64>(tensor),
        _ => return None,
    })
}
