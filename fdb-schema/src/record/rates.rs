//! How fast nodes keep data whole, where the cluster says it for all of them. What it does not say is each node's own
//! business: disks differ.

use serde::{Deserialize, Serialize};

use crate::{record::SettingProblem, text::Size};

/// Rates that hold on every node instead of what its own configuration says; where there is none, that holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateOverrides {
    /// Bytes of one disk that its scrub reads, each second.
    pub scrub_bytes: Option<u64>,
    /// Bytes that the repair of one node makes anew, each second.
    pub repair_bytes: Option<u64>,
    /// The part of a disk's time that repair and scrub get while clients use the disk.
    pub background_percent: Option<u8>,
}

/// The rates of a cluster as the metadata keep them. A store without a row of them has the default: none was ever set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRates {
    /// 0 at the cluster's birth, and one more with every change.
    pub generation: u64,
    pub rates: RateOverrides,
}

impl RateOverrides {
    /// Healing that is slower is none.
    pub const LEAST_BYTES: u64 = 1 << 20;
    pub const MOST_PERCENT: u8 = 100;

    /// The names of those that it says, as they are called in a node's configuration.
    pub fn named(&self) -> Vec<&'static str> {
        let said = [
            ("scrub", self.scrub_bytes.is_some()),
            ("repair", self.repair_bytes.is_some()),
            ("background_percent", self.background_percent.is_some()),
        ];
        said.into_iter().filter_map(|(name, said)| said.then_some(name)).collect()
    }

    /// What is wrong with it, on whatever node: a configuration is held to the same.
    pub fn problems(&self) -> Vec<SettingProblem> {
        let bytes = [("rates.scrub", self.scrub_bytes), ("rates.repair", self.repair_bytes)];
        let too_little = |(field, bytes): (&'static str, Option<u64>)| {
            let bytes = bytes.filter(|bytes| *bytes < Self::LEAST_BYTES)?;
            let what = format!("{} a second is too little to get on", Size(bytes));
            Some(SettingProblem { field, what, fix: format!("give at least {}", Size(Self::LEAST_BYTES)) })
        };
        let no_part = |percent: u8| SettingProblem {
            field: "rates.background_percent",
            what: format!("{percent} is no part of a disk's time that would heal it"),
            fix: format!("give 1 to {}", Self::MOST_PERCENT),
        };
        let percent = self.background_percent.filter(|percent| !(1..=Self::MOST_PERCENT).contains(percent));
        bytes.into_iter().filter_map(too_little).chain(percent.map(no_part)).collect()
    }
}
