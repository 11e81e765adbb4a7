//! One tensor of the Open Inference Protocol, whose fields come in any order.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::fields::{TextField, WholeNumbersField};
use super::values::Value;
use super::{Context, Text};
use crate::error::{Error, Result};
use crate::oip::elements::TensorBuilder;
use crate::tensor::dtype::DataType;
use crate::tensor::shape::{Dims, Shape};
use crate::tensor::value::NamedTensor;

/// More dimensions than any operator takes.
const MOST_DIMENSIONS: usize = 64;

/// One tensor of the Open Inference Protocol; its fields come in any order.
pub struct TensorObject<'c> {
    pub context: &'c Context<'c>,
}

#[derive(Default)]
struct TensorFields<'de, 'c> {
    name: Option<Cow<'de, str>>,
    shape: Option<Vec<i64>>,
    datatype: Option<DataType>,
    data: Option<Data<'de, 'c>>,
}

enum Data<'de, 'c> {
    /// Read already, since the name or the data type came first.
    Read(TensorBuilder<'c>),
    /// Kept as text until its data type is known.
    Raw(&'de RawValue),
}

impl<'c> TensorObject<'c> {
    /// Reads the rest of an object whose first key was read already.
    pub fn read<'de, A: MapAccess<'de>>(
        self,
        first: Option<Text<'de>>,
        mut map: A,
    ) -> Result<NamedTensor, A::Error> {
        let TensorObject { context } = self;
        let mut fields = TensorFields::default();
        let mut next = first;
        while let Some(Text(key)) = next {
            let fresh = match &*key {
                "name" => {
                    let name = map.next_value_seed(TextField("'name' in 'inputs'"))?;
                    fields.name.replace(name).is_none()
                }
                "shape" => {
                    let shape = map.next_value_seed(WholeNumbersField("'shape' in 'inputs'"))?;
                    fields.shape.replace(shape).is_none()
                }
                "datatype" => {
                    let name = map.next_value_seed(TextField("'datatype' in 'inputs'"))?;
                    let datatype = context.check(datatype(&name))?;
                    fields.datatype.replace(datatype).is_none()
                }
                "data" => {
                    let data = match self.known_type(&fields) {
                        Some(dtype) => {
                            let mut builder = TensorBuilder::new(self.known_name(&fields), dtype);
                            map.next_value_seed(Value {
                                context,
                                builder: &mut builder,
                                depth: 0,
                            })?;
                            Data::Read(builder)
                        }
                        None => Data::Raw(map.next_value()?),
                    };
                    fields.data.replace(data).is_none()
                }
                "parameters" => map.next_value::<IgnoredAny>().map(|_| true)?,
                other => {
                    return Err(context.fail(Error::invalid(format!(
                        "unknown key '{other}' in a tensor of 'inputs'; valid keys are 'name', 'shape', 'datatype', 'parameters', 'data'"
                    ))));
                }
            };
            if !fresh {
                return Err(context.fail(Error::invalid(format!(
                    "key '{key}' is given twice in a tensor of 'inputs'"
                ))));
            }
            next = map.next_key()?;
        }
        context.check(self.finish(fields))
    }

    fn known_type(&self, fields: &TensorFields<'_, '_>) -> Option<DataType> {
        let of_name = |name: &Cow<'_, str>| {
            self.context
                .signature
                .input(name)
                .ok()
                .map(|input| input.dtype)
        };
        fields
            .datatype
            .or_else(|| fields.name.as_ref().and_then(of_name))
    }

    /// The name for messages, which lives as long as the signature.
    fn known_name(&self, fields: &TensorFields<'_, '_>) -> &'c str {
        let input = fields
            .name
            .as_ref()
            .and_then(|name| self.context.signature.input(name).ok());
        input.map_or("of unknown name", |input| &input.name)
    }

    fn finish(&self, fields: TensorFields<'_, 'c>) -> Result<NamedTensor> {
        let context = self.context;
        let missing = |what: &str, of: &str| Error::invalid(format!("'{what}' is missing in {of}"));
        let Some(name) = fields.name.as_deref() else {
            return Err(missing("name", "a tensor of 'inputs'"));
        };
        let of = format!("input '{name}'");
        let input = context.signature.input(name)?;
        let datatype = fields.datatype.ok_or_else(|| missing("datatype", &of))?;
        if datatype != input.dtype {
            return Err(Error::invalid(format!(
                "{of}: expected datatype {}, got {datatype}",
                input.dtype
            )));
        }
        let shape = checked_shape(
            &of,
            fields
                .shape
                .as_deref()
                .ok_or_else(|| missing("shape", &of))?,
        )?;
        let builder = match fields.data {
            None => return Err(missing("data", &of)),
            Some(Data::Read(builder)) => builder.named(&input.name),
            Some(Data::Raw(text)) => {
                let mut builder = TensorBuilder::new(&input.name, datatype);
                let mut json = serde_json::Deserializer::from_str(text.get());
                let read = builder.read(context, 0, &mut json);
                read.map_err(|error| {
                    context
                        .failure
                        .take()
                        .unwrap_or_else(|| Error::invalid(format!("{of}: {error}")))
                })?;
                builder
            }
        };
        let limit = context.limits.tensor_elements;
        if shape.elements() > limit {
            return Err(Error::too_large(format!(
                "{of}: shape {shape} has more than {limit} elements"
            )));
        }
        builder.finish_as(shape)
    }
}

fn datatype(name: &str) -> Result<DataType> {
    DataType::from_name(name).ok_or_else(|| {
        let names: Vec<_> = DataType::ALL.iter().map(|dtype| dtype.name()).collect();
        Error::invalid(format!(
            "unknown datatype '{name}'; valid ones are {}",
            names.join(", ")
        ))
    })
}

fn checked_shape(of: &str, dims: &[i64]) -> Result<Shape> {
    if dims.len() > MOST_DIMENSIONS {
        return Err(Error::invalid(format!(
            "{of}: a shape has at most {MOST_DIMENSIONS} dimensions, got {}",
            dims.len()
        )));
    }
    let lengths: Result<Vec<usize>, _> = dims.iter().map(|&dim| usize::try_from(dim)).collect();
    let lengths = lengths.map_err(|_| {
        Error::invalid(format!(
            "{of}: a shape has no negative dimensions, got {}",
            Dims(dims)
        ))
    })?;
    Shape::new(lengths)
        .map_err(|error| Error::too_large(format!("{of}: {}", error.public_message())))
}
