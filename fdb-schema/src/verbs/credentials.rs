//! Users' keys.

use crate::{
    error::Result,
    ids::AttemptId,
    keyspace::{self, Space},
    record::{Credential, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts,
        tx::{Outcome, Tx, all, transact},
    },
};

impl Meta {
    /// Creates or replaces.
    pub fn put_credential(&self, credential: Credential) -> Verb<'_, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "put_credential", |tx| put(tx, attempt, &credential))
        })
    }

    pub fn credential<'a>(&'a self, access_key: &'a str) -> Verb<'a, Option<Credential>> {
        Box::pin(async move {
            let key = keyspace::credential(access_key);
            transact!(self, "credential", |tx| tx.get(&key))
        })
    }

    /// In order of access key.
    pub fn credentials(&self) -> Verb<'_, Vec<Credential>> {
        Box::pin(async move { transact!(self, "credentials", |tx| all(tx, Space::Credential)) })
    }

    pub fn delete_credential<'a>(&'a self, access_key: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "delete_credential", |tx| delete(tx, attempt, access_key))
        })
    }
}

async fn put(tx: &mut Tx, attempt: AttemptId, credential: &Credential) -> Outcome<()> {
    if !attempts::done_before(tx, attempt).await? {
        tx.set(keyspace::credential(&credential.access_key), credential);
        attempts::remember(tx, attempt, &AttemptRow::Done);
    }
    Ok(())
}

async fn delete(tx: &mut Tx, attempt: AttemptId, access_key: &str) -> Outcome<()> {
    if !attempts::done_before(tx, attempt).await? {
        tx.clear(keyspace::credential(access_key));
        attempts::remember(tx, attempt, &AttemptRow::Done);
    }
    Ok(())
}
