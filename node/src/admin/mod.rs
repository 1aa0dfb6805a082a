//! The operators' HTTP API of a process, and the client that `cairn status` asks it with.

pub mod client;
mod memory_metrics;
mod process_metrics;
mod server;
mod subject;

pub use memory_metrics::register_memory;
pub use process_metrics::ProcessMetrics;
pub use server::{AdminError, AdminServer};
pub use subject::Subject;
