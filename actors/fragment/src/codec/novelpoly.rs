//! `reed-solomon-novelpoly`: Reed-Solomon over GF(2^16) in a novel polynomial basis. It rounds k down to a power of two
//! and deals out symbols of two bytes in turn, so a read needs whole fragments; kept as a choice, not the default,
//! because it is far slower and a range read costs a whole stripe.

use bytes::Bytes;
use cairn_schema::record::Scheme;
use reed_solomon_novelpoly::{CodeParams, ReedSolomon, WrappedShard};

use super::{CodecError, Fragment};
use crate::geometry;

/// The code of one k and m.
pub(super) struct Novelpoly {
    code: ReedSolomon,
    width: usize,
    /// Fragments that suffice: k rounded down to a power of two.
    needed: usize,
}

impl Novelpoly {
    pub(super) fn new(scheme: Scheme) -> Result<Self, CodecError> {
        let params = CodeParams::derive_parameters(scheme.width(), scheme.data())
            .map_err(|error| CodecError::Scheme { scheme, why: error.to_string() })?;
        let needed = geometry::needed_fragments(scheme);
        if params.k() != needed {
            let why = format!("the code needs {} fragments, the geometry says {needed}", params.k());
            return Err(CodecError::Scheme { scheme, why });
        }
        Ok(Self { code: params.make_encoder(), width: scheme.width(), needed })
    }

    pub(super) fn encode(&self, stripe: &[u8]) -> Result<Vec<Bytes>, CodecError> {
        let fragments = self.code.encode::<WrappedShard>(stripe).map_err(failed)?;
        Ok(fragments.into_iter().map(|fragment| Bytes::from(fragment.into_inner())).collect())
    }

    pub(super) fn decode_stripe(&self, present: &[Fragment], stripe_len: usize) -> Result<Bytes, CodecError> {
        let mut stripe = self.decode_padded(present)?;
        if stripe.len() < stripe_len {
            return Err(CodecError::Code(format!("{} bytes decoded, {stripe_len} expected", stripe.len())));
        }
        stripe.truncate(stripe_len);
        Ok(stripe.into())
    }

    /// Decodes the stripe with its padding and encodes it again: padding is zeros, so the fragments come out the same.
    pub(super) fn reconstruct(
        &self,
        present: &[Fragment],
        wanted: &[u8],
        len: usize,
    ) -> Result<Vec<Bytes>, CodecError> {
        let held = |position: &u8| present.iter().find(|(held, _)| held == position).map(|(_, bytes)| bytes.clone());
        if let Some(all) = wanted.iter().map(held).collect::<Option<Vec<Bytes>>>() {
            return Ok(all);
        }
        check_symbols(present)?;
        let fragments = self.encode(&self.decode_padded(present)?)?;
        let find = |position: &u8| match fragments.get(usize::from(*position)) {
            Some(bytes) if bytes.len() == len => Ok(bytes.clone()),
            _ => Err(CodecError::Code(format!("fragment {position} was not rebuilt whole"))),
        };
        wanted.iter().map(find).collect()
    }

    /// The caller has checked that positions are distinct and in range, lengths equal, and fragments enough: given
    /// that, the library's own assertions hold.
    fn decode_padded(&self, present: &[Fragment]) -> Result<Vec<u8>, CodecError> {
        check_symbols(present)?;
        let systematic: Option<Vec<&Bytes>> = (0..self.needed)
            .map(|index| present.iter().find(|(position, _)| usize::from(*position) == index).map(|(_, bytes)| bytes))
            .collect();
        if let Some(systematic) = systematic {
            return Ok(interleave(&systematic));
        }
        let mut fragments: Vec<Option<WrappedShard>> = vec![None; self.width];
        for (position, bytes) in present.iter().take(self.needed) {
            fragments[usize::from(*position)] = Some(WrappedShard::new(bytes.to_vec()));
        }
        self.code.reconstruct(fragments).map_err(failed)
    }
}

/// Undoes the dealing out of symbols when no fragment is missing.
fn interleave(fragments: &[&Bytes]) -> Vec<u8> {
    let len = fragments.first().map_or(0, |fragment| fragment.len());
    let mut stripe = Vec::with_capacity(len * fragments.len());
    for symbol in (0..len).step_by(2) {
        for fragment in fragments {
            stripe.extend_from_slice(&fragment[symbol..symbol + 2]);
        }
    }
    stripe
}

/// An odd fragment would be padded silently by the library and decode to something else.
fn check_symbols(present: &[Fragment]) -> Result<(), CodecError> {
    match present.iter().find(|(_, bytes)| bytes.len() % 2 != 0) {
        None => Ok(()),
        Some((position, bytes)) => {
            Err(CodecError::FragmentLength { position: *position, actual: bytes.len(), expected: bytes.len() + 1 })
        }
    }
}

fn failed(error: reed_solomon_novelpoly::Error) -> CodecError {
    CodecError::Code(error.to_string())
}
