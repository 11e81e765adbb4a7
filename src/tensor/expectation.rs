//! How far an output may lie from the one that a model's owner expects, and where it lies further.

use std::fmt::Display;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::difference::{LEAST_LARGEST, Precision};
use super::dtype::DataType;
use super::shape::Dims;
use super::value::{Element, Tensor};

/// The longest text that a difference quotes.
const MOST_CHARACTERS: usize = 40;

/// How far a fraction may lie from the expected one: `absolute + relative * |expected|`, each element for itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Tolerance {
    pub absolute: f64,
    pub relative: f64,
}

/// As an owner writes it: one number for both, or either.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, or { absolute = a number, relative = a number }"
)]
enum Written {
    Both(f64),
    Each(Each),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Each {
    #[serde(default)]
    absolute: f64,
    #[serde(default)]
    relative: f64,
}

impl TryFrom<Written> for Tolerance {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Each { absolute, relative } = match written {
            Written::Both(both) => Each {
                absolute: both,
                relative: both,
            },
            Written::Each(each) => each,
        };
        for number in [absolute, relative] {
            if !(number.is_finite() && number >= 0.0) {
                return Err(format!(
                    "expected a tolerance that is finite and not negative, got {number}"
                ));
            }
        }
        Ok(Tolerance { absolute, relative })
    }
}

/// What outputs are held to. Whole numbers, truths and text are exact, but for the steps of a quantised model.
#[derive(Debug, Clone, Copy)]
pub struct Margin {
    /// How coarsely the model computes, by which fractions may differ where no tolerance is given.
    pub precision: Precision,
    pub tolerance: Option<Tolerance>,
}

impl Margin {
    /// What is wrong with an output where something else was expected: its type, its shape, or the first element that
    /// lies too far away.
    pub fn check(&self, expected: &Tensor, got: &Tensor) -> Result<(), String> {
        let form = |tensor: &Tensor| format!("{} {}", tensor.dtype(), tensor.shape());
        let (expected_form, got_form) = (form(expected), form(got));
        if expected_form != got_form {
            return Err(format!("expected {expected_form}, got {got_form}"));
        }
        let found = match expected.dtype() {
            DataType::Fp16 => self.check_fractions::<f16>(expected, got),
            DataType::Bf16 => self.check_fractions::<bf16>(expected, got),
            DataType::Fp32 => self.check_fractions::<f32>(expected, got),
            DataType::Fp64 => self.check_fractions::<f64>(expected, got),
            DataType::Int8 => self.check_steps::<i8>(expected, got),
            DataType::UInt8 => self.check_steps::<u8>(expected, got),
            DataType::Int16 => check_whole::<i16>(expected, got),
            DataType::UInt16 => check_whole::<u16>(expected, got),
            DataType::Int32 => check_bounded::<i32>(expected, got, (i32::MIN, i32::MAX)),
            DataType::UInt32 => check_whole::<u32>(expected, got),
            DataType::Int64 => check_bounded::<i64>(expected, got, (i64::MIN, i64::MAX)),
            DataType::UInt64 => check_whole::<u64>(expected, got),
            DataType::Bool => {
                let truths =
                    |tensor: &Tensor| tensor.data().iter().map(|byte| *byte != 0).collect();
                compare(truths(expected), truths(got), |one, other| one == other)
            }
            DataType::Bytes => {
                let texts = |tensor: &Tensor| tensor.strings().map(quoted).collect();
                // What is cut off is compared as well.
                match expected.data() == got.data() {
                    true => None,
                    false => {
                        compare::<String>(texts(expected), texts(got), |one, other| one == other)
                            .or_else(|| Some(Unlike::beyond_what_is_shown()))
                    }
                }
            }
        };
        match found {
            None => Ok(()),
            Some(unlike) => Err(unlike.text(expected)),
        }
    }

    fn check_fractions<T: Element + Into<f64> + Display>(
        &self,
        expected: &Tensor,
        got: &Tensor,
    ) -> Option<Unlike> {
        let all = expected.elements::<T>();
        let finite = all.iter().map(|one| (*one).into().abs());
        let largest = finite
            .filter(|one| one.is_finite())
            .fold(LEAST_LARGEST, f64::max);
        let by_precision = self.precision.tolerance(T::DTYPE) * largest;
        let allowed = |expected: f64| match self.tolerance {
            Some(Tolerance { absolute, relative }) => absolute + relative * expected.abs(),
            None => by_precision,
        };
        let is_alike = |one: &T, other: &T| {
            let (one, other): (f64, f64) = ((*one).into(), (*other).into());
            match one.is_finite() && other.is_finite() {
                true => (one - other).abs() <= allowed(one),
                false => one == other || (one.is_nan() && other.is_nan()),
            }
        };
        let found = compare(all.into_owned(), got.elements::<T>().into_owned(), is_alike)?;
        let at = found.first;
        let one: f64 = expected.elements::<T>()[at].into();
        Some(Unlike {
            allowed: Some(allowed(one)).filter(|allowed| *allowed > 0.0 && one.is_finite()),
            ..found
        })
    }

    fn check_steps<T: Element + Into<f64> + Display>(
        &self,
        expected: &Tensor,
        got: &Tensor,
    ) -> Option<Unlike> {
        let steps = self.precision.tolerance(T::DTYPE);
        let elements = |tensor: &Tensor| tensor.elements::<T>().into_owned();
        compare(elements(expected), elements(got), |one, other| {
            ((*one).into() - (*other).into()).abs() <= steps
        })
    }
}

fn check_whole<T: Element + PartialEq + Display>(
    expected: &Tensor,
    got: &Tensor,
) -> Option<Unlike> {
    let elements = |tensor: &Tensor| tensor.elements::<T>().into_owned();
    compare(elements(expected), elements(got), |one, other| one == other)
}

/// A fraction that is too large for a whole number becomes the least or the largest, as the machine and the engine have
/// it: ONNX leaves that open.
fn check_bounded<T: Element + PartialEq + Display>(
    expected: &Tensor,
    got: &Tensor,
    (least, largest): (T, T),
) -> Option<Unlike> {
    let elements = |tensor: &Tensor| tensor.elements::<T>().into_owned();
    let bounded = |number: T| if number == least { largest } else { number };
    compare(elements(expected), elements(got), |one, other| {
        bounded(*one) == bounded(*other)
    })
}

/// The elements that are not what was expected.
struct Unlike {
    first: usize,
    expected: String,
    got: String,
    count: usize,
    /// How far the first may lie from what is expected, where that is not nothing.
    allowed: Option<f64>,
}

impl Unlike {
    /// Texts that differ only where they are too long to be quoted.
    fn beyond_what_is_shown() -> Unlike {
        Unlike {
            first: 0,
            expected: "another text".to_owned(),
            got: "one that begins alike".to_owned(),
            count: 1,
            allowed: None,
        }
    }

    fn text(&self, of: &Tensor) -> String {
        let Unlike {
            first,
            expected,
            got,
            count,
            allowed,
        } = self;
        let dims = of.shape().dims();
        let place = place(*first, dims);
        let all = of.shape().elements();
        let allowed = match allowed {
            Some(allowed) => format!(", {allowed:.1e} apart is allowed"),
            None => String::new(),
        };
        format!(
            "element {}: expected {expected}, got {got}{allowed} ({count} of {all} elements differ)",
            Dims(&place)
        )
    }
}

/// Where the element of this number stands in a tensor.
fn place(element: usize, dims: &[usize]) -> Vec<usize> {
    let mut rest = element;
    let mut place: Vec<usize> = dims
        .iter()
        .rev()
        .map(|length| {
            let at = rest % length;
            rest /= length;
            at
        })
        .collect();
    place.reverse();
    place
}

fn compare<T: Display>(
    expected: Vec<T>,
    got: Vec<T>,
    is_alike: impl Fn(&T, &T) -> bool,
) -> Option<Unlike> {
    let pairs = expected.iter().zip(&got).enumerate();
    let mut unlike = pairs.filter(|(_, (one, other))| !is_alike(one, other));
    let (first, (expected, got)) = unlike.next()?;
    Some(Unlike {
        first,
        expected: expected.to_string(),
        got: got.to_string(),
        count: 1 + unlike.count(),
        allowed: None,
    })
}

fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let shown: String = text.chars().take(MOST_CHARACTERS).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::shape::Shape;

    fn tensor<T: Element>(dims: &[usize], elements: &[T]) -> Tensor {
        let shape = Shape::new(dims.to_vec()).expect("small shapes fit");
        Tensor::from_vec(shape, elements.to_vec()).expect("the length fits")
    }

    fn texts(texts: &[&str]) -> Tensor {
        let shape = Shape::new(vec![texts.len()]).expect("small shapes fit");
        Tensor::from_strings(shape, texts).expect("the length fits")
    }

    fn within(tolerance: Option<Tolerance>) -> Margin {
        Margin {
            precision: Precision::Single,
            tolerance,
        }
    }

    fn check(expected: &Tensor, got: &Tensor) -> Result<(), String> {
        within(None).check(expected, got)
    }

    #[test]
    fn the_first_element_that_differs_is_named_where_it_stands() {
        let expected = tensor(&[2, 2], &[1f32, 2.0, 3.0, 4.0]);
        let got = tensor(&[2, 2], &[1f32, 2.0, 3.5, 4.5]);
        assert_eq!(
            check(&expected, &got).expect_err("they differ"),
            "element [1,0]: expected 3, got 3.5, 4.0e-4 apart is allowed (2 of 4 elements differ)"
        );
    }

    #[test]
    fn a_tolerance_is_kept_to_its_edge() {
        let margin = within(Some(Tolerance {
            absolute: 0.25,
            relative: 0.5,
        }));
        let expected = tensor(&[1], &[2f64]);
        // 0.25 and half of 2.
        assert_eq!(margin.check(&expected, &tensor(&[1], &[3.25f64])), Ok(()));
        assert_eq!(margin.check(&expected, &tensor(&[1], &[0.75f64])), Ok(()));
        let above = tensor(&[1], &[3.25f64 + 1e-9]);
        assert!(margin.check(&expected, &above).is_err());
    }

    #[test]
    fn a_tolerance_of_nothing_is_exact() {
        let exact = within(Some(Tolerance {
            absolute: 0.0,
            relative: 0.0,
        }));
        let one = tensor(&[1], &[0.1f32]);
        assert_eq!(exact.check(&one, &one), Ok(()));
        let next = tensor(&[1], &[0.1f32.next_up()]);
        assert_eq!(
            exact.check(&one, &next).expect_err("they differ"),
            "element [0]: expected 0.1, got 0.10000001 (1 of 1 elements differ)"
        );
    }

    #[test]
    fn whole_numbers_truths_and_text_are_exact_whatever_the_tolerance() {
        let margin = within(Some(Tolerance {
            absolute: 9.0,
            relative: 9.0,
        }));
        let found = margin.check(&tensor(&[2], &[1i64, 2]), &tensor(&[2], &[1i64, 3]));
        assert_eq!(
            found.expect_err("they differ"),
            "element [1]: expected 2, got 3 (1 of 2 elements differ)"
        );
        assert!(
            margin
                .check(&tensor(&[1], &[1u8]), &tensor(&[1], &[2u8]))
                .is_err()
        );
        let found = margin.check(&texts(&["a", "b"]), &texts(&["a", "c"]));
        assert_eq!(
            found.expect_err("they differ"),
            "element [1]: expected \"b\", got \"c\" (1 of 2 elements differ)"
        );
        let truths = |bytes: &'static [u8]| {
            let shape = Shape::new(vec![bytes.len()]).expect("small shapes fit");
            Tensor::new(DataType::Bool, shape, bytes.into()).expect("they are truths")
        };
        let found = margin.check(&truths(&[0, 1]), &truths(&[1, 1]));
        assert_eq!(
            found.expect_err("they differ"),
            "element [0]: expected false, got true (1 of 2 elements differ)"
        );
    }

    #[test]
    fn long_texts_are_compared_to_their_end() {
        let long = |end: &str| texts(&[&format!("{}{end}", "x".repeat(100))]);
        assert_eq!(check(&long("a"), &long("a")), Ok(()));
        assert!(check(&long("a"), &long("b")).is_err());
    }

    #[test]
    fn what_is_no_number_or_infinite_must_be_so() {
        let odd = tensor(&[3], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(check(&odd, &odd), Ok(()));
        for (at, other) in [(0, 1.0), (1, f32::NAN), (2, f32::INFINITY)] {
            let mut elements = odd.elements::<f32>().into_owned();
            elements[at] = other;
            let found = check(&odd, &tensor(&[3], &elements));
            let found = found.expect_err("they differ");
            assert!(found.starts_with(&format!("element [{at}]: ")), "{found}");
        }
    }

    #[test]
    fn another_type_or_shape_is_told() {
        let found = check(&tensor(&[1, 2], &[1f32, 2.0]), &tensor(&[2], &[1f32, 2.0]));
        assert_eq!(found, Err("expected FP32 [1,2], got FP32 [2]".to_owned()));
    }

    #[test]
    fn a_tolerance_is_one_number_or_two_and_never_negative() {
        let read = serde_json::from_str::<Tolerance>;
        let both = read("0.5").expect("a number");
        assert_eq!((both.absolute, both.relative), (0.5, 0.5));
        let one = read(r#"{"absolute": 1}"#).expect("an object");
        assert_eq!((one.absolute, one.relative), (1.0, 0.0));
        for wrong in ["-1", r#"{"relative": -1}"#, r#"{"rel": 1}"#, r#""1""#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
