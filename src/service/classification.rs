//! The classification extension: an output's best classes in the place of its numbers.
//!
//! As Triton has it: where the first dimension stands for rows each row has its own classes, else the whole tensor
//! has; all other dimensions are flattened. A class is written as `value:index`, with `:label` where its name is known.

use std::cmp::Ordering;
use std::num::NonZeroUsize;

use half::{bf16, f16};

use crate::error::Result;
use crate::tensor::dtype::DataType;
use crate::tensor::shape::Shape;
use crate::tensor::value::{Element, Tensor};

/// Whether an output of this type has values that can be put in order.
pub fn is_classifiable(dtype: DataType) -> bool {
    !matches!(dtype, DataType::Bool | DataType::Bytes)
}

/// How the elements of an output are classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// `None` where the whole tensor is one row.
    rows: Option<usize>,
    /// In each row.
    pub count: usize,
}

impl Classes {
    /// The classes of an output of this shape; `has_rows` says whether its first dimension stands for rows.
    pub fn of(shape: &Shape, has_rows: bool) -> Classes {
        match shape.dims() {
            [rows, classes @ ..] if has_rows => Classes {
                rows: Some(*rows),
                count: classes.iter().product(),
            },
            classes => Classes {
                rows: None,
                count: classes.iter().product(),
            },
        }
    }

    /// The best classes of each row of `output`, at most so many, as a `BYTES` tensor.
    pub fn best(
        self,
        output: &Tensor,
        most: NonZeroUsize,
        labels: Option<&[String]>,
    ) -> Result<Tensor> {
        let kept = most.get().min(self.count);
        let names = match output.dtype() {
            DataType::UInt8 => self.names::<u8>(output, kept, labels),
            DataType::UInt16 => self.names::<u16>(output, kept, labels),
            DataType::UInt32 => self.names::<u32>(output, kept, labels),
            DataType::UInt64 => self.names::<u64>(output, kept, labels),
            DataType::Int8 => self.names::<i8>(output, kept, labels),
            DataType::Int16 => self.names::<i16>(output, kept, labels),
            DataType::Int32 => self.names::<i32>(output, kept, labels),
            DataType::Int64 => self.names::<i64>(output, kept, labels),
            DataType::Fp16 => self.names::<f16>(output, kept, labels),
            DataType::Bf16 => self.names::<bf16>(output, kept, labels),
            DataType::Fp32 => self.names::<f32>(output, kept, labels),
            DataType::Fp64 => self.names::<f64>(output, kept, labels),
            // The request was refused before it ran; a model that answers another type than it declares is left alone.
            DataType::Bool | DataType::Bytes => return Ok(output.clone()),
        };
        let shape = Shape::new(self.rows.into_iter().chain([kept]).collect())?;
        Tensor::from_strings(shape, names)
    }

    fn names<T: Score>(
        self,
        output: &Tensor,
        kept: usize,
        labels: Option<&[String]>,
    ) -> Vec<String> {
        let scores = output.elements::<T>();
        let row = |row: usize| &scores[row * self.count..(row + 1) * self.count];
        let best = |row: &[T]| {
            let name = |index: usize| match labels.and_then(|labels| labels.get(index)) {
                Some(label) => format!("{}:{index}:{label}", row[index].text()),
                None => format!("{}:{index}", row[index].text()),
            };
            best_indices(row, kept)
                .into_iter()
                .map(name)
                .collect::<Vec<_>>()
        };
        (0..self.rows.unwrap_or(1))
            .flat_map(|at| best(row(at)))
            .collect()
    }
}

/// Where the greatest scores stand, in descending order; equals in their own order, NaN behind all numbers.
fn best_indices<T: Score>(row: &[T], kept: usize) -> Vec<usize> {
    let order = |a: &usize, b: &usize| {
        let (x, y) = (&row[*a], &row[*b]);
        let is_nan = |score: &T| score.partial_cmp(score).is_none();
        let descending = y
            .partial_cmp(x)
            .unwrap_or_else(|| is_nan(x).cmp(&is_nan(y)));
        descending.then(a.cmp(b))
    };
    let mut indices: Vec<usize> = (0..row.len()).collect();
    // Sorting all of a large row for a few of its classes would take longer than the model.
    if (1..row.len()).contains(&kept) {
        indices.select_nth_unstable_by(kept - 1, order);
    }
    indices.truncate(kept);
    indices.sort_unstable_by(order);
    indices
}

/// A value that classes are put in order by.
trait Score: Element + PartialOrd {
    /// As C's `%f` and `%d` have it.
    fn text(&self) -> String;
}

macro_rules! whole_scores {
    ($($whole:ty),*) => {
        $(impl Score for $whole {
            fn text(&self) -> String {
                self.to_string()
            }
        })*
    };
}

macro_rules! float_scores {
    ($($float:ty),*) => {
        $(impl Score for $float {
            fn text(&self) -> String {
                let value = f64::from(*self);
                match value.partial_cmp(&value) {
                    Some(Ordering::Equal) => format!("{value:.6}"),
                    _ => "nan".to_owned(),
                }
            }
        })*
    };
}

whole_scores!(u8, u16, u32, u64, i8, i16, i32, i64);
float_scores!(f16, bf16, f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    fn best<T: Element>(
        dims: &[usize],
        scores: Vec<T>,
        most: usize,
        labels: Option<&[String]>,
    ) -> (String, Vec<String>) {
        let shape = Shape::new(dims.to_vec()).expect("a small shape");
        let classes = Classes::of(&shape, dims.len() > 1);
        let output = Tensor::from_vec(shape, scores).expect("the count fits");
        let most = NonZeroUsize::new(most).expect("at least one");
        let best = classes.best(&output, most, labels).expect("few classes");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (best.shape().to_string(), best.strings().map(text).collect())
    }

    #[track_caller]
    fn check(got: (String, Vec<String>), shape: &str, names: &[&str]) {
        assert_eq!(
            (got.0.as_str(), got.1),
            (shape, names.iter().map(|name| (*name).to_owned()).collect())
        );
    }

    #[test]
    fn each_row_has_its_best_classes_in_descending_order() {
        let scores = vec![0.25f32, 0.5, 0.125, -1.0, f32::INFINITY, 2.0];
        check(
            best(&[2, 3], scores.clone(), 2, None),
            "[2,2]",
            &["0.500000:1", "0.250000:0", "inf:1", "2.000000:2"],
        );
        let labels = ["a", "b"].map(str::to_owned);
        check(
            best(&[1, 2, 3], scores, 1, Some(&labels)),
            "[1,1]",
            &["inf:4"],
        );
        check(
            best(&[2], vec![3i64, 7], 1, Some(&labels)),
            "[1]",
            &["7:1:b"],
        );
    }

    #[test]
    fn more_classes_than_there_are_is_all_of_them() {
        check(best(&[2], vec![1u8, 2], 9, None), "[2]", &["2:1", "1:0"]);
        check(best::<f32>(&[2, 0], vec![], 9, None), "[2,0]", &[]);
        check(best::<f32>(&[0, 3], vec![], 9, None), "[0,3]", &[]);
        check(best(&[], vec![1.5f64], 9, None), "[1]", &["1.500000:0"]);
    }

    #[test]
    fn ties_go_by_index_and_nan_comes_last() {
        let scores = vec![f32::NAN, 1.0, 2.0, 1.0, f32::NAN, 2.0];
        let all = [
            "2.000000:2",
            "2.000000:5",
            "1.000000:1",
            "1.000000:3",
            "nan:0",
            "nan:4",
        ];
        for most in 1..7 {
            let got = best(&[6], scores.clone(), most, None);
            check(got, &format!("[{most}]"), &all[..most]);
        }
    }

    #[test]
    fn values_are_rounded_as_c_rounds_them() {
        // Halves of the last digit go to the even one.
        check(
            best(&[2], vec![0.0078125f32, 0.0234375], 2, None),
            "[2]",
            &["0.023438:1", "0.007812:0"],
        );
        check(
            best(&[1], vec![bf16::from_f32(-0.5)], 1, None),
            "[1]",
            &["-0.500000:0"],
        );
    }
}
