//! The keys of the cluster: by whom keys of versions are wrapped and opened.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::record::{Encryption, EncryptionKind};
use parking_lot::Mutex;

use super::{
    blocks::VersionKey,
    data_keys::{DataKey, DataKeys},
    error::KeyError,
    key_file::KeyFile,
    secret::Secret,
    vault::{Vault, VaultError, VaultOptions},
    wrap::{Wrapped, wrap},
};

/// How long it is believed which version of a key is the newest, where that is asked before each rewrapping.
const NEWEST_AGE: Duration = Duration::from_secs(30);
const MOST_NAMES: usize = 256;

/// The keys by which objects are encrypted. Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<Backend>);

enum Backend {
    File(KeyFile),
    Vault(Box<VaultKeys>),
}

struct VaultKeys {
    vault: Vault,
    /// Those that wrap what is written now, by what they are for.
    writing: DataKeys,
    /// Those that were opened, by what the key management calls them.
    opened: DataKeys,
    newest: Mutex<HashMap<String, (Instant, u32)>>,
}

/// A key that a new version is to have.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    /// Cluster or Kms.
    pub(crate) kind: EncryptionKind,
    /// None for the default.
    pub(crate) key_id: Option<&'a str>,
    pub(crate) context: Option<&'a str>,
    /// Other versions in this bucket may share a data key.
    pub(crate) bucket: &'a str,
    pub(crate) bucket_key: bool,
}

/// Any version of a key will do: the newest is taken, or one that was the newest some minutes ago.
const ANY_VERSION: u32 = 0;

/// What an operator is told.
#[derive(Clone, Debug)]
pub struct KeyringStatus {
    /// `file` or `vault`.
    pub backend: &'static str,
    /// Of the key management.
    pub address: Option<String>,
    pub default_key: String,
    /// Names with the versions that are there and the one that wraps, where they can be told.
    pub keys: Vec<(String, Vec<u32>, u32)>,
    /// Why the key management cannot be used now.
    pub problem: Option<String>,
    /// How long ago it answered, and how long ago it did not.
    pub answered_ago: Option<Duration>,
    pub failed_ago: Option<(Duration, String)>,
    /// Data keys that are remembered, and for how long each.
    pub data_keys: usize,
    pub data_key_age: Option<Duration>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            Backend::File(file) => f.debug_tuple("Keyring").field(file).finish(),
            Backend::Vault(keys) => f.debug_tuple("Keyring").field(&keys.vault.options().address).finish(),
        }
    }
}

impl Keyring {
    /// Keys in a file.
    pub fn of_file(file: KeyFile) -> Self {
        Self(Arc::new(Backend::File(file)))
    }

    /// Keys in a key management, which is not asked for anything yet.
    ///
    /// # Errors
    /// For options that cannot be used.
    pub fn of_vault(options: VaultOptions) -> Result<Self, VaultError> {
        let age = options.data_key_age;
        let vault = Vault::new(options)?;
        let (writing, opened) = (DataKeys::new(age), DataKeys::new(age));
        Ok(Self(Arc::new(Backend::Vault(Box::new(VaultKeys { vault, writing, opened, newest: Mutex::default() })))))
    }

    fn default_name(&self) -> &str {
        match &*self.0 {
            Backend::File(file) => file.default_name(),
            Backend::Vault(keys) => &keys.vault.options().key,
        }
    }

    /// The name of a key, however a client writes it: `NAME`, `alias/NAME`, or the ARN of either.
    pub(crate) fn key_name<'a>(&'a self, key_id: Option<&'a str>) -> &'a str {
        let Some(key_id) = key_id else { return self.default_name() };
        let local = match key_id.strip_prefix("arn:") {
            Some(arn) => arn.rsplit(':').next().unwrap_or_default(),
            None => key_id,
        };
        local.strip_prefix("alias/").or_else(|| local.strip_prefix("key/")).unwrap_or(local)
    }

    /// A new key for a version, and what is kept of it.
    pub(crate) async fn wrap(&self, wanted: Wanted<'_>) -> Result<(Encryption, VersionKey), KeyError> {
        let key = Secret::draw()?;
        let kept = self.wrap_key(&key, wanted, ANY_VERSION).await?;
        let plain_tags = kept.kind == EncryptionKind::Cluster;
        Ok((kept, VersionKey::new(&key, plain_tags)))
    }

    async fn wrap_key(&self, key: &Secret, wanted: Wanted<'_>, least_version: u32) -> Result<Encryption, KeyError> {
        let Wanted { kind, key_id, context, bucket, bucket_key } = wanted;
        let key_id = self.key_name(key_id).to_owned();
        let context = context.map(ToOwned::to_owned);
        let mut kept = Encryption { kind, key_id, key_version: 0, context, bucket_key, wrapped: Vec::new() };
        match &*self.0 {
            Backend::File(file) => {
                let (version, by) = file.newest(&kept.key_id)?;
                kept.key_version = version;
                wrap(&mut kept, key, by, None)?;
            }
            Backend::Vault(keys) => {
                let by = keys.to_write(&kept, bucket, least_version).await?;
                kept.key_version = by.version;
                wrap(&mut kept, key, &by.key, Some(&by.wrapped))?;
            }
        }
        Ok(kept)
    }

    /// The key of a version.
    pub(crate) async fn open(&self, kept: &Encryption) -> Result<VersionKey, KeyError> {
        let key = self.open_key(kept).await?;
        Ok(VersionKey::new(&key, kept.kind == EncryptionKind::Cluster))
    }

    async fn open_key(&self, kept: &Encryption) -> Result<Secret, KeyError> {
        let wrapped = Wrapped::of(kept)?;
        match (&*self.0, wrapped.data_key) {
            (Backend::File(file), None) => wrapped.open(file.get(&kept.key_id, kept.key_version)?, kept),
            (Backend::Vault(keys), Some(data_key)) => {
                let by = keys.to_open(kept, data_key).await?;
                wrapped.open(&by, kept)
            }
            // It was wrapped where keys came from elsewhere.
            (Backend::File(_), Some(_)) | (Backend::Vault(_), None) => {
                Err(KeyError::NoSuchVersion { key: kept.key_id.clone(), version: kept.key_version })
            }
        }
    }

    /// The same key, wrapped by the newest version; None if that is what wraps it.
    pub(crate) async fn rewrap(&self, kept: &Encryption, bucket: &str) -> Result<Option<Encryption>, KeyError> {
        let newest = match &*self.0 {
            Backend::File(file) => file.newest(&kept.key_id)?.0,
            Backend::Vault(keys) => keys.newest(&kept.key_id).await?,
        };
        if newest <= kept.key_version {
            return Ok(None);
        }
        let key = self.open_key(kept).await?;
        let Encryption { kind, key_id, context, bucket_key, .. } = kept;
        let wanted =
            Wanted { kind: *kind, key_id: Some(key_id), context: context.as_deref(), bucket, bucket_key: *bucket_key };
        self.wrap_key(&key, wanted, newest).await.map(Some)
    }

    /// What an operator wants to know; asks the key management.
    pub async fn status(&self) -> KeyringStatus {
        let default_key = self.default_name().to_owned();
        match &*self.0 {
            Backend::File(file) => KeyringStatus {
                backend: "file",
                address: None,
                default_key,
                keys: file.names().map(|(name, versions, wraps)| (name.to_owned(), versions, wraps)).collect(),
                problem: None,
                answered_ago: None,
                failed_ago: None,
                data_keys: 0,
                data_key_age: None,
            },
            Backend::Vault(keys) => {
                let (known, problem) = match keys.vault.key(&default_key).await {
                    Ok(info) => (vec![(default_key.clone(), info.versions(), info.latest)], None),
                    Err(error) => (Vec::new(), Some(error.to_string())),
                };
                let heard = keys.vault.heard();
                KeyringStatus {
                    backend: "vault",
                    address: Some(keys.vault.options().address.clone()),
                    default_key,
                    keys: known,
                    problem,
                    answered_ago: heard.answered.map(|at| at.elapsed()),
                    failed_ago: heard.failed.map(|(at, why)| (at.elapsed(), why)),
                    data_keys: keys.opened.len(),
                    data_key_age: Some(keys.vault.options().data_key_age),
                }
            }
        }
    }
}

impl VaultKeys {
    /// What the key management binds a data key to.
    fn bound(kept: &Encryption) -> String {
        let kind = if kept.kind == EncryptionKind::Cluster { "s3" } else { "kms" };
        format!("cairn data key 1:{kind}:{}", kept.context.as_deref().unwrap_or_default())
    }

    /// A data key to wrap a version's key by. Keys of the cluster itself always share them within a bucket.
    async fn to_write(&self, kept: &Encryption, bucket: &str, least_version: u32) -> Result<DataKey, KeyError> {
        let shared = kept.bucket_key || kept.kind == EncryptionKind::Cluster;
        let bound = Self::bound(kept);
        let place = format!("{}\n{bucket}\n{bound}", kept.key_id);
        if shared && let Some(key) = self.writing.get(&place).filter(|key| key.version >= least_version) {
            return Ok(key);
        }
        let since = Instant::now();
        let key = Secret::draw()?;
        let (wrapped, version) = self.vault.wrap(&kept.key_id, &key, &bound).await?;
        let made = DataKey { key, wrapped, version };
        if shared {
            self.opened.put(format!("{bound}\n{}", made.wrapped), made.clone(), since);
            self.writing.put(place, made.clone(), since);
        }
        Ok(made)
    }

    async fn to_open(&self, kept: &Encryption, wrapped: &str) -> Result<Secret, KeyError> {
        let shared = kept.bucket_key || kept.kind == EncryptionKind::Cluster;
        let bound = Self::bound(kept);
        let name = format!("{bound}\n{wrapped}");
        if shared && let Some(known) = self.opened.get(&name) {
            return Ok(known.key);
        }
        let since = Instant::now();
        let key = self.vault.open(&kept.key_id, wrapped, &bound).await?;
        if shared {
            let made = DataKey { key: key.clone(), wrapped: wrapped.to_owned(), version: kept.key_version };
            self.opened.put(name, made, since);
        }
        Ok(key)
    }

    async fn newest(&self, name: &str) -> Result<u32, KeyError> {
        if let Some((since, version)) = self.newest.lock().get(name)
            && since.elapsed() < NEWEST_AGE
        {
            return Ok(*version);
        }
        let since = Instant::now();
        let version = self.vault.key(name).await?.latest;
        let mut newest = self.newest.lock();
        if newest.len() >= MOST_NAMES {
            newest.clear();
        }
        newest.insert(name.to_owned(), (since, version));
        Ok(version)
    }
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
