//! The folders of the disks: each a disk of one and the same cluster, or empty so that one is made of it.

use std::collections::HashMap;

use cairn_actors::{
    disk::tools::{self, Glance},
    fragment::DiskError,
};
use cairn_schema::ids::{ClusterId, DiskId};

use super::look::{Depth, check_makeable};
use crate::config::{DiskSection, Findings};

fn field(index: usize) -> String {
    format!("disks[{index}].path")
}

/// Whether a process has one of them open.
pub(super) fn check(disks: &[DiskSection], depth: Depth, findings: &mut Findings<'_>) -> bool {
    let mut in_use = false;
    let mut sections: HashMap<DiskId, usize> = HashMap::new();
    let mut first: Option<(usize, ClusterId)> = None;
    for (index, section) in disks.iter().enumerate() {
        let field = field(index);
        let glance = match tools::glance(&section.path) {
            Ok(glance) => glance,
            Err(DiskError::Refused { why, .. }) => {
                let what = format!("{}: {why}", section.path.display());
                findings.refuse(&field, what, "name an empty folder, or the disk of this cluster that belongs here");
                continue;
            }
            // A node starts without a disk that is broken, as long as it has another.
            Err(error) => {
                if depth == Depth::Check {
                    findings.refuse(&field, error.to_string(), "mount it, correct the path, or let this user read it");
                }
                continue;
            }
        };
        in_use |= glance.in_use;
        let Some((cluster, disk)) = glance.identity else {
            if depth == Depth::Check {
                check_makeable(&field, &section.path, findings);
            }
            continue;
        };
        if let Some(twin) = sections.insert(disk, index) {
            let what = format!("{} is the same disk as disks[{twin}]", section.path.display());
            findings.refuse(&field, what, "name every disk once");
        }
        match first {
            Some((other, expected)) if expected != cluster => {
                let what = format!("this disk belongs to cluster {cluster}, and disks[{other}] to {expected}");
                findings.refuse(&field, what, "name only disks of one cluster");
            }
            Some(_) => {}
            None => first = Some((index, cluster)),
        }
    }
    in_use
}

/// The clusters that the disks say they are of, by their place in the configuration.
pub(super) fn clusters(disks: &[DiskSection]) -> Vec<(usize, ClusterId)> {
    let identities = disks.iter().enumerate().filter_map(|(index, section)| {
        let Glance { identity, .. } = tools::glance(&section.path).ok()?;
        Some((index, identity?.0))
    });
    identities.collect()
}

/// Refuses disks of another cluster than the metadata's. `None` is a metadata store that no node has used yet.
pub(super) fn check_cluster(disks: &[DiskSection], cluster: Option<ClusterId>, findings: &mut Findings<'_>) {
    for (index, of) in clusters(disks) {
        if Some(of) == cluster {
            continue;
        }
        let metadata = cluster.map_or("is new and has none".to_owned(), |cluster| format!("is of cluster {cluster}"));
        let what = format!("this disk belongs to cluster {of}, and the metadata store {metadata}");
        findings.refuse(&field(index), what, "name the disks and the metadata store of one cluster");
    }
}
