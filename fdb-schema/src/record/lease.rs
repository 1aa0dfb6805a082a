//! Leases, and their first format.

use serde::{Deserialize, Serialize};

use crate::codec::CodecError;

/// A right to do something alone, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub name: String,
    pub holder: String,
    /// How long it lasts without being renewed. 0: it was given back.
    pub ttl_ms: u64,
    /// Grows with every change of holder: a fencing token.
    pub term: u64,
    /// Grows with every renewal, so that whoever watches the row sees that its holder lives.
    pub renewal: u64,
}

/// Version 1 told when a lease ends by the clock of its holder.
#[derive(Deserialize)]
struct LeaseV1 {
    name: String,
    holder: String,
    expires_ms: u64,
    term: u64,
}

/// The longest that was asked for when leases were written in version 1.
const V1_TTL_MS: u64 = 60_000;

pub(super) fn older(version: u8, body: &[u8]) -> Option<Result<Lease, CodecError>> {
    let read = |body| rmp_serde::from_slice(body).map_err(|error| CodecError::Garbled(error.to_string()));
    (version == 1).then(|| {
        let LeaseV1 { name, holder, expires_ms, term } = read(body)?;
        let ttl_ms = if expires_ms == 0 { 0 } else { V1_TTL_MS };
        Ok(Lease { name, holder, ttl_ms, term, renewal: 0 })
    })
}
