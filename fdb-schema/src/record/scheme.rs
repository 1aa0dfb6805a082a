//! How a stripe is made redundant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::Shown;

/// Which code turns data fragments into parity. Recorded with every blob, so that each stays readable for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErasureCode {
    /// Systematic GF(2^8), polynomial 0x11d, Vandermonde matrix as Backblaze and klauspost lay it out.
    Gf256,
    /// `reed-solomon-novelpoly`: GF(2^16), interleaved, not range-local.
    Novelpoly,
}

/// How a stripe is made redundant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// `copies` whole copies.
    Replicated { copies: u8 },
    /// `data` + `parity` fragments, any `data` of which suffice.
    Rs { data: u8, parity: u8, code: ErasureCode },
}

impl Scheme {
    /// Fragments that suffice to read a stripe.
    pub fn data(self) -> usize {
        match self {
            Self::Replicated { .. } => 1,
            Self::Rs { data, .. } => data.into(),
        }
    }

    /// Fragments a stripe has in all.
    pub fn width(self) -> usize {
        match self {
            Self::Replicated { copies } => copies.into(),
            Self::Rs { data, parity, .. } => usize::from(data) + usize::from(parity),
        }
    }

    /// Fragments a stripe can lose and still be read: the `m` of the invariants.
    pub fn parity(self) -> usize {
        self.width() - self.data()
    }
}

/// A text that names no scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a scheme: want `8+4`, `8+4/novelpoly` or `replicated(3)`, at most 255 fragments in all", Shown(.0))]
pub struct SchemeError(pub String);

impl FromStr for Scheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, SchemeError> {
        let wrong = || SchemeError(text.chars().take(64).collect());
        if let Some(copies) = text.strip_prefix("replicated(").and_then(|rest| rest.strip_suffix(')')) {
            let copies: u8 = copies.parse().map_err(|_| wrong())?;
            return if copies == 0 { Err(wrong()) } else { Ok(Self::Replicated { copies }) };
        }
        let (numbers, code) = match text.split_once('/') {
            None => (text, ErasureCode::Gf256),
            Some((numbers, "gf256")) => (numbers, ErasureCode::Gf256),
            Some((numbers, "novelpoly")) => (numbers, ErasureCode::Novelpoly),
            Some(_) => return Err(wrong()),
        };
        let (data, parity) = numbers.split_once('+').ok_or_else(wrong)?;
        let (data, parity): (u8, u8) = (data.parse().map_err(|_| wrong())?, parity.parse().map_err(|_| wrong())?);
        if data == 0 || parity == 0 || u16::from(data) + u16::from(parity) > 255 {
            return Err(wrong());
        }
        Ok(Self::Rs { data, parity, code })
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicated { copies } => write!(f, "replicated({copies})"),
            Self::Rs { data, parity, code: ErasureCode::Gf256 } => write!(f, "{data}+{parity}"),
            Self::Rs { data, parity, code: ErasureCode::Novelpoly } => write!(f, "{data}+{parity}/novelpoly"),
        }
    }
}
