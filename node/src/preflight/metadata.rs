//! The metadata store that a configuration names: one that this build can use, in a folder or at a place of the right
//! form.

use std::{net::ToSocketAddrs, path::Path, time::Duration};

use cairn_schema::{ids::ClusterId, kv::embedded};
use tokio::runtime::Builder;

use super::look::{Depth, check_makeable};
use crate::{
    certs,
    config::{Findings, MetadataKind, MetadataSection, NodeFile},
    failure::Failure,
    metadata::{self, Network},
    notice,
};

/// An operator waits for the answer, and a start would wait for the store.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// Whether a process has the store open, as far as that can be told.
pub(super) fn check(section: &MetadataSection, depth: Depth, findings: &mut Findings<'_>) -> bool {
    match section.kind {
        MetadataKind::Embedded => {
            section.path.as_ref().is_some_and(|path| check_folder("metadata.path", path, findings))
        }
        MetadataKind::Remote => {
            // A start looks the name up as well, right after this.
            if let (Some(address), Depth::Check) = (&section.address, depth)
                && let Err(error) = address.to_socket_addrs()
            {
                let what = format!("{address}: the name cannot be resolved: {error}");
                findings.refuse("metadata.address", what, "correct it, or write an IP address");
            }
            false
        }
        MetadataKind::Fdb => {
            check_fdb(section, findings);
            false
        }
    }
}

/// Of an embedded store; whether a process has it open.
pub(super) fn check_folder(field: &str, path: &Path, findings: &mut Findings<'_>) -> bool {
    match embedded::glance(path) {
        Ok(in_use) => {
            if !path.is_dir() {
                check_makeable(field, path, findings);
            }
            in_use
        }
        Err(error) => {
            findings.refuse(field, error.to_string(), "");
            false
        }
    }
}

#[cfg(feature = "fdb")]
fn check_fdb(section: &MetadataSection, findings: &mut Findings<'_>) {
    use cairn_schema::kv::fdb::cluster_file;
    let file = cluster_file::locate(section.cluster_file.as_deref());
    if let Err(why) = cluster_file::check(&file) {
        let fix = "name the fdb.cluster file that FoundationDB's servers use";
        findings.refuse("metadata.cluster_file", format!("{}: {why}", file.display()), fix);
    }
}

#[cfg(not(feature = "fdb"))]
fn check_fdb(_section: &MetadataSection, findings: &mut Findings<'_>) {
    findings.refuse("metadata.kind", Failure::NoFdb.to_string(), "");
}

/// What the store says of its cluster.
pub(super) enum Answer {
    /// None for a store that no node has used yet.
    Cluster(Option<ClusterId>),
    /// Why it was not told.
    Unknown(String),
}

/// Asks the store, if that changes nothing and it answers soon.
pub(super) fn ask(file: &NodeFile, network: &Network) -> Result<Answer, Failure> {
    if file.metadata.kind == MetadataKind::Embedded {
        // Opening recovers what a crash left, and that changes it.
        return Ok(Answer::Unknown("the metadata store is opened only by a start".to_owned()));
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(async {
        let opened = metadata::connect(file, &certs::read_identity(&file.tls)?, network).await?;
        let meta = opened.meta().with_deadline(ASK_DEADLINE);
        let tell = || notice::on_terminal(&format!("asking {}, for at most {ASK_DEADLINE:?}", opened.place()));
        let asked = notice::while_waiting(meta.existing_cluster(), tell);
        let answer = match tokio::time::timeout(ASK_DEADLINE, asked).await {
            Ok(Ok(cluster)) => Answer::Cluster(cluster),
            Ok(Err(error)) => Answer::Unknown(opened.failure(error).to_string()),
            Err(_) => Answer::Unknown(format!("{} does not answer within {ASK_DEADLINE:?}", opened.place())),
        };
        drop(meta);
        opened.close().await;
        Ok(answer)
    })
}
