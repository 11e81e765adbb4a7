//! The labels of a classifier's classes: whole numbers or strings.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// One label a class.
#[derive(Debug)]
pub struct Classes(Arc<Tensor>);

impl Classes {
    /// Reads the labels from `classlabels_strings` or from the attribute that holds whole numbers.
    pub fn read(node: &NodeProto, integers: &str) -> TractResult<Classes> {
        let numbers = node.get_attr_opt_slice::<i64>(integers)?;
        let numbers = numbers.filter(|labels| !labels.is_empty());
        let strings = node.get_attr_opt_tvec::<&str>("classlabels_strings")?;
        let strings = strings.filter(|labels| !labels.is_empty());
        let labels = match (numbers, strings) {
            (Some(labels), None) => tensor1(labels),
            (None, Some(labels)) => {
                tensor1(&labels.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            _ => bail!("exactly one of {integers} and classlabels_strings must be given"),
        };
        Ok(Classes(labels.into_arc_tensor()))
    }

    /// How many classes there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The labels' type.
    pub fn datum_type(&self) -> DatumType {
        self.0.datum_type()
    }

    /// The labels of these classes.
    pub fn pick(&self, winners: &[usize]) -> TractResult<Tensor> {
        fn of<T: Datum>(labels: &[T], winners: &[usize]) -> Tensor {
            tensor1(
                &winners
                    .iter()
                    .map(|winner| labels[*winner].clone())
                    .collect::<Vec<_>>(),
            )
        }
        let labels = self.0.try_as_plain_ram()?;
        Ok(match self.datum_type() == i64::datum_type() {
            true => of(labels.as_slice::<i64>()?, winners),
            false => of(labels.as_slice::<String>()?, winners),
        })
    }
}
