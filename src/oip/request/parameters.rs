//! The parts of a request beside its tensors: `parameters` wherever they stand, and the wanted `outputs`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::TextField;
use super::values::seeds;
use super::{Context, Text, WantedOutput};
use crate::error::Error;
use crate::oip::parameters::{OutputParameters, Parameters, Value};

seeds! {
    Outputs<'_> => Vec<WantedOutput>,
    Output<'_> => WantedOutput,
}

/// The outputs that a protocol request asks for.
pub struct Outputs<'c>(pub &'c Context<'c>);

impl<'de> Visitor<'de> for Outputs<'_> {
    type Value = Vec<WantedOutput>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OUTPUTS)
    }

    /// Some clients write `null` for what is absent.
    fn visit_unit<E: serde::de::Error>(self) -> Result<Vec<WantedOutput>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<WantedOutput>, A::Error> {
        let Outputs(context) = self;
        let mut outputs = Vec::new();
        while let Some(output) = list.next_element_seed(Output(context))? {
            outputs.push(output);
        }
        Ok(outputs)
    }
}

const OUTPUTS: &str =
    "'outputs' as a list of objects with a 'name', beside 'inputs' as a list of tensor objects";

/// One of them.
struct Output<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for Output<'_> {
    type Value = WantedOutput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OUTPUTS)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WantedOutput, A::Error> {
        let Output(context) = self;
        let (mut name, mut parameters) = (None, OutputParameters::default());
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "name" => {
                    name = Some(
                        map.next_value_seed(TextField("'name' in 'outputs'"))?
                            .into_owned(),
                    )
                }
                "parameters" => parameters = map.next_value_seed(ParametersSeed::new(context))?,
                other => {
                    return Err(context.fail(Error::invalid(format!(
                        "unknown key '{other}' in 'outputs'; valid keys are 'name' and 'parameters'"
                    ))));
                }
            }
        }
        let Some(name) = name else {
            return Err(context.fail(Error::invalid("'name' is missing in an item of 'outputs'")));
        };
        Ok(WantedOutput { name, parameters })
    }
}

/// An object of parameters.
pub struct ParametersSeed<'c, P> {
    context: &'c Context<'c>,
    parameters: PhantomData<P>,
}

impl<'c, P> ParametersSeed<'c, P> {
    /// Reads them for this request.
    pub fn new(context: &'c Context<'c>) -> Self {
        Self {
            context,
            parameters: PhantomData,
        }
    }
}

impl<'de, P: Parameters> DeserializeSeed<'de> for ParametersSeed<'_, P> {
    type Value = P;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<P, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, P: Parameters> Visitor<'de> for ParametersSeed<'_, P> {
    type Value = P;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as an object", P::OF)
    }

    /// Some clients write `null` for what is absent.
    fn visit_unit<E: serde::de::Error>(self) -> Result<P, E> {
        Ok(P::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<P, A::Error> {
        let mut parameters = P::default();
        while let Some(Text(name)) = map.next_key()? {
            map.next_value_seed(ParameterSeed {
                context: self.context,
                parameters: &mut parameters,
                name: &name,
            })?;
        }
        Ok(parameters)
    }
}

/// The value of one parameter.
struct ParameterSeed<'a, P> {
    context: &'a Context<'a>,
    parameters: &'a mut P,
    name: &'a str,
}

impl<P: Parameters> ParameterSeed<'_, P> {
    fn set<E: serde::de::Error>(self, value: Value<'_>) -> Result<(), E> {
        self.context.check(self.parameters.set(self.name, value))
    }
}

impl<'de, P: Parameters> DeserializeSeed<'de> for ParameterSeed<'_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, P: Parameters> Visitor<'de> for ParameterSeed<'_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parameter '{}'", self.name)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.set(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.set(Value::Signed(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.set(Value::Unsigned(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.set(Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.set(Value::Text(value))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.set(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.set(Value::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.set(Value::Object)
    }
}
