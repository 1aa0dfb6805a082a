//! What clients were answered about one key, and whether any order of the requests explains it.

pub mod model;
pub mod picture;
pub mod search;
pub mod shrink;

pub use model::{Need, Op, State};
pub use picture::picture;
pub use search::{Answer, judge};
pub use shrink::smallest;

#[cfg(test)]
mod tests;
