//! Times and sizes as scenario files write them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// `250 ms`, `10 s`, `5 min`, `2 h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// `0 B`, `64 KiB`, `5 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

fn count(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (text[..digits].parse::<u64>().ok()?, text[digits..].trim());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

impl Span {
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(crate) fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let millis = count(&text, &TIMES)
            .ok_or_else(|| format!("{text:?} is no time: write a whole number and ms, s, min or h"))?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.millis();
        let (name, factor) = TIMES.iter().rev().find(|(_, factor)| millis.is_multiple_of(*factor)).unwrap_or(&TIMES[0]);
        match millis {
            0 => write!(f, "0 s"),
            _ => write!(f, "{} {name}", millis / factor),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = count(&text, &SIZES);
        bytes.map(Self).ok_or_else(|| format!("{text:?} is no size: write a whole number and B, KiB, MiB or GiB"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) = SIZES.iter().rev().find(|(_, factor)| self.0.is_multiple_of(*factor)).unwrap_or(&SIZES[0]);
        match self.0 {
            0 => write!(f, "0 B"),
            bytes => write!(f, "{} {name}", bytes / factor),
        }
    }
}
