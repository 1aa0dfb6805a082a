//! What FoundationDB's errors mean to a transaction.
//!
//! Codes: `flow/include/flow/error_definitions.h` of FoundationDB 7.3.

use foundationdb::FdbError;

use crate::kv::{KvError, limits};

mod code {
    pub(super) const TIMED_OUT: i32 = 1004;
    pub(super) const ALL_ALTERNATIVES_FAILED: i32 = 1006;
    pub(super) const TRANSACTION_TOO_OLD: i32 = 1007;
    pub(super) const FUTURE_VERSION: i32 = 1009;
    pub(super) const SERVER_REQUEST_QUEUE_FULL: i32 = 1012;
    pub(super) const NOT_COMMITTED: i32 = 1020;
    pub(super) const TRANSACTION_CANCELLED: i32 = 1025;
    pub(super) const CONNECTION_FAILED: i32 = 1026;
    pub(super) const COORDINATORS_CHANGED: i32 = 1027;
    pub(super) const REQUEST_MAYBE_DELIVERED: i32 = 1030;
    pub(super) const TRANSACTION_TIMED_OUT: i32 = 1031;
    pub(super) const LOOKUP_FAILED: i32 = 1041;
    pub(super) const SHUTDOWN_IN_PROGRESS: i32 = 1043;
    pub(super) const CONNECTION_UNREFERENCED: i32 = 1048;
    pub(super) const CONNECTION_IDLE: i32 = 1049;
    pub(super) const BROKEN_PROMISE: i32 = 1100;
    pub(super) const OPERATION_CANCELLED: i32 = 1101;
    pub(super) const SERVER_OVERLOADED: i32 = 1211;
    pub(super) const TRANSACTION_TOO_LARGE: i32 = 2101;
    pub(super) const KEY_TOO_LARGE: i32 = 2102;
    pub(super) const VALUE_TOO_LARGE: i32 = 2103;
    pub(super) const PERMISSION_DENIED: i32 = 6000;
}

/// Wrong uses of the client, which it notices before anything is sent.
const CLIENT_ERRORS: std::ops::Range<i32> = 2000..3000;

/// The cluster, or the way to it, is in trouble that may pass. The library retries most of these itself; those that
/// come through are not in its own list of what to retry.
const PASSING: [i32; 14] = [
    code::TIMED_OUT,
    code::ALL_ALTERNATIVES_FAILED,
    code::SERVER_REQUEST_QUEUE_FULL,
    code::TRANSACTION_CANCELLED,
    code::CONNECTION_FAILED,
    code::COORDINATORS_CHANGED,
    code::REQUEST_MAYBE_DELIVERED,
    code::LOOKUP_FAILED,
    code::SHUTDOWN_IN_PROGRESS,
    code::CONNECTION_UNREFERENCED,
    code::CONNECTION_IDLE,
    code::BROKEN_PROMISE,
    code::OPERATION_CANCELLED,
    code::SERVER_OVERLOADED,
];

/// An error of anything but a commit.
pub(super) fn of_read(error: FdbError) -> KvError {
    let described = || format!("FoundationDB: {error} ({})", error.code());
    match error.code() {
        code::NOT_COMMITTED => KvError::Conflict,
        code::TRANSACTION_TOO_OLD | code::FUTURE_VERSION => KvError::TooOld,
        code::TRANSACTION_TIMED_OUT => KvError::Timeout("FoundationDB did not answer".into()),
        code::TRANSACTION_TOO_LARGE => over("transaction", limits::TRANSACTION_BYTES),
        code::KEY_TOO_LARGE => over("key", limits::KEY_BYTES),
        code::VALUE_TOO_LARGE => over("value", limits::VALUE_BYTES),
        passing if PASSING.contains(&passing) => KvError::Unavailable(described()),
        // The database is locked, throttled or behind, or of another protocol version since a moment ago.
        _ if error.is_retryable() => KvError::Unavailable(described()),
        _ => KvError::Storage(described()),
    }
}

/// The library does not say by how much.
fn over(what: &'static str, limit: usize) -> KvError {
    KvError::TooLarge { what, actual: limit + 1, limit }
}

/// An error of a commit. It was not done only if that is certain; of everything else (no answer in time, a lost
/// connection, an error that nobody foresaw) it may have been done, or be done later.
pub(super) fn of_commit(error: FdbError) -> KvError {
    let not_done = error.is_retryable_not_committed()
        || CLIENT_ERRORS.contains(&error.code())
        || error.code() == code::PERMISSION_DENIED;
    if not_done { of_read(error) } else { KvError::CommitUnknown(format!("FoundationDB: {error} ({})", error.code())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(code: i32) -> (KvError, KvError) {
        (of_read(FdbError::from_code(code)), of_commit(FdbError::from_code(code)))
    }

    #[test]
    fn a_commit_is_undone_only_if_that_is_certain() {
        // too old, future version, conflict, behind, locked, proxies' memory, throttled.
        for code in [1007, 1009, 1020, 1037, 1038, 1042, 1051, 1078, 1213, 2101] {
            let (read, commit) = of(code);
            assert!(!matches!(commit, KvError::CommitUnknown(_)), "{code}");
            assert_eq!(read, commit);
        }
        // unknown, fatally unknown, cancelled, lost, timed out, another protocol version, disk trouble, internal, never
        // heard of.
        for code in [1021, 1022, 1025, 1026, 1030, 1031, 1039, 1100, 1101, 1510, 4100, 999_999] {
            assert!(matches!(of(code).1, KvError::CommitUnknown(_)), "{code}");
        }
    }

    #[test]
    fn passing_trouble_is_told_from_failure() {
        for code in [1004, 1006, 1026, 1037, 1038, 1039, 1042, 1051, 1100, 1213] {
            assert!(matches!(of(code).0, KvError::Unavailable(why) if why.contains(&code.to_string())), "{code}");
        }
        assert!(matches!(of(1031).0, KvError::Timeout(_)));
        for code in [1036, 1510, 2005, 4100, 6000] {
            assert!(matches!(of(code).0, KvError::Storage(_)), "{code}");
        }
        assert_eq!(of(2103).0, KvError::TooLarge { what: "value", actual: 100_001, limit: 100_000 });
    }
}
