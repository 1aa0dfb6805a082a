//! How much a bucket may hold, and how many requests may come to it or from a user.

use serde::{Deserialize, Serialize};

use crate::record::Usage;

/// What a bucket may hold at most; None is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Of all versions that are objects, as clients sent them.
    pub bytes: Option<u64>,
    /// Versions that are objects.
    pub objects: Option<u64>,
}

impl Quota {
    pub fn is_unset(self) -> bool {
        self == Self::default()
    }

    /// Whether so much may be there.
    pub fn admits(self, usage: Usage) -> bool {
        let within = |limit: Option<u64>, used| limit.is_none_or(|limit| used <= limit);
        within(self.bytes, usage.bytes) && within(self.objects, usage.objects)
    }
}

/// How many requests may come; None is without bound. Each gateway holds them by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLimits {
    /// In the mean; as many as in a second may come at once.
    pub per_second: Option<u32>,
    /// Under way at the same time, from their headers to the last byte of their answers.
    pub concurrent: Option<u32>,
}

impl RequestLimits {
    pub fn is_unset(self) -> bool {
        self == Self::default()
    }
}

/// A bucket's quota, and how it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketQuota {
    pub quota: Quota,
    /// Each stripe of the counters is within its share of the quota, so that whoever adds to one need not look at the
    /// others. Not so from when it is set until something is added, nor while the bucket holds more than its quota.
    pub shared: bool,
}

/// What is to be other of a quota; None stays as it is, Some(None) is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaChange {
    pub bytes: Option<Option<u64>>,
    pub objects: Option<Option<u64>>,
}

impl QuotaChange {
    pub fn of(self, before: Quota) -> Quota {
        Quota { bytes: self.bytes.unwrap_or(before.bytes), objects: self.objects.unwrap_or(before.objects) }
    }
}

impl From<Quota> for QuotaChange {
    /// All of it.
    fn from(quota: Quota) -> Self {
        Self { bytes: Some(quota.bytes), objects: Some(quota.objects) }
    }
}

/// What is to be other of limits; None stays as it is, Some(None) is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsChange {
    pub per_second: Option<Option<u32>>,
    pub concurrent: Option<Option<u32>>,
}

impl LimitsChange {
    pub fn of(self, before: RequestLimits) -> RequestLimits {
        RequestLimits {
            per_second: self.per_second.unwrap_or(before.per_second),
            concurrent: self.concurrent.unwrap_or(before.concurrent),
        }
    }
}

impl From<RequestLimits> for LimitsChange {
    /// All of them.
    fn from(limits: RequestLimits) -> Self {
        Self { per_second: Some(limits.per_second), concurrent: Some(limits.concurrent) }
    }
}
