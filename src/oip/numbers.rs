//! How one JSON scalar becomes one tensor element, and back.
//!
//! A scalar converts only without loss: an integer may fill a floating-point element, `2.0` an integer one, but
//! `1.5` not, nor `300` a `UINT8`. Decimal digits beyond an element's precision round to the nearest value, as
//! they do wherever JSON numbers are read; a finite number that would become infinite is refused.

use half::{bf16, f16};

use super::{NanForm, tokens};
use crate::tensor::value::Element;

/// The largest whole number up to which every one is exact in a JSON reader's double.
pub const EXACT: f64 = 9_007_199_254_740_992.0;

/// A scalar as the JSON parser hands it over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// NaN or an infinity that was written as a bare token.
    Token(f64),
    Null,
}

impl std::fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Unsigned(value) => value.fmt(f),
            Scalar::Signed(value) => value.fmt(f),
            Scalar::Float(value) => value.fmt(f),
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Token(_) => f.write_str("NaN or an infinity"),
            Scalar::Text(text) => {
                let shown: String = text.chars().take(32).collect();
                let more = if shown.len() < text.len() { "…" } else { "" };
                write!(f, "the string {shown:?}{more}")
            }
            Scalar::Null => f.write_str("null"),
        }
    }
}

/// An element that can be read from a JSON scalar.
pub trait FromJson: Sized {
    /// The element, unless that would lose something.
    fn from_json(scalar: Scalar<'_>) -> Option<Self>;
}

/// An element that can be written as JSON.
pub trait WriteJson {
    /// Appends the element.
    fn write_json(&self, out: &mut Vec<u8>, nan: NanForm);
}

/// A `BOOL` element: one byte, 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub struct Bool(pub u8);

impl Element for Bool {
    const DTYPE: crate::tensor::dtype::DataType = crate::tensor::dtype::DataType::Bool;
}

impl FromJson for Bool {
    fn from_json(scalar: Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Bool(value) => Some(Bool(value.into())),
            _ => None,
        }
    }
}

impl WriteJson for Bool {
    fn write_json(&self, out: &mut Vec<u8>, _: NanForm) {
        out.extend_from_slice(if self.0 == 0 { b"false" } else { b"true" });
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(impl FromJson for $integer {
            fn from_json(scalar: Scalar<'_>) -> Option<Self> {
                match scalar {
                    Scalar::Unsigned(value) => value.try_into().ok(),
                    Scalar::Signed(value) => value.try_into().ok(),
                    Scalar::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT => {
                        (value as i64).try_into().ok()
                    }
                    _ => None,
                }
            }
        }

        impl WriteJson for $integer {
            fn write_json(&self, out: &mut Vec<u8>, _: NanForm) {
                out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        })*
    };
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

fn double(scalar: Scalar<'_>) -> Option<f64> {
    match scalar {
        Scalar::Unsigned(value) => Some(value as f64),
        Scalar::Signed(value) => Some(value as f64),
        Scalar::Float(value) | Scalar::Token(value) => Some(value),
        Scalar::Text(text) => tokens::quoted(text),
        Scalar::Bool(_) | Scalar::Null => None,
    }
}

fn write_float(float: impl ryu::Float, class: f64, out: &mut Vec<u8>, nan: NanForm) {
    if class.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(float).as_bytes());
        return;
    }
    let token: &[u8] = match nan {
        NanForm::Null => b"null",
        NanForm::Token if class.is_nan() => b"NaN",
        NanForm::Token if class > 0.0 => b"Infinity",
        NanForm::Token => b"-Infinity",
    };
    out.extend_from_slice(token);
}

macro_rules! floats {
    ($($float:ty: $from:expr, $shown:ty);*) => {
        $(impl FromJson for $float {
            fn from_json(scalar: Scalar<'_>) -> Option<Self> {
                let value = double(scalar)?;
                let element: $float = $from(value);
                (element.is_finite() || !value.is_finite()).then_some(element)
            }
        }

        impl WriteJson for $float {
            fn write_json(&self, out: &mut Vec<u8>, nan: NanForm) {
                let shown = <$shown>::from(*self);
                write_float(shown, f64::from(shown), out, nan);
            }
        })*
    };
}

floats! {
    f16: f16::from_f64, f32;
    bf16: bf16::from_f64, f32;
    f32: |value| value as f32, f32;
    f64: |value| value, f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_convert_only_without_loss() {
        assert_eq!(u8::from_json(Scalar::Unsigned(255)), Some(255));
        assert_eq!(u8::from_json(Scalar::Unsigned(300)), None);
        assert_eq!(u8::from_json(Scalar::Signed(-1)), None);
        assert_eq!(i64::from_json(Scalar::Float(2.0)), Some(2));
        assert_eq!(i64::from_json(Scalar::Float(1.5)), None);
        assert_eq!(i64::from_json(Scalar::Float(1e300)), None);
        assert_eq!(i64::from_json(Scalar::Bool(true)), None);
        assert_eq!(u64::from_json(Scalar::Unsigned(u64::MAX)), Some(u64::MAX));
    }

    #[test]
    fn floats_take_integers_and_tokens_but_never_overflow() {
        assert_eq!(f32::from_json(Scalar::Signed(-3)), Some(-3.0));
        assert_eq!(
            f32::from_json(Scalar::Text("-Infinity")),
            Some(f32::NEG_INFINITY)
        );
        assert_eq!(f32::from_json(Scalar::Float(1e39)), None);
        assert_eq!(f16::from_json(Scalar::Float(70000.0)), None);
        assert_eq!(f32::from_json(Scalar::Text("1.0")), None);
        assert_eq!(f32::from_json(Scalar::Null), None);
    }

    #[test]
    fn floats_write_the_shortest_digits_that_read_back() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).expect("JSON is text")
        };
        assert_eq!(written(&|out| 5.1f32.write_json(out, NanForm::Null)), "5.1");
        assert_eq!(
            written(&|out| f32::NAN.write_json(out, NanForm::Null)),
            "null"
        );
        assert_eq!(
            written(&|out| f32::NEG_INFINITY.write_json(out, NanForm::Token)),
            "-Infinity"
        );
        assert_eq!(
            written(&|out| f16::from_f32(0.5).write_json(out, NanForm::Null)),
            "0.5"
        );
    }
}
