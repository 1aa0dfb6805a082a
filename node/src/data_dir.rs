//! `dev.toml`: the layout of the cluster whose data a folder holds, so that a second start finds it again.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use cairn_schema::record::{FailureDomain, Scheme};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::layout::{DevNode, Layout, LayoutError, Wanted};

const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is in use by another `cairn dev`: stop it, or choose another folder with --data", .0.display())]
    InUse(PathBuf),
    #[error("{} is not a layout this build can read: {why}; restore it, or choose another folder with --data", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{} holds files but no dev.toml: choose an empty folder with --data", .0.display())]
    Foreign(PathBuf),
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// A data folder that this process alone uses, for as long as this value lives.
pub(crate) struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the folder if need be, and takes it.
    pub(crate) fn take(root: &Path) -> Result<Self, RecordError> {
        let fresh = match std::fs::read_dir(root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => true,
        };
        // A wrong --data should not scatter a cluster over somebody's files.
        if !fresh && !root.join("dev.toml").exists() && !root.join("lock").exists() {
            return Err(RecordError::Foreign(root.to_owned()));
        }
        files::create_folder(root)?;
        let path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| FileError::new("open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RecordError::InUse(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(FileError::new("lock", &path, error).into()),
        }
        let root = root.canonicalize().map_err(|error| FileError::new("find", root, error))?;
        Ok(Self { root, _lock: lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn certs(&self) -> PathBuf {
        self.root.join("certs")
    }
    pub(crate) fn metadata(&self) -> PathBuf {
        self.root.join("metadata")
    }
    pub(crate) fn secrets_key(&self) -> PathBuf {
        self.root.join("secrets.key")
    }
    pub(crate) fn object_keys(&self) -> PathBuf {
        self.root.join("objects.keys")
    }
    /// Disks are numbered from 1.
    pub(crate) fn disk(&self, node: &str, disk: u32) -> PathBuf {
        self.root.join("nodes").join(node).join(format!("disk{disk}"))
    }

    /// The layout to run: recorded, created or grown; and whether there was one before.
    pub(crate) fn layout(&self, wanted: &Wanted) -> Result<(Layout, bool), RecordError> {
        let path = self.root.join("dev.toml");
        let recorded = if path.exists() { Some(read(&path)?) } else { None };
        let layout = match &recorded {
            Some(recorded) => recorded.adopt(wanted)?,
            None => Layout::create(wanted)?,
        };
        if recorded.as_ref() != Some(&layout) {
            write(&path, &layout)?;
        }
        Ok((layout, recorded.is_some()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    scheme: String,
    small_scheme: String,
    failure_domain: FailureDomain,
    nodes: Vec<NodeRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeRecord {
    id: String,
    rack: String,
    zone: String,
    disks: u32,
}

const HEADING: &str = "# The layout of this development cluster, kept by `cairn dev`. It grows when `cairn dev` is started with\n\
    # more racks, nodes or disks; do not edit it.\n\n";

fn write(path: &Path, layout: &Layout) -> Result<(), RecordError> {
    let record = Record {
        version: VERSION,
        scheme: layout.scheme.to_string(),
        small_scheme: layout.small_scheme.to_string(),
        failure_domain: layout.failure_domain,
        nodes: layout
            .nodes
            .iter()
            .map(|node| NodeRecord {
                id: node.id.clone(),
                rack: node.rack.clone(),
                zone: node.zone.clone(),
                disks: node.disks,
            })
            .collect(),
    };
    let text = toml::to_string(&record).map_err(|error| FileError::new("encode", path, error))?;
    files::replace(path, format!("{HEADING}{text}").as_bytes())?;
    Ok(())
}

fn read(path: &Path) -> Result<Layout, RecordError> {
    let unreadable = |why: String| RecordError::Unreadable { path: path.to_owned(), why };
    let text = files::read_text(path)?;
    // The version is looked at first: a later format may have fields that this one does not know.
    let table: toml::Table = toml::from_str(&text).map_err(|error| unreadable(error.message().to_owned()))?;
    match table.get("version").and_then(toml::Value::as_integer) {
        Some(version) if version == i64::from(VERSION) => {}
        Some(version) => return Err(unreadable(format!("its version is {version}, this build knows {VERSION}"))),
        None => return Err(unreadable("it has no version".to_owned())),
    }
    let record: Record = toml::from_str(&text).map_err(|error| unreadable(error.message().to_owned()))?;
    let scheme = |text: &str| text.parse::<Scheme>().map_err(|error| unreadable(error.to_string()));
    Ok(Layout {
        scheme: scheme(&record.scheme)?,
        small_scheme: scheme(&record.small_scheme)?,
        failure_domain: record.failure_domain,
        nodes: record
            .nodes
            .into_iter()
            .map(|node| DevNode { id: node.id, rack: node.rack, zone: node.zone, disks: node.disks })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_start_finds_the_layout_again_and_may_grow_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::take(folder.path()).unwrap();
        let (first, known) = data.layout(&Wanted::default()).unwrap();
        assert!(!known);
        drop(data);
        let data = DataDir::take(folder.path()).unwrap();
        assert_eq!(data.layout(&Wanted::default()).unwrap(), (first.clone(), true));
        let (grown, _) = data.layout(&Wanted { racks: Some(8), ..Wanted::default() }).unwrap();
        assert_eq!(grown.nodes.len(), 8);
        assert_eq!(data.layout(&Wanted::default()).unwrap(), (grown, true));
        assert!(matches!(
            data.layout(&Wanted { racks: Some(2), ..Wanted::default() }),
            Err(RecordError::Layout(LayoutError::Shrinks { .. }))
        ));
    }

    #[test]
    fn a_folder_serves_one_process_at_a_time_and_no_strangers() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::take(folder.path()).unwrap();
        assert!(matches!(DataDir::take(folder.path()), Err(RecordError::InUse(_))));
        drop(held);
        DataDir::take(folder.path()).unwrap();
        let foreign = tempfile::tempdir().unwrap();
        std::fs::write(foreign.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(DataDir::take(foreign.path()), Err(RecordError::Foreign(_))));
    }

    #[test]
    fn unknown_versions_and_damage_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::take(folder.path()).unwrap();
        data.layout(&Wanted::default()).unwrap();
        let path = folder.path().join("dev.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        for (wrong, why) in [
            (text.replace("version = 1", "version = 2"), "version is 2"),
            (text.replace("version = 1", ""), "no version"),
            (text.replace("4+2", "4x2"), "not a scheme"),
            ("[[[".to_owned(), ""),
        ] {
            std::fs::write(&path, wrong).unwrap();
            let error = data.layout(&Wanted::default()).unwrap_err();
            assert!(matches!(&error, RecordError::Unreadable { why: said, .. } if said.contains(why)), "{error}");
        }
    }

    /// Pins the format: this text was written by version 1 and must be readable for ever.
    #[test]
    fn golden_version_1() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.toml");
        let text = "version = 1\nscheme = \"4+2\"\nsmall_scheme = \"replicated(3)\"\nfailure_domain = \"disk\"\n\n\
            [[nodes]]\nid = \"n1\"\nrack = \"r1\"\nzone = \"z1\"\ndisks = 6\n";
        std::fs::write(&path, text).unwrap();
        let layout = read(&path).unwrap();
        assert_eq!(layout.nodes, [DevNode { id: "n1".into(), rack: "r1".into(), zone: "z1".into(), disks: 6 }]);
        write(&path, &layout).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{HEADING}{text}"));
    }
}
