//! `[[s3.web_identity]]`: roles of those whom providers of identities know.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Period;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebIdentitySection {
    pub name: String,
    pub issuer: String,
    pub ca: Option<PathBuf>,
    pub client_ids: Vec<String>,
    /// What every holder of a token gets.
    #[serde(default)]
    pub policies: Vec<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    /// What the token says that its holder gets besides.
    pub policy_claim: Option<String>,
    pub group_claim: Option<String>,
    #[serde(default = "default_longest_session")]
    pub longest_session: Period,
    /// How long the provider's keys are believed while it cannot be asked.
    #[serde(default = "default_keys_age")]
    pub keys_age: Period,
}

fn default_longest_session() -> Period {
    Period::seconds(3600)
}

fn default_keys_age() -> Period {
    Period::seconds(900)
}

impl WebIdentitySection {
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(ca) = &mut self.ca {
            *ca = folder.join(&*ca);
        }
    }
}
