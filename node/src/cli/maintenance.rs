//! `cairn admin maintenance`: which nodes somebody works on, through the admin API of any node.

use std::fmt::Write;

use cairn_schema::ids::NodeId;
use serde::Deserialize;
use serde_json::json;

use super::{
    ask::{self, Page},
    operate_args::{MaintenanceArgs, MaintenanceCommand},
};
use crate::{failure::Failure, words::duration};

const PAGE: Page = Page { path: "/v1/maintenance", refused: Failure::MaintenanceRefused };

/// `/v1/maintenance`, read leniently, so that it works across versions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MaintenanceView {
    changed: Option<bool>,
    windows: Vec<WindowView>,
}

/// A node under maintenance.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WindowView {
    pub node: String,
    pub for_seconds: u64,
    pub left_seconds: u64,
}

/// Does it, and says what was found or done.
pub(crate) async fn run(args: &MaintenanceArgs) -> Result<String, Failure> {
    let change = match &args.command {
        MaintenanceCommand::List => None,
        MaintenanceCommand::Start { node, length } => {
            Some(json!({"start": {"node": node, "for_seconds": length.0.as_secs()}}))
        }
        MaintenanceCommand::End { node } => Some(json!({"end": {"node": node}})),
    };
    let page = PAGE.ask(&args.api.admin, change).await?;
    if args.api.json {
        return Ok(String::from_utf8_lossy(&page).into_owned());
    }
    let page: MaintenanceView = ask::read(&args.api.admin, &page)?;
    Ok(match &args.command {
        MaintenanceCommand::List => page.in_words(),
        MaintenanceCommand::Start { node, .. } => page.started(node),
        MaintenanceCommand::End { node } => page.ended(node),
    })
}

impl MaintenanceView {
    fn in_words(&self) -> String {
        if self.windows.is_empty() {
            return "no node is under maintenance\n".to_owned();
        }
        // Writing to a String cannot fail, so results are dropped throughout.
        let mut text = String::new();
        for window in &self.windows {
            let (node, left) = (&window.node, duration(window.left_seconds));
            let _ = writeln!(text, "{node}  {left} left of {}", duration(window.for_seconds));
        }
        text
    }

    fn started(&self, node: &NodeId) -> String {
        let left = self.windows.iter().find(|window| window.node == node.as_str()).map(|window| window.left_seconds);
        let left = left.map_or("a while".to_owned(), duration);
        format!(
            "{node} is under maintenance for {left}: what is down there is not given up, and writes go elsewhere. End it \
             with `cairn admin maintenance end {node}`.\n"
        )
    }

    fn ended(&self, node: &NodeId) -> String {
        match self.changed {
            Some(false) => format!("{node} was not under maintenance\n"),
            _ => format!("{node} is under maintenance no more\n"),
        }
    }
}
