//! What a configuration comes to on this machine, told before anything is started: certificates, keys, disks, the
//! metadata store, ports.
//!
//! A start and `cairn config check` look through the same functions, so that the one takes what the other calls good.
//! The check looks at two things more that a start finds out by doing them: whether the ports are free, and whose
//! cluster the disks are of. Nothing here changes anything.

mod disks;
mod identity;
mod look;
mod metadata;
mod ports;
mod s3;

use std::path::Path;

use crate::{
    config::{AnyFile, ConfigError, Findings, Loaded, MetaFile, NodeFile},
    failure::Failure,
    metadata::Network,
};
use look::{Depth, Notes};

/// Refuses what a node could not start with.
pub(crate) fn before_node(loaded: &Loaded<NodeFile>) -> Result<(), ConfigError> {
    loaded.check(|file, findings| node(file, Depth::Start, findings, &mut Notes::default()))
}

/// Refuses what a metadata server could not start with.
pub(crate) fn before_meta(loaded: &Loaded<MetaFile>) -> Result<(), ConfigError> {
    loaded.check(|file, findings| meta(file, Depth::Start, findings, &mut Notes::default()))
}

/// `cairn config check`: what there is to say of a file that is good. With `here` not only its text is looked at, but
/// also this machine.
pub(crate) fn check(path: &Path, here: bool) -> Result<String, Failure> {
    let mut notes = Notes::default();
    let kind = match crate::config::load_any(path)? {
        AnyFile::Node(loaded) => {
            if here {
                loaded.check(|file, findings| node(file, Depth::Check, findings, &mut notes))?;
                whose_disks(&loaded, &mut notes)?;
            }
            format!("node {}", loaded.file.node.id)
        }
        AnyFile::Meta(loaded) => {
            if here {
                loaded.check(|file, findings| meta(file, Depth::Check, findings, &mut notes))?;
            }
            format!("metadata server {}", loaded.file.meta.id)
        }
    };
    let notes: String = notes.0.iter().map(|note| format!("note: {note}\n")).collect();
    Ok(format!("{}: good, for {kind}\n{notes}", path.display()))
}

fn node(file: &NodeFile, depth: Depth, findings: &mut Findings<'_>, notes: &mut Notes) {
    identity::check(&file.tls, ("node.id", &file.node.id), findings);
    s3::check(file, depth, findings, notes);
    if let Some(audit) = &file.audit {
        look::check_appendable("audit.path", &audit.path, findings);
    }
    let mut in_use = disks::check(&file.disks, depth, findings);
    in_use |= metadata::check(&file.metadata, depth, findings);
    if depth == Depth::Check {
        let tcp = [("s3.listen", file.s3.listen), ("admin.listen", file.admin.listen)];
        let udp = [("listen.quic", file.listen.quic), ("listen.gossip", file.listen.gossip)];
        ports::check(&tcp, &udp, in_use, findings, notes);
    }
}

fn meta(file: &MetaFile, depth: Depth, findings: &mut Findings<'_>, notes: &mut Notes) {
    identity::check(&file.tls, ("meta.id", &file.meta.id), findings);
    let in_use = metadata::check_folder("meta.path", &file.meta.path, findings);
    if depth == Depth::Check {
        ports::check(
            &[("admin.listen", file.admin.listen)],
            &[("meta.listen", file.meta.listen)],
            in_use,
            findings,
            notes,
        );
    }
}

/// Asks the metadata store, if it answers, whether the disks are its cluster's.
fn whose_disks(loaded: &Loaded<NodeFile>, notes: &mut Notes) -> Result<(), Failure> {
    let file = &loaded.file;
    if disks::clusters(&file.disks).is_empty() {
        return Ok(());
    }
    // Dropped after the runtime that `ask` makes has ended.
    let network = Network::start(file.metadata.kind)?;
    let cluster = match metadata::ask(file, &network)? {
        metadata::Answer::Cluster(cluster) => cluster,
        metadata::Answer::Unknown(why) => {
            notes.0.push(format!("whether the disks are of its cluster is not known: {why}"));
            return Ok(());
        }
    };
    Ok(loaded.check(|file, findings| disks::check_cluster(&file.disks, cluster, findings))?)
}
