//! What must hold of all rows together, whatever happened: every index, counter and reference equals a recount.

use cairn_schema::{Meta, kv::SharedKv};

/// Panics with `context` when something does not add up. Nothing half-applied passes.
pub(crate) async fn check(kv: &SharedKv, context: &str) {
    let audit = Meta::new(kv.clone()).audit().await.unwrap();
    assert!(audit.problems == 0, "{context}: {} problems: {:#?}", audit.problems, audit.first_problems);
}
