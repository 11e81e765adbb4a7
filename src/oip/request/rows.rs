//! The rows style: the list behind `instances`.

use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::values::{Value, forward_scalars, is_base64, read_base64, seeds};
use super::{Context, Text};
use crate::error::Error;
use crate::oip::elements::TensorBuilder;
use crate::tensor::value::NamedTensor;

seeds! {
    Rows<'_> => Vec<NamedTensor>,
    Row<'_, '_> => (),
}

/// The list behind `instances`: each row adds one item to every input.
pub struct Rows<'c>(pub &'c Context<'c>);

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = Vec<NamedTensor>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'instances' as a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<NamedTensor>, A::Error> {
        let Rows(context) = self;
        let inputs = &context.signature.inputs;
        let mut builders: Vec<_> = inputs
            .iter()
            .map(|input| TensorBuilder::new(&input.name, input.dtype))
            .collect();
        let mut index = 0;
        while list
            .next_element_seed(Row {
                context,
                builders: &mut builders,
                index,
            })?
            .is_some()
        {
            index += 1;
        }
        if index == 0 {
            return Err(context.fail(Error::invalid(
                "'instances' is empty; expected at least one row",
            )));
        }
        let tensors = builders.into_iter().map(|mut builder| {
            builder.close_outer_list(index)?;
            builder.finish()
        });
        context.check(tensors.collect())
    }
}

/// One row: an object with every input, or the bare value of the only one.
struct Row<'a, 'c> {
    context: &'c Context<'c>,
    builders: &'a mut [TensorBuilder<'c>],
    index: usize,
}

impl Row<'_, '_> {
    fn bare<'de, D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.builders {
            [builder] => builder.read(self.context, 1, json),
            _ => self
                .context
                .only_input(&format!("row {}", self.index))
                .map(|_| ()),
        }
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row")
    }

    forward_scalars!(bare);

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.bare(SeqAccessDeserializer::new(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Row {
            context,
            builders,
            index,
        } = self;
        let inputs = &context.signature.inputs;
        let mut seen = vec![false; inputs.len()];
        while let Some(Text(key)) = map.next_key()? {
            let position = match is_base64(context, &key) {
                true => 0,
                false => context.check(context.signature.input_index(&key))?,
            };
            if std::mem::replace(&mut seen[position], true) {
                return Err(context.fail(Error::invalid(format!(
                    "row {index}: input '{key}' is given twice"
                ))));
            }
            match is_base64(context, &key) {
                true => read_base64(context, &mut builders[position], 1, &mut map)?,
                false => map.next_value_seed(Value {
                    context,
                    builder: &mut builders[position],
                    depth: 1,
                })?,
            }
        }
        match seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(missing) => {
                let name = &inputs[missing].name;
                Err(context.fail(Error::invalid(format!(
                    "row {index}: input '{name}' is missing"
                ))))
            }
        }
    }
}
