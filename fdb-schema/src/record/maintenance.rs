//! Nodes that operators work on: what is down there comes back, so nothing is moved for it.

use serde::{Deserialize, Serialize};

use crate::{ids::NodeId, record::SettingProblem};

/// Nodes under maintenance as the metadata keep them. A store without a row of them has the default: there were none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMaintenance {
    /// 0 at the cluster's birth, and one more with every change.
    pub serial: u64,
    /// In order of node, at most one of each.
    pub windows: Vec<MaintenanceWindow>,
}

/// For how long a node is under maintenance.
///
/// No clock is compared with another: a node that sees the window measures `for_ms` from when it first saw it, by a
/// clock of its own that never goes back, as leases are measured. Whose time is over first takes the window away for
/// all. `started_ms` is for people, and for [`MaintenanceWindow::is_long_over`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    pub node: NodeId,
    /// That of the change by which it was opened: one that is renewed is another.
    pub serial: u64,
    /// By the clock of whoever opened it, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    pub for_ms: u64,
}

impl MaintenanceWindow {
    pub const LEAST_MS: u64 = 1000;
    pub const LONGEST_MS: u64 = 7 * 24 * 3_600_000;
    /// Clocks that are wrong by less end nothing early.
    const SLACK_MS: u64 = 3_600_000;

    /// Whether the clock on the wall says that it was over long ago. Nodes that restart again and again each see it
    /// anew, and would never come to the end of its time.
    pub fn is_long_over(&self, now_ms: u64) -> bool {
        now_ms >= self.started_ms.saturating_add(self.for_ms).saturating_add(Self::SLACK_MS)
    }
}

impl ClusterMaintenance {
    /// One row holds them all.
    pub const MOST: usize = 256;

    pub fn of(&self, node: &NodeId) -> Option<&MaintenanceWindow> {
        self.windows.iter().find(|window| window.node == *node)
    }

    /// With a node under maintenance from now on, whatever it was before.
    pub fn started(&self, node: NodeId, for_ms: u64, now_ms: u64) -> Self {
        let serial = self.serial.saturating_add(1);
        let mut windows = self.windows.clone();
        windows.retain(|window| window.node != node);
        windows.push(MaintenanceWindow { node, serial, started_ms: now_ms, for_ms });
        windows.sort_by(|a, b| a.node.cmp(&b.node));
        Self { serial, windows }
    }

    /// Without some windows.
    pub fn without(&self, gone: impl Fn(&MaintenanceWindow) -> bool) -> Self {
        let windows: Vec<_> = self.windows.iter().filter(|window| !gone(window)).cloned().collect();
        let serial = if windows == self.windows { self.serial } else { self.serial.saturating_add(1) };
        Self { serial, windows }
    }

    /// What is wrong with it, on whatever cluster.
    pub fn problems(&self) -> Vec<SettingProblem> {
        let mut problems = Vec::new();
        let mut wrong = |what: String, fix: String| problems.push(SettingProblem { field: "maintenance", what, fix });
        if self.windows.len() > Self::MOST {
            wrong(
                format!("{} nodes would be under maintenance", self.windows.len()),
                format!("end some: there may be {}", Self::MOST),
            );
        }
        for MaintenanceWindow { node, for_ms, .. } in &self.windows {
            if !(MaintenanceWindow::LEAST_MS..=MaintenanceWindow::LONGEST_MS).contains(for_ms) {
                wrong(format!("{for_ms} ms is no time for work on {node}"), "give 1 s to 7 d".to_owned());
            }
        }
        if let Some(pair) = self.windows.windows(2).find(|pair| pair[0].node >= pair[1].node) {
            wrong(format!("{} is named twice, or out of order", pair[1].node), "name each node once".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn windows_are_opened_renewed_and_ended() {
        let none = ClusterMaintenance::default();
        let two = none.started(node("n2"), 5000, 7).started(node("n1"), 6000, 8);
        let named = |kept: &ClusterMaintenance| -> Vec<(String, u64, u64)> {
            kept.windows.iter().map(|window| (window.node.to_string(), window.serial, window.for_ms)).collect()
        };
        assert_eq!(named(&two), [("n1".into(), 2, 6000), ("n2".into(), 1, 5000)]);
        let renewed = two.started(node("n2"), 9000, 9);
        assert_eq!(named(&renewed), [("n1".into(), 2, 6000), ("n2".into(), 3, 9000)]);
        // Of one that was renewed meanwhile the end of the one before ends nothing.
        assert_eq!(renewed.without(|window| window.serial == 1), renewed);
        let ended = renewed.without(|window| window.node == node("n2"));
        assert_eq!((named(&ended), ended.serial), (vec![("n1".into(), 2, 6000)], 4));
        assert!(ended.problems().is_empty() && two.problems().is_empty());
    }

    #[test]
    fn what_no_cluster_could_have_is_named() {
        let first = |kept: &ClusterMaintenance| kept.problems().first().map(ToString::to_string).unwrap_or_default();
        for wrong in [0, 999, MaintenanceWindow::LONGEST_MS + 1] {
            let said = first(&ClusterMaintenance::default().started(node("n1"), wrong, 0));
            assert!(said.contains("is no time for work on n1 (give 1 s to 7 d)"), "{said}");
        }
        let mut many = ClusterMaintenance::default();
        for number in 0..=ClusterMaintenance::MOST {
            many = many.started(node(&format!("n{number}")), 1000, 0);
        }
        assert!(first(&many).contains("257 nodes would be under maintenance (end some: there may be 256)"));
        let mut twice = ClusterMaintenance::default().started(node("n1"), 1000, 0);
        twice.windows.push(twice.windows[0].clone());
        assert!(first(&twice).contains("n1 is named twice"), "{}", first(&twice));
    }

    #[test]
    fn a_wrong_clock_ends_nothing_early_and_no_window_is_for_ever() {
        let kept = ClusterMaintenance::default().started(node("n1"), 60_000, 1_000_000);
        let over = |now_ms| kept.windows[0].is_long_over(now_ms);
        assert!(!over(0) && !over(1_060_000) && !over(1_060_000 + 3_599_999));
        assert!(over(1_060_000 + 3_600_000) && over(u64::MAX));
    }
}
