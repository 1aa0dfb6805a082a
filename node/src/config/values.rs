//! Values as people write them in a configuration file: sizes with a unit, periods with a unit, schemes.

use std::{fmt, str::FromStr, time::Duration};

use cairn_schema::{record::Scheme, text::Shown};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A text that is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a {what}: write {want}", Shown(text))]
pub(crate) struct ValueError {
    text: String,
    what: &'static str,
    want: &'static str,
}

impl ValueError {
    fn new(text: &str, what: &'static str, want: &'static str) -> Self {
        Self { text: text.chars().take(64).collect(), what, want }
    }
}

/// A number of bytes: `"64 MiB"`, `"4 TB"` or a plain integer, as which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl Size {
    pub(crate) const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
    pub(crate) const fn kib(count: u64) -> Self {
        Self(count << 10)
    }
    pub(crate) const fn gib(count: u64) -> Self {
        Self(count << 30)
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new(text, "size", "a whole number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB");
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number.checked_mul(*factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        for (name, factor) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if fits(factor) {
                return write!(f, "{} {name}", self.0 / factor);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A span of time: `"250 ms"`, `"30 s"`, `"10 min"`, `"6 h"`, `"7 d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(pub Duration);

const PERIOD_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Period {
    pub(crate) const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
    pub(crate) const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for Period {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new(text, "period", "a whole number with ms, s, min, h or d");
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        let (_, factor) = PERIOD_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number.checked_mul(*factor).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (name, factor) in PERIOD_UNITS.iter().rev() {
            let factor = u128::from(*factor);
            if ms >= factor && ms.is_multiple_of(factor) {
                return write!(f, "{} {name}", ms / factor);
            }
        }
        write!(f, "{ms} ms")
    }
}

/// A scheme in its own words: `"8+4"`, `"8+4/novelpoly"`, `"replicated(3)"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SchemeText(pub Scheme);

impl<'de> Deserialize<'de> for SchemeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 MiB\" or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size(number))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
                u64::try_from(number).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// "12 MiB" or "12MiB" as (12, "MiB"); None without digits or over 64 bits.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text.get(..digits)?.parse().ok()?;
    Some((number, text.get(digits..)?.trim_start()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_and_periods_are_read_with_their_units() {
        for (text, bytes) in [("0", 0), ("17", 17), ("64 KiB", 65_536), ("1MiB", 1 << 20), ("4 TB", 4_000_000_000_000)]
        {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for (text, ms) in [("250 ms", 250), ("30s", 30_000), ("10 min", 600_000), ("7 d", 604_800_000)] {
            assert_eq!(text.parse::<Period>().unwrap().0.as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in ["", "MiB", "-1", "1.5 GiB", "12 parsecs", "99999999999999999999", "18446744073709551615 KiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["", "5", "s", "1 week", "18446744073709551615 d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for bytes in [0, 1, 1024, 1 << 20, 5 << 30, 1_000_001] {
            assert_eq!(Size(bytes).to_string().parse::<Size>().unwrap(), Size(bytes));
        }
        for ms in [0, 1, 250, 1_000, 90_000, 86_400_000] {
            assert_eq!(Period::millis(ms).to_string().parse::<Period>().unwrap(), Period::millis(ms));
        }
    }
}
