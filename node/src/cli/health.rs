//! What `cairn status` says first: whether the data is safe, what is done about it, how full disks are, and how long
//! ago their bytes were verified.

use serde::Deserialize;

use crate::words::{bytes, duration, plural};

/// The exit codes of `cairn status`.
const SAFE: u8 = 0;
const DEGRADED: u8 = 1;
const AT_RISK: u8 = 2;
/// Also where nobody answers.
pub(crate) const UNKNOWN: u8 = 3;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HealthView {
    state: String,
    words: String,
}

impl HealthView {
    /// None from a node of a version that does not tell.
    pub(super) fn in_words(health: Option<&Self>) -> &str {
        health.map_or("unknown: the node that was asked is of a version that does not tell", |health| &health.words)
    }

    pub(super) fn code(health: Option<&Self>) -> u8 {
        match health.map(|health| &*health.state) {
            Some("safe") => SAFE,
            Some("degraded") => DEGRADED,
            Some("at_risk" | "unavailable") => AT_RISK,
            _ => UNKNOWN,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RepairView {
    missing: Vec<MissingView>,
    node_bytes_per_second: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MissingView {
    tolerance: i64,
    fragments: u64,
    eta_seconds: Option<u64>,
}

impl RepairView {
    /// None while there is nothing to do.
    pub(super) fn in_words(&self, seen_by: &str) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let parts = self.missing.iter().map(|MissingView { tolerance, fragments, eta_seconds }| {
            let of = match tolerance {
                ..0 => "that cannot be read now".to_owned(),
                0 => "that can lose nothing more".to_owned(),
                more => format!("that can lose {more} more"),
            };
            let until = match eta_seconds {
                Some(seconds) => format!("done in {}", duration(*seconds)),
                None => "until when is unknown".to_owned(),
            };
            format!("{fragments} of stripes {of}, {until}")
        });
        let parts: Vec<String> = parts.collect();
        Some(format!("{}; {seen_by} makes {} a second", parts.join("; "), bytes(self.node_bytes_per_second)))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SpaceView {
    capacity_bytes: u64,
    used_bytes: u64,
    free_bytes: u64,
    silent_disks: u64,
    fullest_percent: Option<f64>,
    emptiest_percent: Option<f64>,
    fullest_disk: Option<String>,
}

impl SpaceView {
    pub(super) fn in_words(&self) -> String {
        let silent = match self.silent_disks {
            0 => String::new(),
            1 => "; 1 disk does not tell: what it holds is unknown".to_owned(),
            disks => format!("; {disks} disks do not tell: what they hold is unknown"),
        };
        let (Some(fullest), Some(emptiest)) = (self.fullest_percent, self.emptiest_percent) else {
            return format!("unknown{silent}");
        };
        let which = self.fullest_disk.as_deref().map(|disk| format!(" (disk {disk})")).unwrap_or_default();
        format!(
            "{} used, {} free of {}; fullest disk {fullest} %{which}, emptiest {emptiest} %{silent}",
            bytes(self.used_bytes),
            bytes(self.free_bytes),
            bytes(self.capacity_bytes)
        )
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScrubView {
    oldest_seconds: Option<u64>,
    disks: Vec<(String, Option<u64>)>,
    unknown_disks: u64,
}

impl ScrubView {
    pub(super) fn in_words(&self, seen_by: &str) -> String {
        let never = self.disks.iter().filter(|(_, age)| age.is_none()).count();
        let oldest = match self.oldest_seconds {
            Some(seconds) => format!("the oldest unverified byte is {} old", duration(seconds)),
            None if never > 0 => {
                format!("the age of the oldest unverified byte is unknown: {} had no whole pass", plural(never, "disk"))
            }
            None => "the age of the oldest unverified byte is unknown yet".to_owned(),
        };
        match self.unknown_disks {
            0 => oldest,
            disks => {
                format!("{oldest}; of {} {seen_by} does not know it: ask their nodes", plural(disks as usize, "disk"))
            }
        }
    }
}

/// A sum of figures of which some may not be known.
pub(super) fn known_sum(figures: impl Iterator<Item = Option<u64>>, shown: impl Fn(u64) -> String) -> String {
    let (mut sum, mut known, mut unknown) = (0u64, 0, 0);
    for figure in figures {
        match figure {
            Some(figure) => (sum, known) = (sum.saturating_add(figure), known + 1),
            None => unknown += 1,
        }
    }
    match (known, unknown) {
        (_, 0) => shown(sum),
        (0, _) => "unknown".to_owned(),
        _ => format!("{} or more", shown(sum)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn view<T: for<'a> Deserialize<'a>>(json: Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        assert_eq!(HealthView::code(None), 3);
        assert!(HealthView::in_words(None).starts_with("unknown:"));
        for (state, code) in
            [("safe", 0), ("degraded", 1), ("at_risk", 2), ("unavailable", 2), ("unknown", 3), ("of the future", 3)]
        {
            let health: HealthView = view(json!({"state": state, "words": "said"}));
            assert_eq!((HealthView::code(Some(&health)), HealthView::in_words(Some(&health))), (code, "said"));
        }
        let silent: SpaceView = view(json!({"silent_disks": 3}));
        assert_eq!(silent.in_words(), "unknown; 3 disks do not tell: what they hold is unknown");
        let shown = |figures: &[Option<u64>]| known_sum(figures.iter().copied(), |sum| sum.to_string());
        assert_eq!((shown(&[Some(1), Some(2)]), shown(&[None, None])), ("3".into(), "unknown".into()));
        assert_eq!(shown(&[Some(1), None]), "1 or more");
    }

    #[test]
    fn what_is_being_done_and_until_when() {
        let repair: RepairView = view(json!({
            "missing": [
                {"tolerance": -1, "fragments": 2, "eta_seconds": null},
                {"tolerance": 0, "fragments": 10, "eta_seconds": 30},
                {"tolerance": 1, "fragments": 300, "eta_seconds": 120}
            ],
            "node_bytes_per_second": 12 << 20
        }));
        assert_eq!(
            repair.in_words("n1").unwrap(),
            "2 of stripes that cannot be read now, until when is unknown; 10 of stripes that can lose nothing more, done in \
             30 s; 300 of stripes that can lose 1 more, done in 2 min; n1 makes 12.0 MiB a second"
        );
        assert_eq!(RepairView::default().in_words("n1"), None);
        let space: SpaceView = view(json!({
            "capacity_bytes": 4u64 << 30, "used_bytes": 1u64 << 30, "free_bytes": 2u64 << 30, "silent_disks": 1,
            "fullest_percent": 81.5, "emptiest_percent": 12.0, "fullest_disk": "d1"
        }));
        assert_eq!(
            space.in_words(),
            "1.00 GiB used, 2.00 GiB free of 4.00 GiB; fullest disk 81.5 % (disk d1), emptiest 12 %; 1 disk does not tell: \
             what it holds is unknown"
        );
        let scrub = |disks: Value, oldest: Value, unknown: u64| -> String {
            let scrub: ScrubView = view(json!({"disks": disks, "oldest_seconds": oldest, "unknown_disks": unknown}));
            scrub.in_words("n1")
        };
        assert_eq!(scrub(json!([["a", 90_000]]), json!(90_000), 0), "the oldest unverified byte is 1 d old");
        let partly = scrub(json!([["a", 60], ["b", null]]), json!(null), 4);
        assert!(partly.contains("unknown: 1 disk had no whole pass; of 4 disks n1 does not know it"), "{partly}");
    }
}
