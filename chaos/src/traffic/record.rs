//! What came of the requests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::content::Label;
use crate::history::Op;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Succeeded,
    /// 503
    Unavailable,
    /// The node's clock is not ours.
    Skewed,
    /// 500
    Internal,
    /// The connection was refused or cut.
    Transport,
    /// No answer in time.
    Deadline,
}

/// One request, for figures.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Microseconds since the run began.
    pub ended: u64,
    pub took: u64,
    pub name: &'static str,
    pub class: Class,
}

/// A bucket and a key.
pub type Key = (&'static str, String);

/// A version that was acknowledged with its id.
#[derive(Clone, Debug)]
pub struct Version {
    pub key: Key,
    pub id: String,
    /// None: a delete marker.
    pub label: Option<Label>,
}

/// A copy, acknowledged or not.
#[derive(Clone, Debug)]
pub struct Copy {
    pub source: Key,
    pub begun: u64,
    /// None: nobody was told.
    pub ended: Option<u64>,
    /// Whether what it holds was read before.
    pub is_seen: bool,
}

/// Something that must never be answered.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Such as INT-1.
    pub invariant: &'static str,
    pub what: String,
}

#[derive(Default)]
pub struct Pages {
    pub histories: BTreeMap<Key, Vec<Op>>,
    pub samples: Vec<Sample>,
    /// Acknowledged versions of the versioned bucket.
    pub versions: Vec<Version>,
    /// The lengths of all that was ever sent, by nonce.
    pub labels: HashMap<u64, usize>,
    /// Copies by their nonces.
    pub copies: HashMap<u64, Copy>,
    pub broken: Vec<Broken>,
}

/// What all clients write into. Cheap to clone.
#[derive(Clone)]
pub struct Book {
    began: Instant,
    pages: Arc<Mutex<Pages>>,
}

impl Book {
    pub fn new() -> Self {
        Self { began: Instant::now(), pages: Arc::default() }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn broken(&self, invariant: &'static str, what: String) {
        self.pages().broken.push(Broken { invariant, what });
    }

    pub fn took_place(&self, key: &Key, op: Op) {
        if op.counts() {
            self.pages().histories.entry(key.clone()).or_default().push(op);
        }
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}
