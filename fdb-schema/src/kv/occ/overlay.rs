//! Changes over rows that stay as they are.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::kv::{
    KvError,
    occ::{Rows, RowsMut},
};

/// What is changed: None where a row is removed.
pub type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// Rows as they are with changes that were not made to them yet.
pub struct Overlay<B> {
    below: B,
    changes: Changes,
}

impl<B: Rows> Overlay<B> {
    pub fn new(below: B) -> Self {
        Self { below, changes: Changes::new() }
    }

    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    pub fn into_changes(self) -> Changes {
        self.changes
    }

    pub fn merge(&mut self, changes: Changes) {
        self.changes.extend(changes);
    }
}

impl<B: Rows> Rows for Overlay<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.changes.get(key).map_or_else(|| self.below.get(key), |value| Ok(value.clone()))
    }

    fn keys(&self, begin: &Bytes, end: &Bytes) -> Result<Vec<Bytes>, KvError> {
        if begin >= end {
            return Ok(Vec::new());
        }
        let mut keys = self.below.keys(begin, end)?;
        keys.retain(|key| !self.changes.contains_key(key));
        let changed = self.changes.range(begin.clone()..end.clone());
        keys.extend(changed.filter(|(_, value)| value.is_some()).map(|(key, _)| key.clone()));
        Ok(keys)
    }
}

impl<B: Rows> RowsMut for Overlay<B> {
    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.changes.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kv::occ::{CommitRequest, Mutation, apply};

    /// Rows of which one cannot be read.
    struct Faulty;

    impl Rows for Faulty {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
            if key == b"bad" { Err(KvError::Storage("unreadable".into())) } else { Ok(None) }
        }

        fn keys(&self, _begin: &Bytes, _end: &Bytes) -> Result<Vec<Bytes>, KvError> {
            Ok(vec!["b".into(), "c".into()])
        }
    }

    fn commit(mutations: Vec<Mutation>) -> CommitRequest {
        CommitRequest { mutations, ..CommitRequest::default() }
    }

    #[test]
    fn changes_are_seen_over_the_rows_and_a_failed_commit_leaves_none() {
        let mut group = Overlay::new(Faulty);
        let first = vec![Mutation::Set("a".into(), "1".into()), Mutation::Clear("b".into())];
        apply(&mut group, commit(first), 1, 0).unwrap();
        let before = group.changes().clone();
        let mut own = Overlay::new(&group);
        assert_eq!(own.get(b"a").unwrap(), Some("1".into()));
        assert_eq!(own.keys(&"a".into(), &"z".into()).unwrap(), ["c", "a"]);
        let half = vec![Mutation::ClearRange("a".into(), "z".into()), Mutation::Add("bad".into(), 1)];
        assert!(apply(&mut own, commit(half), 1, 1).is_err());
        assert_eq!(own.keys(&"a".into(), &"z".into()).unwrap(), [""; 0]);
        assert_eq!(*group.changes(), before);
        let mut own = Overlay::new(&group);
        apply(&mut own, commit(vec![Mutation::Add("n".into(), 1)]), 1, 1).unwrap();
        let changes = own.into_changes();
        group.merge(changes);
        assert_eq!(group.keys(&"a".into(), &"z".into()).unwrap(), ["c", "a", "n"]);
    }
}
