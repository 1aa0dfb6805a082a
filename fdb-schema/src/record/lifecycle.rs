//! What becomes of objects with time: the rules of a bucket, as whoever carries them out goes by them.

use serde::{Deserialize, Serialize};

use crate::record::{Version, VersionKind};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The lifecycle of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// As it is given back to clients.
    pub document: String,
    /// What it says of the least size of objects in transitions, which is given back too.
    pub minimum_size: String,
    pub rules: Vec<LifecycleRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleRule {
    pub id: String,
    pub enabled: bool,
    pub filter: LifecycleFilter,
    pub expiration: Option<Expiration>,
    pub noncurrent: Option<NoncurrentExpiration>,
    /// Uploads that were not completed so many days after they were begun are aborted.
    pub abort_uploads_days: Option<u32>,
}

/// What a rule is about. All of it must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleFilter {
    pub prefix: String,
    pub tags: Vec<(String, String)>,
    /// In bytes, exclusive.
    pub larger_than: Option<u64>,
    /// In bytes, exclusive.
    pub smaller_than: Option<u64>,
}

/// What ends current versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    /// After they were made.
    Days(u32),
    /// From this moment on, in milliseconds since the Unix epoch.
    Date(u64),
    /// Only delete markers that hide nothing any more.
    LoneMarkers,
}

/// What ends versions that are not current any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoncurrentExpiration {
    /// After the next newer version was made.
    pub days: u32,
    /// So many of the newest of them stay.
    pub keep_newer: u32,
}

/// How a version ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As if a client had deleted the current version: with versioning a marker takes its place.
    Current,
    /// For good.
    Noncurrent,
    /// A delete marker that is all that is left of its key, for good.
    LoneMarker,
}

/// Where a version stands among those of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Current {
        /// It is the only version.
        alone: bool,
    },
    Noncurrent {
        /// When the next newer version was made.
        since_ms: u64,
        /// Noncurrent versions that are newer.
        newer: u32,
    },
}

impl LifecycleFilter {
    fn covers(&self, key: &str, version: &Version) -> bool {
        key.starts_with(&self.prefix)
            && self.tags.iter().all(|tag| version.attributes.tags.contains(tag))
            && self.larger_than.is_none_or(|bytes| version.size > bytes)
            && self.smaller_than.is_none_or(|bytes| version.size < bytes)
    }
}

/// The first midnight, in UTC, that is so many days after a moment.
pub fn due_ms(from_ms: u64, days: u32) -> u64 {
    from_ms.saturating_add(u64::from(days) * DAY_MS).div_ceil(DAY_MS).saturating_mul(DAY_MS)
}

impl Lifecycle {
    fn enabled(&self) -> impl Iterator<Item = &LifecycleRule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    /// When an object that is current ends, and by which rule.
    pub fn expiry(&self, key: &str, version: &Version) -> Option<(u64, &LifecycleRule)> {
        let rules = self.enabled().filter(|rule| rule.filter.covers(key, version));
        let due = |rule: &LifecycleRule| match rule.expiration? {
            Expiration::Days(days) => Some(due_ms(version.modified_ms, days)),
            Expiration::Date(at_ms) => Some(at_ms),
            Expiration::LoneMarkers => None,
        };
        rules.filter_map(|rule| Some((due(rule)?, rule))).min_by_key(|(due, _)| *due)
    }

    /// Whether a version ends now, and how.
    pub fn ending(&self, key: &str, version: &Version, standing: Standing, now_ms: u64) -> Option<Ending> {
        match (standing, version.kind) {
            (Standing::Current { .. }, VersionKind::Object) => {
                self.expiry(key, version).filter(|(due, _)| *due <= now_ms).map(|_| Ending::Current)
            }
            (Standing::Current { alone }, VersionKind::DeleteMarker) => {
                let ends = |rule: &LifecycleRule| match rule.expiration {
                    Some(Expiration::LoneMarkers) => true,
                    Some(Expiration::Days(days)) => due_ms(version.modified_ms, days) <= now_ms,
                    Some(Expiration::Date(_)) | None => false,
                };
                let mut rules = self.enabled().filter(|rule| rule.filter.covers(key, version));
                (alone && rules.any(ends)).then_some(Ending::LoneMarker)
            }
            (Standing::Noncurrent { since_ms, newer }, _) => {
                let ends = |rule: &LifecycleRule| {
                    rule.noncurrent.is_some_and(|NoncurrentExpiration { days, keep_newer }| {
                        newer >= keep_newer && due_ms(since_ms, days) <= now_ms
                    })
                };
                let mut rules = self.enabled().filter(|rule| rule.filter.covers(key, version));
                rules.any(ends).then_some(Ending::Noncurrent)
            }
        }
    }

    /// Whether an upload begun at a moment is to be aborted now. One that no rule speaks of is once it is `otherwise`
    /// old, in milliseconds, if that is said; a rule that does may leave it for longer.
    pub fn aborts(&self, key: &str, begun_ms: u64, now_ms: u64, otherwise: Option<u64>) -> bool {
        let days = |rule: &LifecycleRule| rule.abort_uploads_days.filter(|_| key.starts_with(&rule.filter.prefix));
        let least = self.enabled().filter_map(days).map(|days| due_ms(begun_ms, days)).min();
        let usual = || otherwise.map(|age_ms| begun_ms.saturating_add(age_ms));
        least.or_else(usual).is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Whether any rule has something to do with versions, and with uploads.
    pub fn concerns(&self) -> (bool, bool) {
        let versions = self.enabled().any(|rule| rule.expiration.is_some() || rule.noncurrent.is_some());
        (versions, self.enabled().any(|rule| rule.abort_uploads_days.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::VersionId,
        record::{Attributes, Etag},
    };

    const NOON: u64 = 19_000 * DAY_MS + DAY_MS / 2;

    fn version(kind: VersionKind, size: u64, tag: &str) -> Version {
        let tags = vec![("t".to_owned(), tag.to_owned())];
        Version {
            id: VersionId([1; 16]),
            kind,
            etag: Etag { md5: [0; 16], parts: None },
            size,
            modified_ms: NOON,
            owner: String::new(),
            attributes: Attributes { tags, ..Attributes::default() },
            checksum: None,
            part_count: None,
            encryption: None,
        }
    }

    fn lifecycle(rule: LifecycleRule) -> Lifecycle {
        let rules = vec![LifecycleRule { enabled: true, ..rule }];
        Lifecycle { document: String::new(), minimum_size: String::new(), rules }
    }

    #[test]
    fn days_end_at_midnight() {
        let midnight = 19_000 * DAY_MS;
        assert_eq!(due_ms(midnight, 1), midnight + DAY_MS);
        assert_eq!(due_ms(midnight + 1, 1), midnight + 2 * DAY_MS);
        assert_eq!(due_ms(midnight + DAY_MS - 1, 3), midnight + 4 * DAY_MS);
        assert_eq!(due_ms(u64::MAX, u32::MAX), u64::MAX);
    }

    #[test]
    fn only_what_a_rule_covers_ends_and_not_before_its_time() {
        let current = Standing::Current { alone: true };
        let object = version(VersionKind::Object, 100, "a");
        let due = due_ms(NOON, 2);
        let days = LifecycleRule { expiration: Some(Expiration::Days(2)), ..LifecycleRule::default() };
        let rules = lifecycle(days.clone());
        assert_eq!(rules.ending("k", &object, current, due - 1), None);
        assert_eq!(rules.ending("k", &object, current, due), Some(Ending::Current));
        let marker = version(VersionKind::DeleteMarker, 0, "");
        assert_eq!(rules.ending("k", &marker, current, due), Some(Ending::LoneMarker));
        assert_eq!(rules.ending("k", &marker, Standing::Current { alone: false }, due), None);
        let old = Standing::Noncurrent { since_ms: 0, newer: 9 };
        assert_eq!(rules.ending("k", &object, old, u64::MAX), None, "it says nothing of those");
        let disabled = Lifecycle { rules: vec![days.clone()], ..rules };
        assert_eq!(disabled.ending("k", &object, current, u64::MAX), None);
        for (filter, covers) in [
            (LifecycleFilter { prefix: "k".into(), ..Default::default() }, true),
            (LifecycleFilter { prefix: "l".into(), ..Default::default() }, false),
            (LifecycleFilter { tags: vec![("t".into(), "a".into())], ..Default::default() }, true),
            (LifecycleFilter { tags: vec![("t".into(), "b".into())], ..Default::default() }, false),
            (LifecycleFilter { larger_than: Some(99), smaller_than: Some(101), ..Default::default() }, true),
            (LifecycleFilter { larger_than: Some(100), ..Default::default() }, false),
            (LifecycleFilter { smaller_than: Some(100), ..Default::default() }, false),
        ] {
            let rules = lifecycle(LifecycleRule { filter: filter.clone(), ..days.clone() });
            assert_eq!(rules.ending("k", &object, current, due).is_some(), covers, "{filter:?}");
        }
    }

    #[test]
    fn noncurrent_versions_end_when_enough_are_newer() {
        let noncurrent = Some(NoncurrentExpiration { days: 1, keep_newer: 2 });
        let rules = lifecycle(LifecycleRule { noncurrent, ..LifecycleRule::default() });
        let object = version(VersionKind::Object, 1, "a");
        let ending = |newer, now_ms| rules.ending("k", &object, Standing::Noncurrent { since_ms: NOON, newer }, now_ms);
        assert_eq!(ending(2, due_ms(NOON, 1)), Some(Ending::Noncurrent));
        assert_eq!(ending(1, u64::MAX), None);
        assert_eq!(ending(2, due_ms(NOON, 1) - 1), None);
        assert_eq!(rules.ending("k", &object, Standing::Current { alone: true }, u64::MAX), None);
        assert_eq!(rules.concerns(), (true, false));
    }
}
