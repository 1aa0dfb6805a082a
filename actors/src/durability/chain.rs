//! The rate at which a chain of states in continuous time comes to its end.

/// States of which the first is whole, with rates between them, and from each to the end.
pub(super) struct Chain {
    /// From and to; the diagonal is not read.
    rates: Vec<Vec<f64>>,
    /// To the end.
    ends: Vec<f64>,
}

impl Chain {
    pub(super) fn new(states: usize) -> Self {
        Self { rates: vec![vec![0.0; states]; states], ends: vec![0.0; states] }
    }

    pub(super) fn add(&mut self, from: usize, to: usize, rate: f64) {
        self.rates[from][to] += rate;
    }

    pub(super) fn add_end(&mut self, from: usize, rate: f64) {
        self.ends[from] += rate;
    }

    /// Ends for each unit of time, of a chain that begins anew as whole whenever it has ended: one over the mean time
    /// to the end. Every state must lead to the first.
    ///
    /// The rates differ by ten orders of magnitude and more, so the stationary distribution is found without a single
    /// subtraction: Grassmann, Taksar and Heyman, "Regenerative Analysis and Steady State Distributions for Markov
    /// Chains" (1985).
    pub(super) fn rate_of_ends(mut self) -> f64 {
        let states = self.ends.len();
        let rates = &mut self.rates;
        for (row, end) in rates.iter_mut().zip(&self.ends).skip(1) {
            row[0] += end;
        }
        for last in (1..states).rev() {
            let out: f64 = rates[last][..last].iter().sum();
            let (before, after) = rates.split_at_mut(last);
            for row in before.iter_mut() {
                row[last] /= out;
                let share = row[last];
                for (to, rate) in row[..last].iter_mut().enumerate() {
                    *rate += share * after[0][to];
                }
            }
        }
        let mut weights = vec![1.0; states];
        for state in 1..states {
            weights[state] = (0..state).map(|from| weights[from] * rates[from][state]).sum();
        }
        let all: f64 = weights.iter().sum();
        weights.iter().zip(&self.ends).map(|(weight, end)| weight * end).sum::<f64>() / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn a_state_alone_ends_at_its_own_rate() {
        let mut chain = Chain::new(1);
        chain.add_end(0, 0.25);
        near(chain.rate_of_ends(), 0.25);
    }

    /// Two copies: the mean time to the loss is (3λ + μ) / 2λ², as books have it (Patterson, Gibson and Katz, 1988,
    /// without their approximation).
    #[test]
    fn two_copies_are_lost_as_books_have_it() {
        for (failure, repair) in [(1e-3, 1.0), (1e-9, 10.0), (0.5, 0.25)] {
            let mut chain = Chain::new(2);
            chain.add(0, 1, 2.0 * failure);
            chain.add(1, 0, repair);
            chain.add_end(1, failure);
            near(chain.rate_of_ends(), 2.0 * failure * failure / (3.0 * failure + repair));
        }
    }

    /// The mean time of three states in a row, by first steps.
    #[test]
    fn three_states_in_a_row_end_as_first_steps_say() {
        let (a, b, c, back, far) = (2e-6, 3e-6, 5e-6, 0.5, 0.125);
        let mut chain = Chain::new(3);
        chain.add(0, 1, a);
        chain.add(1, 2, b);
        chain.add(1, 0, back);
        chain.add(2, 1, far);
        chain.add_end(2, c);
        // t0 = 1/a + t1; t1 = (1 + back t0 + b t2) / (back + b); t2 = (1 + far t1) / (far + c).
        let (p, q) = (b / (back + b), far / (far + c));
        let fixed = (1.0 + back / a) / (back + b) + p / (far + c);
        let t1 = fixed / (1.0 - back / (back + b) - p * q);
        let mean = 1.0 / a + t1;
        let found = 1.0 / chain.rate_of_ends();
        assert!((found / mean - 1.0).abs() < 1e-3, "{found} is not {mean}: it is the second that cancels");
    }
}
