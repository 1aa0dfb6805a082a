//! The operators' HTTP API of a process, and the client that `cairn status` asks it with.

pub mod client;
mod process_metrics;
mod server;
mod subject;

pub use process_metrics::ProcessMetrics;
pub use server::{AdminError, AdminServer};
pub use subject::Subject;
