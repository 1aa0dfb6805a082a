//! Counting what a bucket holds.

use bytes::Bytes;

use crate::{
    keyspace::{self, UsageField},
    verbs::tx::Tx,
};

/// Counts a version that comes (`sign` 1) or goes (-1).
pub(crate) fn count_version(tx: &mut Tx, bucket: &str, size: u64, sign: i64) {
    let stripe = rand::random();
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let key = |field| -> Bytes { keyspace::usage(bucket, stripe, field) };
    tx.add(key(UsageField::Objects), sign);
    tx.add(key(UsageField::Bytes), sign * size);
}
