//! Looks at the disks of a cluster from outside, and at its metadata: what an [`Audit`] judges.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    audit::{Audit, Home},
    cluster::{Cluster, Node},
    error::ChaosError,
    process,
};

/// What the disks of all nodes that run hold. They stand still while a copy of their disks is made below `aside`: what
/// a power cut at that moment would leave.
pub fn running(cluster: &Cluster, aside: &Path) -> Result<Audit, ChaosError> {
    let image = tempfile::tempdir_in(aside).map_err(ChaosError::io("make a folder for an image"))?;
    let nodes: Vec<&Node> = cluster.nodes.iter().filter(|node| node.is_running()).collect();
    nodes.iter().for_each(|node| node.freeze());
    let copied = copy(&nodes, image.path()).and_then(|disks| Ok((disks, cluster.placement()?)));
    nodes.iter().for_each(|node| node.thaw());
    let (disks, placement) = copied?;
    audit(cluster, &placement, &disks)
}

/// Stops all nodes that run, and looks at their disks as they left them.
pub fn stopped(cluster: &mut Cluster) -> Result<Audit, ChaosError> {
    let running: Vec<usize> = (0..cluster.nodes.len()).filter(|index| cluster.nodes[*index].is_running()).collect();
    cluster.stop_nodes()?;
    let placement = cluster.placement()?;
    let nodes = running.iter().map(|index| &cluster.nodes[*index]);
    let disks: Vec<_> = nodes.flat_map(disk_folders).collect();
    audit(cluster, &placement, &disks)
}

/// What the disks of a rack that was killed hold.
pub fn killed(cluster: &Cluster, rack: &str) -> Result<Audit, ChaosError> {
    let placement = cluster.placement()?;
    let nodes = cluster.nodes.iter().filter(|node| node.rack == rack && !node.is_running());
    let disks: Vec<_> = nodes.flat_map(disk_folders).collect();
    audit(cluster, &placement, &disks)
}

fn disk_folders(node: &Node) -> impl Iterator<Item = (&Node, PathBuf)> {
    node.disks().map(move |disk| (node, node.folder().join(disk)))
}

fn copy<'a>(nodes: &[&'a Node], image: &Path) -> Result<Vec<(&'a Node, PathBuf)>, ChaosError> {
    let mut copies = Vec::new();
    for (node, folder) in nodes.iter().flat_map(|node| disk_folders(node)) {
        let copy = image.join(copies.len().to_string());
        let mut command = Command::new("cp");
        command.arg("-a").arg(folder).arg(&copy);
        process::run(command, "copy a disk")?;
        copies.push((node, copy));
    }
    Ok(copies)
}

fn audit(cluster: &Cluster, placement: &str, disks: &[(&Node, PathBuf)]) -> Result<Audit, ChaosError> {
    let mut audit = Audit::of(placement)?;
    for (node, folder) in disks {
        let list = cluster.cairn(&["disk", "list", "--digests", "--json", &folder.to_string_lossy()])?;
        // Of a cluster of one node the disks are the failure domains.
        let alone = cluster.nodes.len() == 1;
        let rack = if alone { folder.to_string_lossy().into_owned() } else { node.rack.clone() };
        audit.take_disk(Home { node: node.id.clone(), rack }, &list)?;
    }
    Ok(audit)
}
