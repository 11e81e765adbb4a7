//! OneHotEncoder (ai.onnx.ml 1): one column a category, 1 where the input is that category.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::host::{Fact, Host, Operator, is_number, output};
use super::index::{Duplicates, Index};

/// Registers the operator.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("OneHotEncoder", |_, node| {
        Ok((Host::node(OneHotEncoder::read(node)?), vec![]))
    });
}

#[derive(Debug)]
struct OneHotEncoder {
    categories: Index,
    count: usize,
    /// An unknown category is all zeros; else an error.
    zeros: bool,
}

impl OneHotEncoder {
    fn read(node: &NodeProto) -> TractResult<OneHotEncoder> {
        let integers = node.get_attr_opt_slice::<i64>("cats_int64s")?;
        let texts = node.get_attr_opt_tvec::<&str>("cats_strings")?;
        let integers = integers.filter(|list| !list.is_empty());
        let texts = texts.filter(|list| !list.is_empty());
        let categories = match (integers, texts) {
            (Some(categories), None) => tensor1(categories),
            (None, Some(texts)) => {
                tensor1(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            _ => bail!("exactly one of cats_int64s and cats_strings must be given"),
        };
        Ok(OneHotEncoder {
            categories: Index::new(&categories, Duplicates::LastCounts)?,
            count: categories.len(),
            zeros: node.get_attr_opt::<i64>("zeros")?.unwrap_or(1) != 0,
        })
    }
}

impl Operator for OneHotEncoder {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let fits = match self.categories {
            Index::Texts(_) => *dtype == String::datum_type(),
            _ => is_number(*dtype),
        };
        ensure!(fits, "inputs of type {dtype:?} do not fit the categories");
        let mut shape = shape.clone();
        shape.push(self.count.to_dim());
        Ok(vec![(f32::datum_type(), shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let found = self.categories.find(&inputs[0])?;
        let mut columns = vec![0.0f32; found.len() * self.count];
        for (columns, category) in columns.chunks_exact_mut(self.count).zip(found) {
            match category {
                Some(category) => columns[category] = 1.0,
                None => ensure!(self.zeros, "an element is not among the categories"),
            }
        }
        let mut shape = inputs[0].shape().to_vec();
        shape.push(self.count);
        Ok(tvec![output(&shape, columns)?])
    }
}
