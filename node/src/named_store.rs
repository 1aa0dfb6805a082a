//! The metadata store that an operator's command works on.

use std::path::PathBuf;

use cairn_schema::kv::embedded::EmbeddedOptions;

use crate::{
    certs,
    cli::StoreArgs,
    config::{self, AnyFile, MetadataKind, NodeFile},
    failure::Failure,
    metadata::{self, Network, Opened},
    notice,
    process::Stop,
};

/// The store that a command names.
pub(crate) enum NamedStore {
    /// An embedded one, by its folder.
    Folder(PathBuf),
    /// The one a node uses.
    Node(Box<NodeFile>),
}

impl NamedStore {
    pub(crate) fn of(store: &StoreArgs) -> Result<Self, Failure> {
        match store {
            StoreArgs { config: Some(file), .. } => match config::load_any(file)? {
                AnyFile::Node(loaded) => Ok(Self::Node(Box::new(loaded.file))),
                AnyFile::Meta(loaded) => Ok(Self::Folder(loaded.file.meta.path)),
            },
            StoreArgs { data: Some(data), .. } => Ok(Self::Folder(data.join("metadata"))),
            // The command line demands one of both.
            StoreArgs { .. } => Err(Failure::NoStore(PathBuf::new())),
        }
    }

    pub(crate) fn kind(&self) -> MetadataKind {
        match self {
            Self::Folder(_) => MetadataKind::Embedded,
            Self::Node(file) => file.metadata.kind,
        }
    }

    pub(crate) async fn open(&self, network: &Network, stop: &mut Stop) -> Result<Opened, Failure> {
        match self {
            Self::Folder(path) => metadata::open_embedded(path, EmbeddedOptions::default()).await,
            Self::Node(file) => {
                let identity = certs::read_identity(&file.tls)?;
                metadata::open(file, &identity, network, stop, notice::on_terminal).await
            }
        }
    }

    /// Opening would make the folder that a mistyped path names, for an export that then fails. A store elsewhere
    /// cannot be told from an empty one before it is read.
    pub(crate) fn must_exist(&self) -> Result<(), Failure> {
        let folder = match self {
            Self::Folder(path) => Some(path),
            Self::Node(file) => file.metadata.path.as_ref(),
        };
        match folder {
            Some(path) if !path.is_dir() => Err(Failure::NoStore(path.clone())),
            _ => Ok(()),
        }
    }
}
