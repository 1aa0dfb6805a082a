//! Certificates of the mutual TLS between nodes, as files.

use std::path::Path;

use cairn_actors::{
    runtime::Identity,
    tls::{self, PemPair},
};
use cairn_schema::ids::NodeId;

use crate::{config::TlsSection, failure::Failure, files};

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// `cairn cert new-ca`: makes `ca.pem` and `ca.key` in `dir`.
/// `name` only helps people to tell authorities apart.
pub(crate) fn new_ca(dir: &Path, name: &str) -> Result<(), Failure> {
    files::create_folder(dir)?;
    files::refuse_existing(&[&dir.join(CA_CERT), &dir.join(CA_KEY)])?;
    let ca = tls::new_ca(name).map_err(failure)?;
    // The key first: a certificate without its key would block a second try, and help nobody.
    files::write_new_secret(&dir.join(CA_KEY), ca.key_pem.as_bytes())?;
    files::write_new_secret(&dir.join(CA_CERT), ca.cert_pem.as_bytes())?;
    Ok(())
}

/// `cairn cert new-node`: makes `ID.pem` and `ID.key` in `out`, signed by the authority in `dir`.
pub(crate) fn new_node(dir: &Path, id: &NodeId, out: &Path) -> Result<(), Failure> {
    let ca = PemPair { cert_pem: files::read_text(&dir.join(CA_CERT))?, key_pem: files::read_text(&dir.join(CA_KEY))? };
    files::create_folder(out)?;
    let (cert, key) = node_files(out, id);
    files::refuse_existing(&[&cert, &key])?;
    let made = tls::new_node(&ca, id, &[]).map_err(failure)?;
    files::write_new_secret(&key, made.key_pem.as_bytes())?;
    files::write_new_secret(&cert, made.cert_pem.as_bytes())?;
    Ok(())
}

/// The identity that a configuration names.
pub(crate) fn read_identity(tls: &TlsSection) -> Result<Identity, Failure> {
    Ok(Identity {
        ca_pem: files::read_text(&tls.ca)?,
        cert_pem: files::read_text(&tls.cert)?,
        key_pem: files::read_text(&tls.key)?,
    })
}

/// The identity of a node of `cairn dev`; the authority and the node's certificate are made when they are not there
/// yet.
pub(crate) fn dev_identity(dir: &Path, id: &NodeId) -> Result<Identity, Failure> {
    if !dir.join(CA_CERT).exists() {
        new_ca(dir, "dev")?;
    }
    let (cert, key) = node_files(dir, id);
    if !cert.exists() {
        new_node(dir, id, dir)?;
    }
    read_identity(&TlsSection { ca: dir.join(CA_CERT), cert, key })
}

fn node_files(dir: &Path, id: &NodeId) -> (std::path::PathBuf, std::path::PathBuf) {
    (dir.join(format!("{id}.pem")), dir.join(format!("{id}.key")))
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::Certificates(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn certificates_are_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("tls");
        let id: NodeId = "n1".parse().unwrap();
        new_ca(&dir, "test").unwrap();
        new_node(&dir, &id, &dir).unwrap();
        for name in ["ca.pem", "ca.key", "n1.pem", "n1.key"] {
            let file = dir.join(name);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        let before = std::fs::read(dir.join("ca.key")).unwrap();
        assert!(new_ca(&dir, "test").unwrap_err().to_string().contains("refuse to overwrite"));
        assert!(new_node(&dir, &id, &dir).unwrap_err().to_string().contains("refuse to overwrite"));
        assert_eq!(std::fs::read(dir.join("ca.key")).unwrap(), before);
    }

    #[test]
    fn without_an_authority_there_is_no_node() {
        let folder = tempfile::tempdir().unwrap();
        let error = new_node(folder.path(), &"n1".parse().unwrap(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("ca.pem"), "{error}");
    }

    #[test]
    fn a_second_start_of_dev_keeps_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let id: NodeId = "n1".parse().unwrap();
        let first = dev_identity(folder.path(), &id).unwrap();
        assert_eq!(dev_identity(folder.path(), &id).unwrap().cert_pem, first.cert_pem);
        let other = dev_identity(folder.path(), &"n2".parse().unwrap()).unwrap();
        assert_eq!(other.ca_pem, first.ca_pem);
        assert_ne!(other.cert_pem, first.cert_pem);
    }
}
