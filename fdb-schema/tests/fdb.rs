//! On a real FoundationDB: the conformance suite, the verbs, injected faults, export and import; and what opening one
//! refuses.
//!
//! Needs the feature `fdb` and a running server whose cluster file `CAIRN_FDB_CLUSTER_FILE` names; says so when it is
//! skipped. No libtest: the client library starts once in a process and must be stopped before the process begins to
//! end.
#![allow(clippy::unwrap_used)]
// Each file of the other backends' tests brings what they share.
#![allow(clippy::duplicate_mod)]

#[cfg(not(feature = "fdb"))]
fn main() {
    eprintln!("SKIPPED: nothing was tried on FoundationDB, this was built without `--features fdb`");
}

#[cfg(feature = "fdb")]
fn main() -> std::process::ExitCode {
    harness::main()
}

#[cfg(feature = "fdb")]
#[path = "fdb/cases.rs"]
mod cases;
#[cfg(feature = "fdb")]
#[path = "fdb/harness.rs"]
mod harness;
