//! Finds the elements of a tensor among the keys of an operator.

use std::collections::HashMap;
use std::hash::Hash;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::host::{output, slice};

/// Keys of one kind, each with its position.
#[derive(Debug)]
pub enum Index {
    Integers(HashMap<i64, usize>),
    /// By the bits of the FP64 value, of which zero and NaN have one each.
    Floats(HashMap<u64, usize>),
    Texts(HashMap<String, usize>),
}

/// Which of two equal keys counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    FirstCounts,
    LastCounts,
}

impl Index {
    /// The index of these keys.
    pub fn new(keys: &Tensor, duplicates: Duplicates) -> TractResult<Index> {
        Ok(match keys.datum_type() {
            DatumType::I16 | DatumType::I32 | DatumType::I64 => {
                let keys = keys.cast_to::<i64>()?;
                Index::Integers(positions(slice::<i64>(&keys)?.iter().copied(), duplicates))
            }
            DatumType::F32 | DatumType::F64 => {
                let keys = keys.cast_to::<f64>()?;
                let bits = slice::<f64>(&keys)?.iter().map(|key| bits(*key));
                Index::Floats(positions(bits, duplicates))
            }
            DatumType::String => Index::Texts(positions(
                slice::<String>(keys)?.iter().cloned(),
                duplicates,
            )),
            other => bail!("keys of type {other:?} are not supported"),
        })
    }

    /// Makes NaN unknown.
    pub fn forget_nan(&mut self) {
        if let Index::Floats(index) = self {
            index.remove(&bits(f64::NAN));
        }
    }

    /// The position of each element's key; `None` for unknown ones. Floats are cut to whole numbers where those are the
    /// keys.
    pub fn find(&self, elements: &Tensor) -> TractResult<Vec<Option<usize>>> {
        use DatumType::{F32, F64, I16, I32, I64, String as Text};
        Ok(match (self, elements.datum_type()) {
            (Index::Integers(index), I16 | I32 | I64) => {
                let elements = elements.cast_to::<i64>()?;
                look_up(slice::<i64>(&elements)?, |element| index.get(element))
            }
            (Index::Integers(index), F32 | F64) => {
                let elements = elements.cast_to::<f64>()?;
                look_up(slice::<f64>(&elements)?, |element| {
                    index.get(&whole(*element)?)
                })
            }
            (Index::Floats(index), F32 | F64) => {
                let elements = elements.cast_to::<f64>()?;
                look_up(slice::<f64>(&elements)?, |element| {
                    index.get(&bits(*element))
                })
            }
            (Index::Texts(index), Text) => {
                look_up(slice::<String>(elements)?, |element| index.get(element))
            }
            (_, other) => bail!("elements of type {other:?} do not fit the keys"),
        })
    }
}

fn look_up<'i, T>(
    elements: &[T],
    position: impl Fn(&T) -> Option<&'i usize>,
) -> Vec<Option<usize>> {
    let positions = elements.iter().map(position);
    positions.map(|position| position.copied()).collect()
}

fn positions<K: Hash + Eq>(
    keys: impl Iterator<Item = K>,
    duplicates: Duplicates,
) -> HashMap<K, usize> {
    let mut positions = HashMap::new();
    for (position, key) in keys.enumerate() {
        let known = positions.entry(key).or_insert(position);
        if duplicates == Duplicates::LastCounts {
            *known = position;
        }
    }
    positions
}

fn bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        (value + 0.0).to_bits()
    }
}

/// The whole part; `None` where an integer cannot hold it.
fn whole(value: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    (-BEYOND..BEYOND).contains(&value).then_some(value as i64)
}

/// The values at these positions; the last one where there is none.
pub fn pick_or_last(
    values: &Tensor,
    positions: &[Option<usize>],
    shape: &[usize],
) -> TractResult<TValue> {
    fn of<T: Datum>(
        values: &Tensor,
        positions: &[Option<usize>],
        shape: &[usize],
    ) -> TractResult<TValue> {
        let values = slice::<T>(values)?;
        let default = values.len().checked_sub(1).context("there are no values")?;
        let picked = positions
            .iter()
            .map(|position| values[position.unwrap_or(default)].clone());
        output(shape, picked.collect())
    }
    dispatch_datum!(of(values.datum_type())(values, positions, shape))
}
