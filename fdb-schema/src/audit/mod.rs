//! Whether what is counted equals a recount: reads every row and compares usage counters, reference counts, heads, the
//! reclaim queue and the ledger with what they are derived from. Changes nothing.

mod access;
mod events;
mod heads;
mod others;
mod problem;
mod references;
mod repairs;
mod source;

pub use problem::{Audit, Problem};

use crate::{
    keyspace::{self, Space},
    verbs::{Meta, Verb},
};
use references::References;
use source::Source;

/// Blobs and lists of parts that are held in memory at once, at about 50 bytes each. More blobs take more passes over
/// the rows.
const AT_ONCE: u64 = 2_000_000;

impl Meta {
    /// Recounts everything. The embedded store is audited as of one moment while it works; on the others nothing may be
    /// written meanwhile, or what changed between two reads is reported as a problem.
    pub fn audit(&self) -> Verb<'_, Audit> {
        self.audit_in_passes(AT_ONCE)
    }

    /// [`Meta::audit`] with another bound on the blobs and lists held in memory at once.
    pub fn audit_in_passes(&self, at_once: u64) -> Verb<'_, Audit> {
        Box::pin(async move {
            let mut source = Source::open(self).await?;
            let mut audit = Audit::default();
            if source.get_many(&[keyspace::importing()]).await?.iter().any(Option::is_some) {
                audit.report(Problem::Importing);
            }
            heads::audit(&mut source, &mut audit).await?;
            others::audit(&mut source, &mut audit).await?;
            access::audit(&mut source, &mut audit).await?;
            events::audit(&mut source, &mut audit).await?;
            let under_repair = repairs::audit(&mut source, &mut audit).await?;
            audit.blobs = source.count(Space::Blob).await?;
            let things = audit.blobs + source.count(Space::ListExtra).await? + source.count(Space::Upload).await?;
            let passes = things.div_ceil(at_once.max(1)).max(1);
            for pass in 0..passes {
                References::new(pass, passes, under_repair).audit(&mut source, &mut audit).await?;
            }
            Ok(audit)
        })
    }
}
