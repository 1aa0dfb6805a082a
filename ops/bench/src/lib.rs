//! What the benchmarks share: the table they print.

use std::time::Duration;

/// A rate for people: whole numbers with thousands separated.
pub fn per_second(count: u64, took: Duration) -> String {
    thousands((count as f64 / took.as_secs_f64().max(1e-9)).round() as u64)
}

pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(per_second(10, Duration::from_millis(500)), "20");
    }
}
