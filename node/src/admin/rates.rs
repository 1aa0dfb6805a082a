//! `/v1/rates`: how fast nodes repair and scrub, shown and changed for all of them.

use cairn_actors::runtime::NodeRuntime;
use cairn_schema::record::RateOverrides;
use serde::{Deserialize, Serialize};

use super::desk::{self, Desk, Refusal, said};
use crate::config::Size;

/// The rates that the node that is asked goes by, as they are written in configuration files.
#[derive(Debug, Serialize)]
pub(crate) struct RatesPage {
    seen_by: String,
    generation: u64,
    scrub: String,
    repair: String,
    background_percent: u8,
    /// Which of them are the cluster's; the others are the node's own.
    of_cluster: Vec<&'static str>,
}

impl RatesPage {
    fn of(node: &NodeRuntime) -> Self {
        let view = node.rates();
        let rates = view.in_force();
        Self {
            seen_by: node.id().to_string(),
            generation: view.kept.generation,
            scrub: Size(rates.scrub_bytes).to_string(),
            repair: Size(rates.repair_bytes).to_string(),
            background_percent: rates.background_percent(),
            of_cluster: view.kept.rates.named(),
        }
    }
}

/// What is to be other than it was at `expected_generation`. What is left out stays; what is null is left to each
/// node's own configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RatesChange {
    expected_generation: u64,
    #[serde(default, deserialize_with = "said")]
    scrub: Option<Option<Size>>,
    #[serde(default, deserialize_with = "said")]
    repair: Option<Option<Size>>,
    #[serde(default, deserialize_with = "said")]
    background_percent: Option<Option<u8>>,
}

impl RatesChange {
    fn of(&self, before: &RateOverrides) -> RateOverrides {
        let bytes = |size: Option<Size>| size.map(|size| size.0);
        RateOverrides {
            scrub_bytes: self.scrub.map_or(before.scrub_bytes, bytes),
            repair_bytes: self.repair.map_or(before.repair_bytes, bytes),
            background_percent: self.background_percent.unwrap_or(before.background_percent),
        }
    }
}

impl Desk<'_> {
    pub(super) fn rates(&self) -> Result<RatesPage, Refusal> {
        self.first().map(RatesPage::of)
    }

    pub(super) async fn change_rates(&self, body: &[u8]) -> Result<RatesPage, Refusal> {
        let first = self.first()?;
        let change: RatesChange = desk::change(body)?;
        let before = first.kept_rates().await?;
        desk::seen_last("rates", before.generation, change.expected_generation)?;
        first.set_rates(before.generation, change.of(&before.rates)).await?;
        self.tell_others().await;
        Ok(RatesPage::of(first))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_change_sets_takes_back_and_leaves_what_it_does_not_name() {
        let before =
            RateOverrides { scrub_bytes: Some(1 << 20), repair_bytes: Some(2 << 20), background_percent: None };
        let change: RatesChange =
            serde_json::from_str(r#"{"expected_generation": 1, "scrub": null, "background_percent": 50}"#).unwrap();
        let after = RateOverrides { scrub_bytes: None, background_percent: Some(50), ..before };
        assert_eq!(change.of(&before), after);
        let change: RatesChange = serde_json::from_str(r#"{"expected_generation": 1, "repair": "1 GiB"}"#).unwrap();
        assert_eq!(change.of(&before), RateOverrides { repair_bytes: Some(1 << 30), ..before });
        for wrong in [
            "{}",
            r#"{"expected_generation": 1, "scurb": null}"#,
            r#"{"expected_generation": 1, "scrub": "fast"}"#,
            r#"{"expected_generation": 1, "background_percent": 300}"#,
        ] {
            assert!(serde_json::from_str::<RatesChange>(wrong).is_err(), "{wrong}");
        }
    }
}
