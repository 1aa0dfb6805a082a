//! What every put and every get works with: where memory is granted, how a fragment is reached, and what is done about
//! what a request leaves behind or finds damaged.

mod budget;
mod cleaner;
mod codecs;
mod damage;
mod latencies;
mod limits;
mod metrics;
mod pool;
mod reach;
mod requester;
mod stalls;

use std::sync::Arc;

use cairn_fragment::{Bounded, codec::Codec};
use cairn_schema::{
    Meta, MetaError,
    record::{ClusterPolicy, Scheme},
};

pub use limits::StoreLimits;
pub use requester::Requester;
pub(crate) use {
    budget::{Budget, Gathering, Slot, StreamGrant},
    cleaner::{Cleaner, Remains, Span},
    codecs::Codecs,
    damage::{DamageReports, Finding},
    reach::{Reach, Unread},
    stalls::{Stallable, Watched},
};

use crate::{error::StoreError, placement::Placement, policy::Timings};
use metrics::Metrics;

/// What a store is made of.
pub struct StoreParts {
    pub meta: Meta,
    pub fragments: Bounded,
    /// Kept current by whoever runs the node; see [`Placement`].
    pub placement: Arc<Placement>,
    pub timings: Timings,
    /// Bytes that all stripes in flight may take together.
    pub memory_bytes: u64,
    pub limits: StoreLimits,
    pub metrics: prometheus::Registry,
}

/// What all requests share.
pub(crate) struct DataPath {
    pub meta: Meta,
    pub placement: Arc<Placement>,
    pub timings: Timings,
    pub limits: StoreLimits,
    pub budget: Budget,
    codecs: Codecs,
    pub metrics: Metrics,
    pub reach: Arc<Reach>,
    pub damage: DamageReports,
    pub cleaner: Cleaner,
}

impl DataPath {
    /// Must be called within a tokio runtime: it starts the task that writes what reads find damaged to the ledger.
    pub(crate) fn new(parts: StoreParts) -> Arc<Self> {
        let StoreParts { meta, fragments, placement, timings, memory_bytes, limits, metrics } = parts;
        let metrics = Metrics::new(&metrics);
        let deadline = timings.fragment_deadline;
        Arc::new(Self {
            budget: Budget::new(memory_bytes, limits.memory_wait, limits.client_memory_percent, limits.stall),
            codecs: Codecs::default(),
            damage: DamageReports::start(meta.clone(), metrics.clone()),
            cleaner: Cleaner::new(fragments.clone(), deadline, metrics.clone()),
            reach: Arc::new(Reach::new(fragments, placement.clone(), deadline, metrics.clone())),
            meta,
            placement,
            timings,
            limits,
            metrics,
        })
    }

    /// How a write that begins now is done. The cluster's policy may change meanwhile: whether what was written is safe
    /// by the one that holds then is judged at the commit.
    pub(crate) fn policy_to_write_by(&self) -> Result<ClusterPolicy, StoreError> {
        let topology = self.placement.topology();
        match &topology.policy.too_large {
            Some(why) => Err(StoreError::PolicyTooLarge(why.clone())),
            None => Ok(ClusterPolicy { generation: topology.policy.generation, policy: topology.policy() }),
        }
    }

    pub(crate) fn codec(&self, scheme: Scheme) -> Result<Codec, StoreError> {
        let damaged = |error| MetaError::Corrupt { what: "a scheme", why: format!("{scheme}: {error}") };
        Ok(self.codecs.of(scheme).map_err(damaged)?)
    }
}
