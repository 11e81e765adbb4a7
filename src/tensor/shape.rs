//! Concrete shapes whose element count is known to fit in memory arithmetic.

use std::fmt;

use crate::error::{Error, Result};

/// A tensor's dimensions. The product of the non-zero ones fits in an `isize`, so no later step can overflow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: Vec<usize>,
}

impl Shape {
    /// A checked shape; fails when the element count overflows.
    pub fn new(dims: Vec<usize>) -> Result<Shape> {
        let product = dims
            .iter()
            .filter(|&&dim| dim != 0)
            .try_fold(1usize, |total, &dim| total.checked_mul(dim));
        match product {
            Some(elements) if isize::try_from(elements).is_ok() => Ok(Shape { dims }),
            _ => Err(Error::too_large(format!(
                "shape {} has more elements than can be addressed",
                Dims(&dims)
            ))),
        }
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// How many elements a tensor of this shape has; 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Dims(&self.dims).fmt(f)
    }
}

/// Writes dimensions as `[2,3]`, the way that requests and answers spell them.
pub struct Dims<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for Dims<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            dim.fmt(f)?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_an_error_even_beside_a_zero() {
        assert!(Shape::new(vec![1 << 40, 1 << 40]).is_err());
        assert!(Shape::new(vec![0, 1 << 40, 1 << 40]).is_err());
        assert!(Shape::new(vec![usize::MAX]).is_err());
    }

    #[test]
    fn scalars_have_one_element_and_empty_shapes_none() {
        assert_eq!(Shape::default().elements(), 1);
        assert_eq!(Shape::new(vec![0, 4]).expect("small").elements(), 0);
        assert_eq!(Shape::new(vec![2, 3]).expect("small").to_string(), "[2,3]");
    }
}
