//! Figures over interleaved rounds.

/// The middle value, of an even number the lower of the middle two; 0 of none. A round in which the machine did something
/// else does not move it.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Where the middle half of the values lies: a quarter of them is below it, and a quarter above.
#[must_use]
pub fn middle_half(values: &[f64]) -> (f64, f64) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    (at(quarter), at(values.len().saturating_sub(quarter + 1)))
}

/// Where the median of ever more such values would lie, with 95 % confidence: whatever their distribution, each value is as
/// likely above it as below. Of fewer than six values it is their whole range, which is less sure.
#[must_use]
pub fn confidence(values: &[f64]) -> (f64, f64) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    // The binomial distribution's normal approximation: 1.96 standard deviations of half the root of the count.
    let below = (values.len() as f64 / 2.0 - 0.98 * (values.len() as f64).sqrt()).floor().max(1.0) as usize - 1;
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    (at(below), at(values.len().saturating_sub(below + 1)))
}

/// The place of each of `count` subjects in a round: over `2 × count` rounds each is equally often at every place, and
/// equally often before and behind its neighbours.
pub fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    let shift = round / 2;
    (0..count).map(move |turn| {
        let turn = if round.is_multiple_of(2) { turn } else { count - 1 - turn };
        (turn + shift) % count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_half_leaves_a_quarter_on_each_side() {
        assert_eq!(middle_half(&[8.0, 1.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0]), (3.0, 6.0));
        assert_eq!(middle_half(&[2.0]), (2.0, 2.0));
        assert_eq!(middle_half(&[]), (0.0, 0.0));
    }

    #[test]
    fn the_median_is_known_better_from_more_values() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(confidence(&hundred), (40.0, 61.0));
        assert_eq!(confidence(&[3.0, 1.0, 2.0]), (1.0, 3.0));
        assert_eq!(confidence(&[]), (0.0, 0.0));
    }

    #[test]
    fn everybody_is_equally_often_at_every_place() {
        for count in 1..6 {
            let mut places = vec![vec![0; count]; count];
            for round in 0..2 * count {
                for (place, subject) in order(round, count).enumerate() {
                    places[subject][place] += 1;
                }
            }
            assert!(places.iter().flatten().all(|times| *times == 2), "{places:?}");
        }
        assert_eq!(order(0, 3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(order(1, 3).collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 1.0);
        assert_eq!(median([]), 0.0);
    }
}
