//! What is done to a cluster that a run has made cables, file systems, clocks or an older program for.

use super::Cluster;
use crate::{
    error::ChaosError,
    lab::{clock::Clock, net::Net, volume::Volume},
};

impl Cluster {
    /// From their next start on these nodes run the newer program.
    pub fn upgrade(&mut self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.nodes[*node].is_old = false);
    }

    pub fn upgrade_meta(&mut self) {
        self.meta.iter_mut().for_each(|meta| meta.is_old = false);
    }

    /// The cables, if each process has one. Members are the nodes in their order, and after them the metadata server.
    pub fn net(&self) -> Option<&Net> {
        self.net.as_ref()
    }

    /// The file system of a disk, from 1, if it has one of its own.
    pub fn disk_volume(&mut self, node: usize, disk: usize) -> Option<&mut Volume> {
        self.nodes.get_mut(node)?.volumes.get_mut(disk.checked_sub(1)?)
    }

    /// All of a node's disks.
    pub fn disk_volumes(&self, node: usize) -> &[Volume] {
        let node = &self.nodes[node];
        &node.volumes[..node.disks.min(node.volumes.len())]
    }

    /// The clocks of these nodes.
    pub fn clocks(&self, nodes: &[usize]) -> Vec<&Clock> {
        nodes.iter().filter_map(|node| self.nodes[*node].clock.as_ref()).collect()
    }

    pub fn meta_clock(&self) -> Option<&Clock> {
        self.meta.as_ref()?.clock.as_ref()
    }

    /// The power of these nodes, and perhaps of the metadata server, goes all at once: what they had not synced is
    /// lost, or will be when they have power again.
    pub fn cut_power(&mut self, nodes: &[usize], of_meta: bool) -> Result<(), ChaosError> {
        // First nobody acknowledges anything any more.
        nodes.iter().for_each(|node| self.nodes[*node].freeze());
        if of_meta {
            self.freeze_meta();
        }
        let meta = self.meta.as_ref().filter(|_| of_meta).and_then(|meta| meta.volume.as_ref());
        let volumes = nodes.iter().flat_map(|node| &self.nodes[*node].volumes);
        let cut = volumes.chain(meta).try_for_each(Volume::cut_power);
        nodes.iter().for_each(|node| self.kill_node(*node));
        if of_meta {
            self.kill_meta();
        }
        cut
    }

    /// After [`Cluster::cut_power`]; nothing is started yet.
    pub fn restore_power(&mut self, nodes: &[usize], of_meta: bool) -> Result<(), ChaosError> {
        let meta = self.meta.as_mut().filter(|_| of_meta).and_then(|meta| meta.volume.as_mut());
        meta.into_iter().try_for_each(Volume::mount_again)?;
        nodes.iter().try_for_each(|node| self.nodes[*node].volumes.iter_mut().try_for_each(Volume::mount_again))
    }
}
