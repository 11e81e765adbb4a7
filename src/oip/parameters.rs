//! The parameters of requests, inputs and outputs that mean something here, read alike whatever wire they came over.
//!
//! Others pass, since clients of many servers send many. What belongs to sequences is checked and has no effect, as it
//! has none on a Triton model that keeps no state; `priority` has one where a model has levels of it.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::NanForm;
use super::numbers::EXACT;
use crate::error::{Error, Result};

/// A parameter's value as a wire has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
    /// What some clients write for a parameter that is absent.
    Null,
    List,
    Object,
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => value.fmt(f),
            Value::Signed(value) => value.fmt(f),
            Value::Unsigned(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::Text(text) => write!(f, "'{text}'"),
            Value::Null => f.write_str("null"),
            Value::List => f.write_str("a list"),
            Value::Object => f.write_str("an object"),
        }
    }
}

/// Parameters that are set one by one.
pub trait Parameters: Default {
    /// Whose they are, for messages.
    const OF: &'static str;

    /// Takes one parameter; passes it over where it means nothing here.
    fn set(&mut self, name: &str, value: Value<'_>) -> Result<()>;
}

/// What the parameters of a request say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestParameters {
    /// How long the client waits, where it says so; on the wire in microseconds, where 0 says nothing.
    pub timeout: Option<Duration>,
    /// Which level of the model's priorities it has, 1 being the first; on the wire 0 says nothing.
    pub priority: Option<u32>,
    pub nan: NanForm,
    /// Whether outputs come in binary that do not say otherwise.
    pub binary_outputs: bool,
}

impl Parameters for RequestParameters {
    const OF: &'static str = "'parameters'";

    fn set(&mut self, name: &str, value: Value<'_>) -> Result<()> {
        match name {
            _ if value == Value::Null => {}
            "timeout" => {
                let micros = whole_number(name, value, "a whole number of microseconds")?;
                self.timeout = Some(Duration::from_micros(micros)).filter(|time| !time.is_zero());
            }
            "nan" => {
                self.nan = match value {
                    Value::Text("null") => NanForm::Null,
                    Value::Text("token") => NanForm::Token,
                    other => return Err(unexpected(name, "'null' or 'token'", other)),
                }
            }
            "binary_data_output" => self.binary_outputs = truth(name, value)?,
            "priority" => {
                let level = whole_number(name, value, "a whole number")?;
                // No model has so many levels that the largest number would be one of them.
                let level = u32::try_from(level).unwrap_or(u32::MAX);
                self.priority = Some(level).filter(|level| *level > 0);
            }
            "sequence_id" if matches!(value, Value::Text(_)) => {}
            "sequence_id" => {
                whole_number(name, value, "a whole number or a string")?;
            }
            "sequence_start" | "sequence_end" => {
                truth(name, value)?;
            }
            "headers" => {
                return Err(Error::invalid(
                    "parameter 'headers' is not supported; send them as the request's own headers",
                ));
            }
            _ => refuse_shared_memory(name)?,
        }
        Ok(())
    }
}

/// What the parameters of an input say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputParameters {
    /// How many bytes of the binary part of the body are the input's.
    pub binary_data_size: Option<u64>,
}

impl Parameters for InputParameters {
    const OF: &'static str = "'parameters' in 'inputs'";

    fn set(&mut self, name: &str, value: Value<'_>) -> Result<()> {
        match name {
            _ if value == Value::Null => {}
            "binary_data_size" => {
                let size = whole_number(name, value, "a whole number of bytes")?;
                self.binary_data_size = Some(size);
            }
            _ => refuse_shared_memory(name)?,
        }
        Ok(())
    }
}

/// What the parameters of a requested output say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputParameters {
    /// How many of its best classes are wanted, in the place of its numbers.
    pub classes: Option<NonZeroUsize>,
    /// Whether it comes in binary; where it does not say, the request does.
    pub binary: Option<bool>,
}

impl Parameters for OutputParameters {
    const OF: &'static str = "'parameters' in 'outputs'";

    fn set(&mut self, name: &str, value: Value<'_>) -> Result<()> {
        match name {
            _ if value == Value::Null => {}
            "classification" => {
                let classes = whole_number(name, value, "a whole number of classes")?;
                let classes = usize::try_from(classes).unwrap_or(usize::MAX);
                self.classes = NonZeroUsize::new(classes);
            }
            "binary_data" => self.binary = Some(truth(name, value)?),
            _ => refuse_shared_memory(name)?,
        }
        Ok(())
    }
}

fn refuse_shared_memory(name: &str) -> Result<()> {
    match name.starts_with("shared_memory_") {
        false => Ok(()),
        true => Err(Error::invalid(format!(
            "parameter '{name}': shared memory is not supported; send the tensor in the request"
        ))),
    }
}

fn whole_number(name: &str, value: Value<'_>, expected: &str) -> Result<u64> {
    match value {
        Value::Unsigned(number) => Ok(number),
        Value::Signed(number) => {
            u64::try_from(number).map_err(|_| unexpected(name, expected, value))
        }
        // As in tensors, 2.0 is a whole number: JSON does not tell the two apart.
        Value::Float(number) if number.fract() == 0.0 && (0.0..=EXACT).contains(&number) => {
            Ok(number as u64)
        }
        other => Err(unexpected(name, expected, other)),
    }
}

fn truth(name: &str, value: Value<'_>) -> Result<bool> {
    match value {
        Value::Bool(truth) => Ok(truth),
        other => Err(unexpected(name, "true or false", other)),
    }
}

fn unexpected(name: &str, expected: &str, got: Value<'_>) -> Error {
    Error::invalid(format!(
        "parameter '{name}': expected {expected}, got {got}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<P: Parameters>(name: &str, value: Value<'_>) -> Result<P, String> {
        let mut parameters = P::default();
        match parameters.set(name, value) {
            Ok(()) => Ok(parameters),
            Err(error) => Err(error.public_message().to_owned()),
        }
    }

    #[test]
    fn a_timeout_is_any_whole_number_and_zero_is_none() {
        let timeout = |value| read::<RequestParameters>("timeout", value).map(|read| read.timeout);
        for value in [
            Value::Signed(1500),
            Value::Unsigned(1500),
            Value::Float(1500.0),
        ] {
            assert_eq!(timeout(value), Ok(Some(Duration::from_micros(1500))));
        }
        assert_eq!(timeout(Value::Signed(0)), Ok(None));
        assert_eq!(timeout(Value::Null), Ok(None));
        for value in [Value::Signed(-1), Value::Float(1.5), Value::Text("1")] {
            let message = format!(
                "parameter 'timeout': expected a whole number of microseconds, got {value}"
            );
            assert_eq!(timeout(value), Err(message));
        }
    }

    #[test]
    fn a_priority_is_any_whole_number_and_zero_is_none() {
        let priority =
            |value| read::<RequestParameters>("priority", value).map(|read| read.priority);
        for value in [Value::Signed(7), Value::Unsigned(7), Value::Float(7.0)] {
            assert_eq!(priority(value), Ok(Some(7)));
        }
        assert_eq!(priority(Value::Unsigned(u64::MAX)), Ok(Some(u32::MAX)));
        assert_eq!(priority(Value::Unsigned(0)), Ok(None));
        assert_eq!(priority(Value::Null), Ok(None));
        for value in [Value::Signed(-1), Value::Float(1.5), Value::List] {
            let message = format!("parameter 'priority': expected a whole number, got {value}");
            assert_eq!(priority(value), Err(message));
        }
    }

    #[test]
    fn what_has_no_effect_is_checked_and_what_is_unknown_passes() {
        let none = Ok(RequestParameters::default());
        for (name, value) in [
            ("sequence_id", Value::Unsigned(u64::MAX)),
            ("sequence_id", Value::Text("a")),
            ("sequence_start", Value::Bool(true)),
            ("sequence_end", Value::Bool(false)),
            ("content_type", Value::Text("np")),
            ("anything", Value::Object),
        ] {
            assert_eq!(read::<RequestParameters>(name, value), none, "{name}");
        }
        for (name, value, message) in [
            (
                "sequence_id",
                Value::Bool(true),
                "parameter 'sequence_id': expected a whole number or a string, got true",
            ),
            (
                "sequence_start",
                Value::Unsigned(1),
                "parameter 'sequence_start': expected true or false, got 1",
            ),
            (
                "headers",
                Value::Object,
                "parameter 'headers' is not supported; send them as the request's own headers",
            ),
        ] {
            let refused = Err(message.to_owned());
            assert_eq!(read::<RequestParameters>(name, value), refused);
        }
    }

    #[test]
    fn shared_memory_is_refused() {
        let message = "parameter 'shared_memory_region': shared memory is not supported; send the tensor in the request";
        let region = ("shared_memory_region", Value::Text("r"));
        assert_eq!(
            read::<InputParameters>(region.0, region.1),
            Err(message.to_owned())
        );
        assert_eq!(
            read::<OutputParameters>(region.0, region.1),
            Err(message.to_owned())
        );
    }

    #[test]
    fn no_classes_is_no_classification() {
        let classes = |value| read::<OutputParameters>("classification", value);
        let none = OutputParameters::default();
        assert_eq!(classes(Value::Unsigned(0)), Ok(none.clone()));
        let three = NonZeroUsize::new(3);
        let expected = OutputParameters {
            classes: three,
            ..none
        };
        assert_eq!(classes(Value::Signed(3)), Ok(expected));
    }
}
