//! Stripes to fragments and back. Blocking work on bytes in memory: call it off the async threads for large stripes.
//!
//! Which code made a fragment is recorded in the blob's scheme, so every code here must stay readable for ever; the
//! tests hold the default one byte for byte against an independent implementation, and pin the bytes of both.

mod error;
mod gf256;
mod novelpoly;

use std::sync::Arc;

use bytes::Bytes;
use cairn_schema::record::{ErasureCode, Scheme};

pub use error::{CodecError, Fragment};

use crate::geometry;

/// The code of one scheme, its tables ready. Cheap to clone.
#[derive(Clone)]
pub struct Codec {
    scheme: Scheme,
    code: Arc<Code>,
}

enum Code {
    Replicated,
    Gf256(gf256::Gf256),
    Novelpoly(novelpoly::Novelpoly),
}

impl Codec {
    pub fn new(scheme: Scheme) -> Result<Self, CodecError> {
        if scheme.data() == 0 || scheme.width() > 255 {
            return Err(CodecError::Scheme { scheme, why: "want 1 to 255 fragments".into() });
        }
        let code = match scheme {
            Scheme::Replicated { .. } => Code::Replicated,
            Scheme::Rs { parity: 0, .. } => {
                return Err(CodecError::Scheme { scheme, why: "want at least one parity fragment".into() });
            }
            Scheme::Rs { code: ErasureCode::Gf256, .. } => Code::Gf256(gf256::Gf256::new(scheme)?),
            Scheme::Rs { code: ErasureCode::Novelpoly, .. } => Code::Novelpoly(novelpoly::Novelpoly::new(scheme)?),
        };
        Ok(Self { scheme, code: Arc::new(code) })
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Fragments of a stripe.
    pub fn width(&self) -> usize {
        self.scheme.width()
    }

    /// Fragments that suffice to read a stripe.
    pub fn needed(&self) -> usize {
        geometry::needed_fragments(self.scheme)
    }

    /// Whether [`Codec::reconstruct`] works on any byte range, the same of each fragment.
    pub fn is_range_local(&self) -> bool {
        geometry::is_range_local(self.scheme)
    }

    /// Bytes of each fragment of a stripe of `stripe_len` bytes.
    pub fn fragment_len(&self, stripe_len: usize) -> Result<usize, CodecError> {
        match u32::try_from(stripe_len) {
            Ok(len) if len > 0 => Ok(geometry::fragment_len(self.scheme, len) as usize),
            _ => Err(CodecError::StripeLength(stripe_len)),
        }
    }

    /// The stripe's fragments by position. Where the code allows it data fragments are slices of `stripe`, not copies;
    /// parity is one allocation.
    pub fn encode(&self, stripe: Bytes) -> Result<Vec<Bytes>, CodecError> {
        let fragment_len = self.fragment_len(stripe.len())?;
        match &*self.code {
            Code::Replicated => Ok(vec![stripe; self.width()]),
            Code::Gf256(code) => code.encode(stripe, fragment_len),
            Code::Novelpoly(code) => code.encode(&stripe),
        }
    }

    /// Rebuilds the `wanted` fragments (data or parity), in that order, from any [`Codec::needed`] of the others.
    /// `len` is the length of every one present: a whole fragment's, or that of the byte range they share if the code
    /// [is range-local](Codec::is_range_local). A wanted fragment that is present comes back as it is.
    pub fn reconstruct(&self, present: &[Fragment], wanted: &[u8], len: usize) -> Result<Vec<Bytes>, CodecError> {
        self.check(present, wanted, len)?;
        match &*self.code {
            Code::Replicated => Ok(wanted.iter().map(|_| present[0].1.clone()).collect()),
            Code::Gf256(code) => code.reconstruct(present, wanted, len),
            Code::Novelpoly(code) => code.reconstruct(present, wanted, len),
        }
    }

    /// The stripe's bytes, as pieces that follow each other, from any [`Codec::needed`] whole fragments. Data fragments
    /// that are present are not copied where the code allows it.
    pub fn decode_stripe(&self, present: &[Fragment], stripe_len: usize) -> Result<Vec<Bytes>, CodecError> {
        let fragment_len = self.fragment_len(stripe_len)?;
        self.check(present, &[], fragment_len)?;
        match &*self.code {
            Code::Replicated => Ok(vec![present[0].1.clone()]),
            Code::Gf256(code) => code.decode_stripe(present, stripe_len, fragment_len),
            Code::Novelpoly(code) => Ok(vec![code.decode_stripe(present, stripe_len)?]),
        }
    }

    /// Everything the codes below rely on instead of checking it themselves.
    fn check(&self, present: &[Fragment], wanted: &[u8], len: usize) -> Result<(), CodecError> {
        let width = self.width();
        if len == 0 {
            return Err(CodecError::StripeLength(0));
        }
        let mut given = [false; 256];
        for (position, bytes) in present {
            if usize::from(*position) >= width {
                return Err(CodecError::Position { position: *position, width });
            }
            if std::mem::replace(&mut given[usize::from(*position)], true) {
                return Err(CodecError::Twice(*position));
            }
            if bytes.len() != len {
                return Err(CodecError::FragmentLength { position: *position, actual: bytes.len(), expected: len });
            }
        }
        if let Some(position) = wanted.iter().find(|position| usize::from(**position) >= width) {
            return Err(CodecError::Position { position: *position, width });
        }
        if present.len() < self.needed() {
            return Err(CodecError::TooFew { have: present.len(), needed: self.needed() });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codec({})", self.scheme)
    }
}

#[cfg(test)]
mod tests;
