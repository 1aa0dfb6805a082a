//! The work that keeps data whole while nobody looks: repair, scrub and garbage collection, each a paced worker in a
//! supervised actor whose lasting state is in the metadata.

mod context;
pub mod gc;
pub mod inventory;
mod metrics;
pub mod placement;
mod queue;
mod rebuild;
pub mod repair;
mod replace;
pub mod scrub;
mod scrub_position;
#[cfg(test)]
mod test_world;

pub use context::{BackgroundMemory, Context};
pub use metrics::HealingMetrics;
pub(crate) use replace::crowded;
