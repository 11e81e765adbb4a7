//! The parts of a request beside its tensors: `parameters` and the wanted `outputs`.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::values::seeds;
use super::{Context, Parameters, Text};
use crate::error::Error;
use crate::oip::NanForm;

seeds! {
    Outputs<'_> => Vec<String>,
    ParametersSeed<'_> => Parameters,
    TimeoutSeed<'_> => u64,
}

/// The outputs that a protocol request asks for.
pub struct Outputs<'c>(pub &'c Context<'c>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestedOutput {
    name: String,
    #[serde(default, rename = "parameters")]
    _parameters: IgnoredAny,
}

impl<'de> Visitor<'de> for Outputs<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'outputs' as a list of objects with a 'name'")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let Outputs(context) = self;
        let mut names: Vec<String> = Vec::new();
        while let Some(RequestedOutput { name, .. }) = list.next_element()? {
            context.check(context.signature.output(&name))?;
            if names.contains(&name) {
                return Err(context.fail(Error::invalid(format!(
                    "output '{name}' is asked for twice"
                ))));
            }
            names.push(name);
        }
        Ok(names)
    }
}

/// The request's `parameters`.
pub struct ParametersSeed<'c>(pub &'c Context<'c>);

impl<'de> Visitor<'de> for ParametersSeed<'_> {
    type Value = Parameters;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("'parameters' as an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let ParametersSeed(context) = self;
        let mut parameters = Parameters::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "timeout" => {
                    parameters.timeout_us = Some(map.next_value_seed(TimeoutSeed(context))?)
                }
                "nan" => {
                    parameters.nan = match &*map.next_value::<Text<'_>>()?.0 {
                        "null" => NanForm::Null,
                        "token" => NanForm::Token,
                        other => {
                            let message = format!(
                                "parameter 'nan': expected 'null' or 'token', got '{other}'"
                            );
                            return Err(context.fail(Error::invalid(message)));
                        }
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(parameters)
    }
}

struct TimeoutSeed<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for TimeoutSeed<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("parameter 'timeout' as a whole number of microseconds")
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<u64, E> {
        match value {
            0 => Err(self.0.fail(Error::invalid(
                "parameter 'timeout': expected at least 1 microsecond, got 0",
            ))),
            value => Ok(value),
        }
    }
}
