//! The default code: systematic Reed-Solomon over GF(2^8) with polynomial 0x11d and the Vandermonde matrix of Backblaze
//! and klauspost, so that several independent libraries read what we write. Byte `i` of every fragment depends only on
//! byte `i` of the others, which makes any range rebuildable on its own.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_schema::record::Scheme;
use parking_lot::Mutex;
use rusty_erasure::{Coder, DecodePlan, compat};

use super::{CodecError, Fragment};

/// Decode plans kept per scheme. A cluster sees few loss patterns at a time: one or two dead disks of each group.
const PLANS_KEPT: usize = 64;

/// The code of one k and m.
pub(super) struct Gf256 {
    coder: Coder,
    plans: Mutex<Vec<(Losses, Arc<DecodePlan>)>>,
}

/// Which fragments are read and which are rebuilt: what a decode plan is made for.
#[derive(Clone, PartialEq, Eq)]
struct Losses {
    read: [u64; 4],
    rebuilt: Vec<usize>,
}

impl Gf256 {
    pub(super) fn new(scheme: Scheme) -> Result<Self, CodecError> {
        let wrong = |error: rusty_erasure::MatrixError| CodecError::Scheme { scheme, why: error.to_string() };
        let matrix = compat::reed_solomon_erasure_matrix(scheme.data(), scheme.parity()).map_err(wrong)?;
        let coder = rusty_erasure::coder(matrix).map_err(wrong)?;
        Ok(Self { coder, plans: Mutex::new(Vec::new()) })
    }

    pub(super) fn encode(&self, stripe: Bytes, fragment_len: usize) -> Result<Vec<Bytes>, CodecError> {
        let (k, m) = (self.coder.k(), self.coder.p());
        let mut fragments = Vec::with_capacity(k + m);
        let mut padding = None;
        for position in 0..k {
            let start = (position * fragment_len).min(stripe.len());
            let end = (start + fragment_len).min(stripe.len());
            fragments.push(match end - start {
                len if len == fragment_len => stripe.slice(start..end),
                // All those behind the stripe's end share one run of zeros.
                0 => padding.get_or_insert_with(|| BytesMut::zeroed(fragment_len).freeze()).clone(),
                len => {
                    let mut padded = BytesMut::zeroed(fragment_len);
                    padded[..len].copy_from_slice(&stripe[start..end]);
                    padded.freeze()
                }
            });
        }
        let mut parity = BytesMut::zeroed(m * fragment_len);
        {
            let data: Vec<&[u8]> = fragments.iter().map(|fragment| &fragment[..]).collect();
            let mut rows: Vec<&mut [u8]> = parity.chunks_mut(fragment_len).collect();
            self.coder.encode(&data, &mut rows).map_err(|error| CodecError::Code(error.to_string()))?;
        }
        push_slices(&mut fragments, parity.freeze(), fragment_len);
        Ok(fragments)
    }

    pub(super) fn reconstruct(
        &self,
        present: &[Fragment],
        wanted: &[u8],
        len: usize,
    ) -> Result<Vec<Bytes>, CodecError> {
        let width = self.coder.k() + self.coder.p();
        let mut fragments: Vec<Option<&[u8]>> = vec![None; width];
        for (position, bytes) in present {
            fragments[usize::from(*position)] = Some(bytes);
        }
        let mut lost: Vec<usize> = wanted.iter().map(|position| usize::from(*position)).collect();
        lost.retain(|position| fragments[*position].is_none());
        lost.sort_unstable();
        lost.dedup();
        let mut rebuilt = Vec::with_capacity(lost.len());
        if !lost.is_empty() {
            let failed = |error: rusty_erasure::RecoverError| CodecError::Code(error.to_string());
            let plan = self.plan(&fragments, &lost).map_err(failed)?;
            let mut bytes = BytesMut::zeroed(lost.len() * len);
            let mut rows: Vec<&mut [u8]> = bytes.chunks_mut(len).collect();
            self.coder.recover_with(&plan, &fragments, &mut rows).map_err(failed)?;
            drop(rows);
            push_slices(&mut rebuilt, bytes.freeze(), len);
        }
        let find = |position: &u8| match lost.binary_search(&usize::from(*position)) {
            Ok(index) => Ok(rebuilt[index].clone()),
            Err(_) => present
                .iter()
                .find(|(held, _)| held == position)
                .map(|(_, bytes)| bytes.clone())
                .ok_or_else(|| CodecError::Code(format!("fragment {position} was neither read nor rebuilt"))),
        };
        wanted.iter().map(find).collect()
    }

    pub(super) fn decode_stripe(
        &self,
        present: &[Fragment],
        stripe_len: usize,
        fragment_len: usize,
    ) -> Result<Vec<Bytes>, CodecError> {
        // Those behind the stripe's end are padding: not wanted.
        let wanted: Vec<u8> = (0..stripe_len.div_ceil(fragment_len)).map(|position| position as u8).collect();
        let mut pieces = self.reconstruct(present, &wanted, fragment_len)?;
        if let Some(last) = pieces.last_mut() {
            last.truncate(stripe_len - (wanted.len() - 1) * fragment_len);
        }
        Ok(pieces)
    }

    /// The plan for one loss pattern; inverting a wide matrix costs more than rebuilding one block.
    fn plan(
        &self,
        fragments: &[Option<&[u8]>],
        lost: &[usize],
    ) -> Result<Arc<DecodePlan>, rusty_erasure::RecoverError> {
        // Only the first k count: the plan reads no others, so patterns that differ behind them share one plan.
        let mut present: Vec<bool> = vec![false; fragments.len()];
        let mut read = [0u64; 4];
        let held = fragments.iter().enumerate().filter(|(_, bytes)| bytes.is_some()).map(|(position, _)| position);
        for position in held.take(self.coder.k()) {
            present[position] = true;
            read[position / 64] |= 1 << (position % 64);
        }
        let losses = Losses { read, rebuilt: lost.to_vec() };
        if let Some((_, plan)) = self.plans.lock().iter().find(|(kept, _)| *kept == losses) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(self.coder.decode_plan(&present, lost)?);
        let mut plans = self.plans.lock();
        if plans.len() >= PLANS_KEPT {
            plans.remove(0);
        }
        plans.push((losses, plan.clone()));
        Ok(plan)
    }
}

fn push_slices(fragments: &mut Vec<Bytes>, bytes: Bytes, len: usize) {
    fragments.extend((0..bytes.len() / len).map(|index| bytes.slice(index * len..(index + 1) * len)));
}
