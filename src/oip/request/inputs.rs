//! What stands behind `inputs`: columns, the only input's value, or the protocol's tensor objects.

use serde::de::value::SeqAccessDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::tensor_object::TensorObject;
use super::values::{Value, forward_scalars, is_base64, read_base64, seeds};
use super::{Context, Text};
use crate::error::Error;
use crate::oip::Style;
use crate::oip::elements::TensorBuilder;
use crate::tensor::value::NamedTensor;

seeds! {
    Inputs<'_> => (Style, Vec<NamedTensor>),
    InputsItem<'_, '_> => Option<NamedTensor>,
}

/// What stands behind `inputs`: an object of columns, a list of tensor objects, or the only input's value.
pub struct Inputs<'c>(pub &'c Context<'c>);

impl Inputs<'_> {
    fn scalar<'de, D: Deserializer<'de>>(
        self,
        json: D,
    ) -> Result<(Style, Vec<NamedTensor>), D::Error> {
        let mut builder = self.0.only_input("'inputs'")?;
        builder.read(self.0, 0, json)?;
        let tensor = self.0.check(builder.finish())?;
        Ok((Style::Columns, vec![tensor]))
    }
}

impl<'de> Visitor<'de> for Inputs<'_> {
    type Value = (Style, Vec<NamedTensor>);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'inputs' as a list of tensor objects, an object of columns, or nested lists")
    }

    forward_scalars!(scalar);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Inputs(context) = self;
        let inputs = &context.signature.inputs;
        let mut tensors: Vec<NamedTensor> = Vec::with_capacity(inputs.len());
        while let Some(Text(key)) = map.next_key()? {
            let of_only_input = is_base64(context, &key);
            let name = if of_only_input {
                inputs[0].name.as_str()
            } else {
                &*key
            };
            let input = context.check(context.signature.input(name))?;
            if tensors.iter().any(|tensor| tensor.name == input.name) {
                return Err(context.fail(Error::invalid(format!("input '{key}' is given twice"))));
            }
            let mut builder = TensorBuilder::new(&input.name, input.dtype);
            match of_only_input {
                true => read_base64(context, &mut builder, 0, &mut map)?,
                false => map.next_value_seed(Value {
                    context,
                    builder: &mut builder,
                    depth: 0,
                })?,
            }
            tensors.push(context.check(builder.finish())?);
        }
        Ok((Style::Columns, tensors))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Inputs(context) = self;
        let most = context.signature.inputs.len();
        let (mut tensors, mut column, mut values) = (Vec::new(), None, 0);
        while let Some(tensor) = list.next_element_seed(InputsItem {
            context,
            column: &mut column,
        })? {
            match tensor {
                Some(tensor) => tensors.push(tensor),
                None => values += 1,
            }
            if values > 0 && !tensors.is_empty() {
                return Err(context.fail(Error::invalid(
                    "'inputs' mixes tensor objects with bare values",
                )));
            }
            if tensors.len() > most {
                let message =
                    format!("'inputs' has more tensors than the model has inputs, which is {most}");
                return Err(context.fail(Error::invalid(message)));
            }
        }
        let Some(mut builder) = column else {
            return Ok((Style::Protocol, tensors));
        };
        let tensor = context.check(
            builder
                .close_outer_list(values)
                .and_then(|()| builder.finish()),
        )?;
        Ok((Style::Columns, vec![tensor]))
    }
}

/// One item of a list behind `inputs`: a tensor object, or (as `None`) a value that went into the only input's column.
struct InputsItem<'a, 'c> {
    context: &'c Context<'c>,
    column: &'a mut Option<TensorBuilder<'c>>,
}

impl<'c> InputsItem<'_, 'c> {
    fn column<E: serde::de::Error>(&mut self) -> Result<&mut TensorBuilder<'c>, E> {
        match self.column {
            Some(builder) => Ok(builder),
            None => Ok(self.column.insert(self.context.only_input("'inputs'")?)),
        }
    }

    fn value<'de, D: Deserializer<'de>>(
        mut self,
        json: D,
    ) -> Result<Option<NamedTensor>, D::Error> {
        let context = self.context;
        self.column()?.read(context, 1, json).map(|()| None)
    }
}

impl<'de> Visitor<'de> for InputsItem<'_, '_> {
    type Value = Option<NamedTensor>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a tensor object or a value")
    }

    forward_scalars!(value);

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        self.value(SeqAccessDeserializer::new(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let context = self.context;
        let first = map.next_key::<Text<'_>>()?;
        match first {
            Some(Text(key)) if is_base64(context, &key) => {
                read_base64(context, self.column()?, 1, &mut map)?;
                match map.next_key::<Text<'_>>()? {
                    None => Ok(None),
                    Some(_) => Err(A::Error::custom("an object with b64 has no other key")),
                }
            }
            first => TensorObject { context }.read(first, map).map(Some),
        }
    }
}
