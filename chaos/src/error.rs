//! What can go wrong while a cluster is driven from outside.

use std::process::ExitStatus;

#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    #[error("start {name}: {why}")]
    Start { name: String, why: String },
    #[error("{name} ended with {status}; its last lines:\n{log}")]
    Exited { name: String, status: ExitStatus, log: String },
    #[error("waited too long for {what}: {detail}")]
    NotInTime { what: String, detail: String },
    #[error("{what}: {why}")]
    Io { what: String, why: String },
    #[error("admin {url}: {why}")]
    Admin { url: String, why: String },
    #[error(transparent)]
    S3(#[from] crate::s3::S3Error),
    #[error("workload: {0}")]
    Workload(String),
    /// The system did what it promises never to do.
    #[error("{invariant} violated: {what}")]
    Violated { invariant: &'static str, what: String },
}

impl ChaosError {
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, why: error.to_string() }
    }
}
