//! Clients at work: what they send, what they were answered, and what of it can be judged at once.

pub mod client;
pub mod content;
pub mod endpoints;
pub mod record;

pub use client::{Client, Traffic, start};
pub use endpoints::Endpoints;
pub use record::{Book, Class, Sample};
