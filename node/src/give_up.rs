//! `cairn admin give-up`: an operator's word that disks will not come back.

use cairn_schema::record::{Disk, DiskState};

use crate::{
    cli::WhichDisks,
    failure::Failure,
    metadata::{Network, Opened},
    named_store::NamedStore,
    process::{Stop, stopped},
    words::plural,
};

/// Does it, and says what was done. `Interrupted` if `stop` comes first.
pub(crate) async fn run(
    which: &WhichDisks,
    store: &NamedStore,
    network: &Network,
    mut stop: Stop,
) -> Result<String, Failure> {
    store.must_exist()?;
    let opened = store.open(network, &mut stop).await?;
    let done = tokio::select! {
        done = Box::pin(give_up(which, &opened)) => done,
        () = stopped(&mut stop) => Err(Failure::Interrupted),
    };
    opened.close().await;
    done
}

async fn give_up(which: &WhichDisks, opened: &Opened) -> Result<String, Failure> {
    let meta = opened.meta();
    let mut disks = meta.disks().await.map_err(|error| opened.failure(error))?;
    disks.retain(|disk| disk.state != DiskState::Removed && which.means(disk));
    if disks.is_empty() {
        return Err(Failure::NoSuchDisk(which.to_string()));
    }
    if let Some(up) = disks.iter().find(|disk| matches!(disk.state, DiskState::Up | DiskState::Draining)) {
        return Err(Failure::DiskIsUp { disk: up.id, node: up.node.clone() });
    }
    let changes = disks.iter().map(|disk| (disk.id, DiskState::Down, DiskState::Lost)).collect();
    let lost = meta.set_disk_states(changes).await.map_err(|error| opened.failure(error))?;
    if lost.len() < disks.len() {
        return Err(Failure::DisksCameBack { given_up: lost.len(), of: disks.len() });
    }
    let ids: Vec<String> = lost.iter().map(|disk| disk.id.to_string()).collect();
    Ok(format!(
        "{} given up: {}\nWhat they held is made anew elsewhere; `cairn status` shows how far that is.\n",
        plural(lost.len(), "disk"),
        ids.join(", ")
    ))
}

impl WhichDisks {
    fn means(&self, disk: &Disk) -> bool {
        self.disk.is_none_or(|id| id == disk.id)
            && self.node.as_ref().is_none_or(|node| *node == disk.node)
            && self.rack.as_ref().is_none_or(|rack| *rack == format!("{}/{}", disk.zone, disk.rack))
    }
}

impl std::fmt::Display for WhichDisks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { disk: Some(id), .. } => write!(f, "disk {id}"),
            Self { node: Some(id), .. } => write!(f, "node {id}"),
            Self { rack, .. } => write!(f, "rack {}", rack.as_deref().unwrap_or_default()),
        }
    }
}
