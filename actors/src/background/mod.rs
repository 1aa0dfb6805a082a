//! The work that is done while nobody looks: repair, scrub, garbage collection, the lifecycles of buckets and the
//! delivery of events, each a paced worker in a supervised actor whose lasting state is in the metadata.

mod backoff;
mod blocked;
mod burden;
pub mod compare;
mod context;
mod courtesy;
mod deep;
mod deep_queue;
mod deliver;
mod draft;
mod event_metrics;
pub mod events;
mod evidence;
pub mod gc;
mod groups;
mod inconsistent;
pub mod inventory;
mod leases;
pub mod lifecycle;
mod metrics;
mod move_walk;
pub mod mover;
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
mod unasked;
mod walk;
mod widen;

pub(crate) use blocked::why_stuck;
pub use context::{BackgroundMemory, Context};
pub use courtesy::Courtesy;
pub use deliver::{Deliver, DeliveryTerms, Undelivered};
pub(crate) use draft::{Draft, Stock, at_once, drain, under_way};
pub use event_metrics::EventMetrics;
pub use inconsistent::Inconsistent;
pub use metrics::HealingMetrics;
pub(crate) use replace::{Homeless, crowded, homeless};
pub(crate) use room::{Room, Space};
pub(crate) use widen::rebalance;
