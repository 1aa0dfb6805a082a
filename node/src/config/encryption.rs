//! `[s3.encryption]`: by whose keys objects are encrypted.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Findings, Period};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EncryptionSection {
    /// A file of keys, the same on all nodes and beside no data.
    pub key_file: Option<PathBuf>,
    /// A key management instead.
    pub vault: Option<VaultSection>,
    /// Whether keys that clients keep may come over plain HTTP.
    pub customer_keys_over_http: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultSection {
    pub address: String,
    #[serde(default = "default_mount")]
    pub mount: String,
    pub key: String,
    pub token_file: PathBuf,
    pub ca: Option<PathBuf>,
    pub namespace: Option<String>,
    /// How long a data key of a bucket is used, and believed.
    #[serde(default = "default_data_key_age")]
    pub data_key_age: Period,
}

fn default_mount() -> String {
    "transit".to_owned()
}

fn default_data_key_age() -> Period {
    Period::seconds(300)
}

/// Keys that are believed for longer would outlive their withdrawal by too much.
const MOST_DATA_KEY_AGE: Period = Period::seconds(3600);

impl EncryptionSection {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        if self.key_file.is_some() && self.vault.is_some() {
            let fix = "leave one of them out: keys are in a file or in a key management";
            findings.refuse("s3.encryption.key_file", "stands beside s3.encryption.vault", fix);
        }
        if let Some(vault) = &self.vault
            && vault.data_key_age.0 > MOST_DATA_KEY_AGE.0
        {
            let what = format!("{} is more than {MOST_DATA_KEY_AGE}", vault.data_key_age);
            findings.refuse("s3.encryption.vault.data_key_age", what, "leave it out for 5 minutes");
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        let vault = self.vault.iter_mut().flat_map(|vault| {
            let VaultSection { token_file, ca, .. } = vault;
            std::iter::once(token_file).chain(ca.iter_mut())
        });
        for path in self.key_file.iter_mut().chain(vault) {
            *path = folder.join(&*path);
        }
    }
}
