//! The work that is done while nobody looks: repair, scrub, garbage collection and the lifecycles of buckets, each a
//! paced worker in a supervised actor whose lasting state is in the metadata.

mod backoff;
pub mod compare;
mod context;
mod courtesy;
mod deep;
mod deep_queue;
mod evidence;
pub mod gc;
mod groups;
mod inconsistent;
pub mod inventory;
mod leases;
pub mod lifecycle;
mod metrics;
pub mod placement;
mod progress;
mod queue;
mod rebuild;
pub mod repair;
mod replace;
mod replacer;
mod room;
pub mod scrub;
mod scrub_position;
#[cfg(test)]
mod simulation;
mod singles;
#[cfg(test)]
mod test_world;
mod walk;

pub use context::{BackgroundMemory, Context};
pub use courtesy::Courtesy;
pub use inconsistent::Inconsistent;
pub use metrics::HealingMetrics;
pub(crate) use replace::{Homeless, crowded, homeless};
pub(crate) use room::{Room, Space};
