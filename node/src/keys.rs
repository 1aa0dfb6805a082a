//! The root user's keys: from the environment, or from a configuration, or (for `cairn dev` alone) well known.

use std::path::Path;

use cairn_gateway::{KeyFile, Keyring, SecretsKey, VaultOptions};

use crate::{
    config::{EncryptionSection, NodeFile, VaultSection},
    failure::Failure,
    files,
};

const ACCESS: &str = "CAIRN_ROOT_ACCESS_KEY";
const SECRET: &str = "CAIRN_ROOT_SECRET_KEY";
/// What a message calls both.
pub(crate) const VARIABLES: &str = "CAIRN_ROOT_ACCESS_KEY and CAIRN_ROOT_SECRET_KEY";
const DEV_ACCESS_KEY: &str = "cairndev";
const DEV_SECRET_KEY: &str = "cairndevsecret";

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RootKeys {
    pub access: String,
    pub secret: String,
    /// Set in the environment or a file, so not to be printed.
    pub private: bool,
}

impl RootKeys {
    /// The environment's, or the well-known ones.
    pub(crate) fn for_dev() -> Result<Self, Failure> {
        let well_known =
            || Self { access: DEV_ACCESS_KEY.to_owned(), secret: DEV_SECRET_KEY.to_owned(), private: false };
        Ok(from_environment(env(ACCESS), env(SECRET))?.unwrap_or_else(well_known))
    }

    /// The environment's, or the configuration's. There is no default: a cluster with well-known keys is nobody's.
    pub(crate) fn for_node(file: &NodeFile) -> Result<Self, Failure> {
        if let Some(keys) = from_environment(env(ACCESS), env(SECRET))? {
            return Ok(keys);
        }
        let (Some(access), Some(path)) = (&file.s3.access_key, &file.s3.secret_key_file) else {
            return Err(Failure::Keys(format!(
                "none are set: give s3.access_key and s3.secret_key_file in the configuration, or {VARIABLES} in the environment"
            )));
        };
        let secret = first_line(&files::read_text(path)?).to_owned();
        if secret.is_empty() {
            return Err(Failure::Keys(format!("the first line of {} is empty", path.display())));
        }
        Ok(Self { access: access.clone(), secret, private: true })
    }
}

/// The key by which secrets of users are encrypted.
pub(crate) fn secrets_key(path: &Path) -> Result<SecretsKey, Failure> {
    let text = files::read_text(path)?;
    SecretsKey::parse(first_line(&text)).map_err(|error| Failure::Keys(format!("{}: {error}", path.display())))
}

/// The keys by which objects are encrypted, if there are to be any.
pub(crate) fn keyring(section: &EncryptionSection) -> Result<Option<Keyring>, Failure> {
    if let Some(path) = &section.key_file {
        return key_file(path).map(Some);
    }
    let Some(vault) = &section.vault else { return Ok(None) };
    let VaultSection { address, mount, key, token_file, ca, namespace, data_key_age } = vault.clone();
    let ca_pem = ca.as_deref().map(files::read_text).transpose()?;
    let data_key_age = data_key_age.0;
    let options = VaultOptions { address, mount, key, token_file, ca_pem, namespace, data_key_age };
    let wrong = |error| Failure::Keys(format!("s3.encryption.vault: {error}"));
    Keyring::of_vault(options).map(Some).map_err(wrong)
}

fn key_file(path: &Path) -> Result<Keyring, Failure> {
    let wrong = |error| Failure::Keys(format!("{}: {error}", path.display()));
    Ok(Keyring::of_file(KeyFile::parse(&files::read_text(path)?).map_err(wrong)?))
}

/// Those of `cairn dev`, in its folder as the key of secrets is.
pub(crate) fn dev_keyring(path: &Path) -> Result<Keyring, Failure> {
    if !path.exists() {
        let made = KeyFile::generate().ok_or_else(|| Failure::Keys("the system gives no random numbers".into()))?;
        files::write_new_secret(path, made.as_bytes())?;
    }
    key_file(path)
}

/// The same for `cairn dev`, which makes one beside its data: whoever has the folder has everything in it.
pub(crate) fn dev_secrets_key(path: &Path) -> Result<SecretsKey, Failure> {
    if !path.exists() {
        let made = SecretsKey::generate().ok_or_else(|| Failure::Keys("the system gives no random numbers".into()))?;
        files::write_new_secret(path, format!("{made}\n").as_bytes())?;
    }
    secrets_key(path)
}

/// What a file with a secret key says.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn from_environment(access: Option<String>, secret: Option<String>) -> Result<Option<RootKeys>, Failure> {
    match (access, secret) {
        (Some(access), Some(secret)) => Ok(Some(RootKeys { access, secret, private: true })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Failure::Keys(format!("{ACCESS} is set but {SECRET} is not: set both or neither"))),
        (None, Some(_)) => Err(Failure::Keys(format!("{SECRET} is set but {ACCESS} is not: set both or neither"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_come_in_pairs() {
        let some = |text: &str| Some(text.to_owned());
        assert!(from_environment(None, None).unwrap().is_none());
        assert_eq!(from_environment(some("a"), some("s")).unwrap().map(|keys| keys.access), some("a"));
        assert!(from_environment(some("a"), None).is_err());
        assert!(from_environment(None, some("s")).is_err());
    }
}
