//! Scenarios: a cluster, what is done to it, and what must hold.

pub mod away;
pub mod clients;
pub mod corrupt;
pub mod drain;
pub mod heal;
pub mod metadata;
pub mod racks;
pub mod restart;
pub mod rot;
pub mod sick;
pub mod stop;
pub mod stream;
pub mod watch;
mod workload;
