//! `/v1/maintenance`: nodes that somebody works on, shown and changed.

use std::time::Duration;

use cairn_actors::runtime::{MaintenanceStatus, NodeRuntime};
use cairn_schema::ids::NodeId;
use serde::{Deserialize, Serialize};

use super::desk::{self, Desk, Refusal};

/// Of this page's form.
const FORMAT: u32 = 1;

/// The nodes under maintenance as the node that is asked knows them.
#[derive(Debug, Serialize)]
pub(crate) struct MaintenancePage {
    format: u32,
    seen_by: String,
    /// Whether what was asked for changed anything; None if nothing was asked for.
    changed: Option<bool>,
    windows: Vec<MaintenanceStatus>,
}

impl MaintenancePage {
    fn of(node: &NodeRuntime, changed: Option<bool>) -> Self {
        Self { format: FORMAT, seen_by: node.id().to_string(), changed, windows: node.maintenance() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum MaintenanceChange {
    /// Again of a node that is under maintenance already: its time begins anew.
    Start {
        node: NodeId,
        for_seconds: u64,
    },
    End {
        node: NodeId,
    },
}

impl Desk<'_> {
    pub(super) fn maintenance(&self) -> Result<MaintenancePage, Refusal> {
        Ok(MaintenancePage::of(self.first()?, None))
    }

    pub(super) async fn change_maintenance(&self, body: &[u8]) -> Result<MaintenancePage, Refusal> {
        let first = self.first()?;
        let changed = match desk::change(body)? {
            MaintenanceChange::Start { node, for_seconds } => {
                first.start_maintenance(node, Duration::from_secs(for_seconds)).await?;
                true
            }
            MaintenanceChange::End { node } => first.end_maintenance(node).await?,
        };
        self.tell_others().await;
        Ok(MaintenancePage::of(first, Some(changed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_whole_or_not_at_all() {
        let read = |text: &str| serde_json::from_str::<MaintenanceChange>(text);
        assert!(matches!(
            read(r#"{"start": {"node": "n1", "for_seconds": 60}}"#),
            Ok(MaintenanceChange::Start { for_seconds: 60, .. })
        ));
        assert!(matches!(read(r#"{"end": {"node": "n1"}}"#), Ok(MaintenanceChange::End { .. })));
        for wrong in [
            "{}",
            r#"{"start": {"node": "n1"}}"#,
            r#"{"start": {"node": "N 1", "for_seconds": 60}}"#,
            r#"{"start": {"node": "n1", "for_seconds": -1}}"#,
            r#"{"end": {"node": "n1", "now": true}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
