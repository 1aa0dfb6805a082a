//! Opening the metadata store that a configuration names.

use std::{cell::RefCell, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use cairn_actors::{
    runtime::Identity,
    transport::{
        meta::QuicMeta,
        quic::{Endpoint, QuicOptions},
    },
};
use cairn_schema::{Meta, MetaError, kv::embedded::EmbeddedOptions, record::Policy, verbs::ClusterInfo};
use tokio::time::Instant;

use crate::{
    config::{MetadataKind, MetadataSection, NodeFile},
    failure::Failure,
    files, notice,
    process::{Stop, stopped},
};

/// A metadata server or FoundationDB may start after the nodes: it is waited for so long.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const WAIT_PAUSE: Duration = Duration::from_millis(500);
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// An open metadata store.
pub(crate) struct Opened {
    meta: Meta,
    /// For messages.
    place: String,
    /// What a remote store is dialled through.
    endpoint: Option<Endpoint>,
}

impl Opened {
    pub(crate) fn meta(&self) -> Meta {
        self.meta.clone()
    }

    /// The cluster's identity and policy; made at the first call of all, as it was `told`.
    pub(crate) async fn cluster(&self, told: Policy) -> Result<ClusterInfo, Failure> {
        self.meta.cluster(told).await.map_err(|error| self.failure(error))
    }

    /// What and where it is, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn failure(&self, error: MetaError) -> Failure {
        Failure::Metadata(self.place.clone(), error)
    }

    /// Waits until the store answers, for at most [`WAIT_LIMIT`]; `tell` is called with what is waited for once that
    /// takes a while.
    async fn answering(self, stop: &mut Stop, tell: impl Fn(&str)) -> Result<Self, Failure> {
        let deadline = Instant::now() + WAIT_LIMIT;
        let why = RefCell::new("no answer yet".to_owned());
        let away = || Failure::MetadataAway { place: self.place.clone(), limit: WAIT_LIMIT, why: why.borrow().clone() };
        let answers = async {
            loop {
                let error = match tokio::time::timeout_at(deadline, self.meta.ping()).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error @ (MetaError::Timeout(_) | MetaError::Unavailable(_)))) => error,
                    Ok(Err(error)) => return Err(self.failure(error)),
                    Err(_) => return Err(away()),
                };
                why.replace(error.to_string());
                tokio::time::sleep(WAIT_PAUSE).await;
            }
        };
        let waiting = || {
            let left = deadline.saturating_duration_since(Instant::now()).as_secs();
            tell(&format!("waiting for {}, for at most {left} s more: {}", self.place, why.borrow()));
        };
        tokio::select! {
            answered = notice::while_waiting(answers, waiting) => answered?,
            () = stopped(stop) => return Err(Failure::Interrupted),
        }
        Ok(self)
    }

    /// Waits until the store has failed for good, and says so.
    pub(crate) async fn failed(&self) -> Failure {
        let why = self.meta.failed().await;
        Failure::MetadataFailed { place: format!("the metadata store in {}", self.place), why }
    }

    /// Ends what runs in the background. Everything committed is on disk already.
    pub(crate) async fn close(self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.close(CLOSE_GRACE).await;
        }
        // The embedded store waits for its committer when it is dropped.
        if tokio::task::spawn_blocking(move || drop(self.meta)).await.is_err() {
            tracing::error!("closing the metadata store ended badly");
        }
    }
}

/// The store in a folder of this machine.
pub(crate) async fn open_embedded(path: &Path, options: EmbeddedOptions) -> Result<Opened, Failure> {
    files::create_folder(path)?;
    let place = path.display().to_string();
    let folder = path.to_owned();
    // Recovery reads the whole journal.
    let opened = tokio::task::spawn_blocking(move || Meta::open_embedded_with(&folder, options)).await;
    let opened = opened.unwrap_or_else(|error| Err(MetaError::Storage(format!("opening it ended badly: {error}"))));
    match opened {
        Ok(meta) => Ok(Opened { meta, place, endpoint: None }),
        Err(error) => Err(Failure::Metadata(place, error)),
    }
}

/// The store that a node's configuration names, once it answers.
pub(crate) async fn open(
    file: &NodeFile,
    identity: &Identity,
    network: &Network,
    stop: &mut Stop,
    tell: impl Fn(&str),
) -> Result<Opened, Failure> {
    connect(file, identity, network).await?.answering(stop, tell).await
}

/// The store that a node's configuration names. One that is elsewhere is not waited for.
pub(crate) async fn connect(file: &NodeFile, identity: &Identity, network: &Network) -> Result<Opened, Failure> {
    let section = &file.metadata;
    match section.kind {
        MetadataKind::Embedded => {
            // The configuration was checked for it.
            let options = file.memory().map_or_else(|_| EmbeddedOptions::default(), |shares| shares.metadata());
            open_embedded(section.path.as_deref().unwrap_or(Path::new("metadata")), options).await
        }
        MetadataKind::Remote => open_remote(section, identity, file.listen.quic).await,
        MetadataKind::Fdb => open_fdb(section, network),
    }
}

async fn open_remote(section: &MetadataSection, identity: &Identity, listen: SocketAddr) -> Result<Opened, Failure> {
    let (Some(address), Some(server)) = (&section.address, &section.server) else {
        // The configuration was checked for it.
        return Err(Failure::Quic("metadata.address and metadata.server are not set".to_owned()));
    };
    let place = format!("{server} on {address}");
    let unresolved = |why: String| Failure::Metadata(place.clone(), MetaError::Unavailable(why));
    let mut addresses =
        tokio::net::lookup_host(address.as_str()).await.map_err(|error| unresolved(error.to_string()))?;
    let target = addresses.next().ok_or_else(|| unresolved("the name has no address".to_owned()))?;
    // Dials from the interface that the other nodes know this one by.
    let local = SocketAddr::new(listen.ip(), 0);
    let endpoint = Endpoint::bind(local, identity, QuicOptions::default()).await;
    let endpoint = endpoint.map_err(|error| Failure::Quic(error.to_string()))?;
    let calls = QuicMeta::new(endpoint.client(), server.clone(), target);
    Ok(Opened { meta: Meta::remote(Arc::new(calls)), place, endpoint: Some(endpoint) })
}

/// FoundationDB's client library, running if the configuration wants it. Owned by `main` and dropped after everything
/// that uses it, because the library must be stopped before the process ends.
pub(crate) struct Network {
    #[cfg(feature = "fdb")]
    fdb: Option<cairn_schema::kv::fdb::FdbNetwork>,
}

impl Network {
    #[cfg(feature = "fdb")]
    pub(crate) fn start(kind: MetadataKind) -> Result<Self, Failure> {
        if kind != MetadataKind::Fdb {
            return Ok(Self { fdb: None });
        }
        // SAFETY: `main` drops it after the runtime has ended and before the process does.
        let network = unsafe { cairn_schema::kv::fdb::boot() };
        let unusable = |why: String| Failure::Metadata("FoundationDB".to_owned(), MetaError::Unavailable(why));
        network.map(|network| Self { fdb: Some(network) }).map_err(|error| unusable(error.to_string()))
    }

    /// Says at once that this build cannot.
    #[cfg(not(feature = "fdb"))]
    pub(crate) fn start(kind: MetadataKind) -> Result<Self, Failure> {
        if kind == MetadataKind::Fdb { Err(Failure::NoFdb) } else { Ok(Self {}) }
    }
}

/// Without waiting for the cluster: whoever opens it waits until it answers, as for the other kinds.
#[cfg(feature = "fdb")]
fn open_fdb(section: &MetadataSection, network: &Network) -> Result<Opened, Failure> {
    use cairn_schema::kv::fdb::{FdbKv, FdbOptions, OpenError};

    use crate::config::DEFAULT_PREFIX;
    let given = section.cluster_file.as_ref();
    let place = given.map_or("FoundationDB".to_owned(), |file| format!("the FoundationDB of {}", file.display()));
    let network = network.fdb.as_ref().ok_or(Failure::NoFdb)?;
    let prefix = section.prefix.as_deref().unwrap_or(DEFAULT_PREFIX).as_bytes().to_vec();
    let options = FdbOptions { cluster_file: section.cluster_file.clone(), prefix };
    match FdbKv::connect(network, &options) {
        Ok(store) => Ok(Opened { meta: Meta::new(Arc::new(store)), place, endpoint: None }),
        Err(error @ OpenError::ClusterFile { .. }) => {
            let why = error.to_string();
            Err(Failure::Metadata(place, MetaError::Invalid { what: "metadata.cluster_file", why }))
        }
        Err(error) => Err(Failure::Metadata(place, MetaError::Storage(error.to_string()))),
    }
}

#[cfg(not(feature = "fdb"))]
fn open_fdb(_section: &MetadataSection, _network: &Network) -> Result<Opened, Failure> {
    Err(Failure::NoFdb)
}
