//! The operators' HTTP API of a process, and the client that `cairn status` asks it with.

mod access;
mod buckets;
pub(crate) mod client;
mod desk;
mod events;
mod jobs;
mod kms;
mod limits;
mod maintenance;
mod memory_metrics;
mod policy;
mod process_metrics;
mod rates;
mod server;
mod setting;
mod stop;
mod subject;

pub(crate) use access::AccessOrder;
pub(crate) use buckets::BucketOrder;
pub(crate) use events::EventOrder;
pub(crate) use jobs::{JobOrder, TargetOrder, WorkOrder};
pub(crate) use limits::LimitsOrder;
pub(crate) use memory_metrics::{register_index_cache, register_memory};
pub(crate) use process_metrics::ProcessMetrics;
pub(crate) use server::{AdminError, AdminServer};
pub(crate) use subject::Subject;
