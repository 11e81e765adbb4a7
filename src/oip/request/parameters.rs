//! The parts of a request beside its tensors: `parameters` and the wanted `outputs`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::TextField;
use super::values::seeds;
use super::{Context, Parameters, Text};
use crate::error::Error;
use crate::oip::NanForm;

seeds! {
    Outputs<'_> => Vec<String>,
    Output<'_> => String,
    ParametersSeed<'_> => Parameters,
    TimeoutSeed<'_> => u64,
}

/// The outputs that a protocol request asks for.
pub struct Outputs<'c>(pub &'c Context<'c>);

impl<'de> Visitor<'de> for Outputs<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OUTPUTS)
    }

    /// Some clients write `null` for what is absent.
    fn visit_unit<E: serde::de::Error>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let Outputs(context) = self;
        let mut names: Vec<String> = Vec::new();
        while let Some(name) = list.next_element_seed(Output(context))? {
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

const OUTPUTS: &str = "'outputs' as a list of objects with a 'name'";

/// One of them: its name.
struct Output<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for Output<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OUTPUTS)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let Output(context) = self;
        let mut name = None;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "name" => {
                    name = Some(
                        map.next_value_seed(TextField("'name' in 'outputs'"))?
                            .into_owned(),
                    )
                }
                "parameters" => {
                    map.next_value::<IgnoredAny>()?;
                }
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
        context.check(context.signature.output(&name))?;
        Ok(name)
    }
}

/// The request's `parameters`.
pub struct ParametersSeed<'c>(pub &'c Context<'c>);

impl<'de> Visitor<'de> for ParametersSeed<'_> {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'parameters' as an object")
    }

    /// Some clients write `null` for what is absent.
    fn visit_unit<E: serde::de::Error>(self) -> Result<Parameters, E> {
        Ok(Parameters::default())
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
                    parameters.nan = match &*map.next_value_seed(TextField("parameter 'nan'"))? {
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

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
