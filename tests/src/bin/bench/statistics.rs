//! Many values in a few numbers.

use serde::{Deserialize, Serialize};

/// What is told of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// How many values.
    pub(crate) count: usize,
    /// The lowest.
    pub(crate) lowest: f64,
    /// The one in the middle.
    pub(crate) median: f64,
    /// The one that 99 of 100 do not exceed.
    pub(crate) p99: f64,
}

impl Summary {
    /// `None` for no values.
    pub(crate) fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            count: sorted.len(),
            lowest: *sorted.first()?,
            median: median(&sorted)?,
            p99: nearest_rank(&sorted, 99)?,
        })
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The lowest value that `percent` of all do not exceed.
fn nearest_rank(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_of_few_and_many() {
        assert_eq!(Summary::of(&[]), None);
        let one = Summary { count: 1, lowest: 7.0, median: 7.0, p99: 7.0 };
        assert_eq!(Summary::of(&[7.0]), Some(one));
        let four = Summary { count: 4, lowest: 1.0, median: 2.5, p99: 4.0 };
        assert_eq!(Summary::of(&[4.0, 1.0, 3.0, 2.0]), Some(four));
        let many: Vec<f64> = (1..=200).map(f64::from).collect();
        let many = Summary::of(&many);
        assert_eq!(many, Some(Summary { count: 200, lowest: 1.0, median: 100.5, p99: 198.0 }));
    }
}
