//! What the S3 gateway is started with: the root user's keys and the certificate of https.

use std::path::{Path, PathBuf};

use cairn_gateway::{Gateway, GatewayError, KeyFile, SecretsKey};

use super::look::{Depth, Notes, read};
use crate::{
    config::{CertificateSection, Findings, NodeFile},
    failure::Failure,
    keys::{self, RootKeys},
    node::gateway_options,
    roles, targets,
};

pub(super) fn check(file: &NodeFile, depth: Depth, findings: &mut Findings<'_>, notes: &mut Notes) {
    if let (Some(cert), Some(key)) = (&file.s3.tls_cert, &file.s3.tls_key) {
        let cert = read("s3.tls_cert", cert, findings);
        let key = read("s3.tls_key", key, findings);
        if cert.is_none() || key.is_none() {
            return;
        }
    }
    for (index, CertificateSection { cert, key, .. }) in file.s3.certificates.iter().enumerate() {
        for (name, path) in [("cert", cert), ("key", key)] {
            if read(&format!("s3.certificates[{index}].{name}"), path, findings).is_none() {
                return;
            }
        }
    }
    if let Some(path) = &file.s3.secrets_key_file {
        let Some(text) = read("s3.secrets_key_file", path, findings) else { return };
        if let Err(error) = SecretsKey::parse(keys::first_line(&text)) {
            let fix = "write it by `openssl rand -hex 32`, once for all nodes";
            return findings.refuse("s3.secrets_key_file", format!("{}: {error}", path.display()), fix);
        }
    }
    if !check_encryption(file, findings) {
        return;
    }
    if !check_events(file, findings) || !check_roles(file, findings) {
        return;
    }
    let Some(keys) = root_keys(file, depth, findings, notes) else { return };
    let options = match gateway_options(file, &keys) {
        Ok(options) => options,
        Err(failure) => return findings.refuse("s3", failure.to_string(), ""),
    };
    match Gateway::check(&options) {
        Ok(()) => {}
        Err(GatewayError::Tls(why)) => {
            let fix = "name a certificate chain and its private key, both PEM";
            findings.refuse("s3.tls_cert", format!("cannot be used for https: {why}"), fix);
        }
        Err(GatewayError::Option { what: "root_access_key", why }) => {
            findings.refuse("s3.access_key", why, "choose another");
        }
        Err(error) => findings.refuse("s3", error.to_string(), ""),
    }
}

/// Whether the keys of objects can be read, and are kept apart from what they encrypt.
fn check_encryption(file: &NodeFile, findings: &mut Findings<'_>) -> bool {
    const KEY_FILE: &str = "s3.encryption.key_file";
    let encryption = &file.s3.encryption;
    if let Some(path) = &encryption.key_file {
        let Some(text) = read(KEY_FILE, path, findings) else { return false };
        if let Err(error) = KeyFile::parse(&text) {
            let fix = "write a line `NAME/VERSION KEY`, the key by `openssl rand -hex 32`, once for all nodes";
            findings.refuse(KEY_FILE, format!("{}: {error}", path.display()), fix);
            return false;
        }
        if let Some(data) = data_beside(file, path) {
            let what = format!("{} lies in {}, with the data that its keys encrypt", path.display(), data.display());
            findings.refuse(KEY_FILE, what, "keep it where neither disks nor backups of metadata are");
            return false;
        }
    }
    if let Some(vault) = &encryption.vault {
        let ca = vault.ca.as_deref().map(|path| ("s3.encryption.vault.ca", path));
        let files = [Some(("s3.encryption.vault.token_file", vault.token_file.as_path())), ca];
        return files.into_iter().flatten().all(|(field, path)| read(field, path, findings).is_some());
    }
    true
}

/// Whether the files of targets can be read, and targets be made of what is said of them.
fn check_events(file: &NodeFile, findings: &mut Findings<'_>) -> bool {
    for (index, webhook) in file.s3.events.webhook.iter().enumerate() {
        for (name, path) in [("ca", &webhook.ca), ("token_file", &webhook.token_file)] {
            if let Some(path) = path
                && read(&format!("s3.events.webhook[{index}].{name}"), path, findings).is_none()
            {
                return false;
            }
        }
    }
    let why = match targets::of(file) {
        Ok(_) => return true,
        Err(Failure::Targets(why)) => why,
        Err(failure) => failure.to_string(),
    };
    findings.refuse("s3.events", why, "ops/config has commented examples");
    false
}

/// The same of the roles of web identities. Their providers are not asked: they may be away when a node starts.
fn check_roles(file: &NodeFile, findings: &mut Findings<'_>) -> bool {
    for (index, role) in file.s3.web_identity.iter().enumerate() {
        if let Some(ca) = &role.ca
            && read(&format!("s3.web_identity[{index}].ca"), ca, findings).is_none()
        {
            return false;
        }
    }
    let why = match roles::of(file) {
        Ok(_) => return true,
        Err(Failure::Roles(why)) => why,
        Err(failure) => failure.to_string(),
    };
    findings.refuse("s3.web_identity", why, "ops/config has commented examples");
    false
}

/// The folder of data that a file lies in.
fn data_beside(file: &NodeFile, path: &Path) -> Option<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folders = file.disks.iter().map(|disk| disk.path.as_path()).chain(file.metadata.path.as_deref());
    let path = real(path);
    folders.map(real).find(|folder| path.starts_with(folder))
}

/// None if they are wrong, which is noted, or if the environment of this process need not be that of the node.
fn root_keys(file: &NodeFile, depth: Depth, findings: &mut Findings<'_>, notes: &mut Notes) -> Option<RootKeys> {
    // Also when the environment overrides it: another start may not have that environment.
    if let Some(path) = &file.s3.secret_key_file {
        let secret = read("s3.secret_key_file", path, findings)?;
        if keys::first_line(&secret).is_empty() {
            let what = format!("the first line of {} is empty", path.display());
            findings.refuse("s3.secret_key_file", what, "write the root secret key into it");
            return None;
        }
    }
    match RootKeys::for_node(file) {
        Ok(keys) => Some(keys),
        Err(failure) => {
            let complete = file.s3.access_key.is_some() && file.s3.secret_key_file.is_some();
            if depth == Depth::Check && !complete {
                notes.0.push(format!("it names no root keys, so a node needs {} in its environment", keys::VARIABLES));
            } else {
                findings.refuse("s3", failure.to_string(), "");
            }
            None
        }
    }
}
