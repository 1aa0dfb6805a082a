//! `[s3.events]`: whom buckets' events can be told to.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Findings, Period};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EventsSection {
    /// Events that have waited for so long when a delivery fails are given up.
    pub dead_after: Period,
    /// So are those that their target has refused so many times.
    pub refusals: u32,
    pub webhook: Vec<WebhookSection>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSection {
    pub name: String,
    pub url: String,
    pub ca: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    #[serde(default = "default_timeout")]
    pub timeout: Period,
}

fn default_timeout() -> Period {
    Period::seconds(5)
}

impl Default for EventsSection {
    fn default() -> Self {
        Self { dead_after: Period::seconds(24 * 60 * 60), refusals: 5, webhook: Vec::new() }
    }
}

/// A target that restarts must not cost events.
const LEAST_DEAD_AFTER: Period = Period::seconds(60);

impl EventsSection {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        if self.dead_after < LEAST_DEAD_AFTER {
            let what = format!("{} is too short: a target that restarts would miss events", self.dead_after);
            findings.refuse("s3.events.dead_after", what, format!("give at least {LEAST_DEAD_AFTER}"));
        }
        if self.refusals == 0 {
            findings.refuse("s3.events.refusals", "is 0: nothing would be tried", "leave it out for 5");
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        let files = self.webhook.iter_mut().flat_map(|webhook| [&mut webhook.ca, &mut webhook.token_file]);
        for path in files.flatten() {
            *path = folder.join(&*path);
        }
    }
}
