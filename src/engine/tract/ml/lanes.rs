//! Sums over two lists, in lanes that the compiler can keep in vector registers.

const LANES: usize = 8;

/// The sum of the products.
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    sum(left, right, |left, right| left * right)
}

/// The sum of the squared differences.
pub fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    sum(left, right, |left, right| (left - right) * (left - right))
}

#[inline(always)]
fn sum(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += term(left[lane], right[lane]);
        }
    }
    let rest = left_rest.iter().zip(right_rest);
    let rest = rest.map(|(left, right)| term(*left, *right));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_every_length_are_exact_for_small_whole_numbers() {
        for length in 0..40 {
            let left: Vec<f32> = (0..length).map(|at| (at * 7 % 11) as f32 - 5.0).collect();
            let right: Vec<f32> = (0..length).map(|at| (at * 5 % 13) as f32 - 6.0).collect();
            let pairs = || left.iter().zip(&right);
            let products: f32 = pairs().map(|(l, r)| l * r).sum();
            assert_eq!(dot(&left, &right), products);
            let squares: f32 = pairs().map(|(l, r)| (l - r).powi(2)).sum();
            assert_eq!(squared_distance(&left, &right), squares);
        }
    }
}
