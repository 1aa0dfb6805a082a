//! Object lock: what keeps versions from being removed.

use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// As S3 counts a year of retention.
const YEAR_DAYS: u64 = 365;

/// Who may end a retention before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionMode {
    /// Whoever may bypass it.
    Governance,
    /// Nobody; it can only be made longer.
    Compliance,
}

/// A version is kept until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    pub mode: RetentionMode,
    /// Milliseconds since the Unix epoch: the first one in which it is not kept any more.
    pub until_ms: u64,
}

impl Retention {
    fn is_over(self, now_ms: u64) -> bool {
        self.until_ms <= now_ms
    }

    /// Whether it may be replaced by another one, or by none. `bypass`: by somebody who may bypass governance.
    pub fn may_become(self, wanted: Option<Self>, now_ms: u64, bypass: bool) -> bool {
        let lengthened = wanted.is_some_and(|wanted| wanted.mode == self.mode && wanted.until_ms >= self.until_ms);
        self.is_over(now_ms) || lengthened || (bypass && self.mode == RetentionMode::Governance)
    }
}

/// What keeps a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub retention: Option<Retention>,
    /// None: there never was one, which S3 tells from one that was lifted.
    pub legal_hold: Option<bool>,
}

impl Lock {
    /// Whether nobody ever asked for one.
    pub fn is_unset(self) -> bool {
        self == Self::default()
    }

    /// Whether the version may not be removed now. `bypass`: by somebody who may bypass governance.
    pub fn holds(self, now_ms: u64, bypass: bool) -> bool {
        let retained = self.retention.is_some_and(|retention| {
            let bypassed = bypass && retention.mode == RetentionMode::Governance;
            !(bypassed || retention.is_over(now_ms))
        });
        retained || self.legal_hold == Some(true)
    }
}

/// What a bucket has once versions in it can be locked, for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLock {
    /// Of new versions for which no other is asked.
    pub default_retention: Option<DefaultRetention>,
}

/// A retention that begins when a version is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRetention {
    pub mode: RetentionMode,
    pub period: RetentionPeriod,
}

/// As it was given, so that it can be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionPeriod {
    Days(u32),
    /// Of 365 days.
    Years(u32),
}

impl DefaultRetention {
    /// That of a version made at a moment.
    pub fn of_version(self, made_ms: u64) -> Retention {
        let days = match self.period {
            RetentionPeriod::Days(days) => u64::from(days),
            RetentionPeriod::Years(years) => u64::from(years) * YEAR_DAYS,
        };
        Retention { mode: self.mode, until_ms: made_ms.saturating_add(days * DAY_MS) }
    }
}
