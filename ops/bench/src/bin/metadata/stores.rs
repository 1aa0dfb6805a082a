//! The backends, opened.

use std::{path::Path, sync::Arc, time::Duration};

use cairn_actors::{
    runtime::Identity,
    tls,
    transport::{
        meta::{MetaService, QuicMeta},
        quic::{Endpoint, QuicOptions},
    },
};
use cairn_schema::{
    Meta,
    kv::{
        embedded::{self, EmbeddedEngine, EmbeddedOptions, EmbeddedStats},
        occ::OccKv,
        remote::RemoteServer,
    },
};

use crate::options::{BackendKind, Failure, Options};

/// As `cairn meta` allows its nodes.
const CALLS: u32 = 1024;
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A store and what it stands on.
pub(crate) struct Store {
    pub name: &'static str,
    pub meta: Meta,
    /// The embedded store below, whose commits and syncs are counted.
    embedded: Option<OccKv<EmbeddedEngine>>,
    endpoints: Vec<Endpoint>,
    #[cfg(feature = "fdb")]
    fdb: Option<Arc<cairn_schema::kv::fdb::FdbKv>>,
    directory: Option<tempfile::TempDir>,
}

impl Store {
    pub(crate) fn stats(&self) -> Option<EmbeddedStats> {
        self.embedded.as_ref().map(OccKv::stats)
    }

    /// Leaves nothing behind.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        for endpoint in &self.endpoints {
            endpoint.close(CLOSE_GRACE).await;
        }
        #[cfg(feature = "fdb")]
        if let Some(fdb) = &self.fdb {
            use cairn_schema::{keyspace, kv::Kv};
            let mut tx = fdb.begin().await?;
            for (begin, end) in keyspace::METADATA {
                tx.clear_range(begin.into(), end.into());
            }
            tx.commit().await?;
        }
        // The committer's thread is waited for.
        tokio::task::spawn_blocking(move || {
            drop((self.meta, self.embedded));
            drop(self.directory);
        })
        .await?;
        Ok(())
    }
}

pub(crate) async fn open(kind: BackendKind, options: &Options, network: &Network) -> Result<Store, Failure> {
    match kind {
        BackendKind::Embedded => embedded(options.folder.as_deref()),
        BackendKind::Remote => remote(options.folder.as_deref()).await,
        BackendKind::Fdb => network.open(options).await,
    }
}

fn embedded(folder: Option<&Path>) -> Result<Store, Failure> {
    let directory = match folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let store = embedded::open(directory.path(), EmbeddedOptions::default())?;
    Ok(Store {
        name: "embedded",
        meta: Meta::new(Arc::new(OccKv(store.0.clone()))),
        embedded: Some(store),
        endpoints: Vec::new(),
        #[cfg(feature = "fdb")]
        fdb: None,
        directory: Some(directory),
    })
}

async fn remote(folder: Option<&Path>) -> Result<Store, Failure> {
    let store = embedded(folder)?;
    let Some(served) = &store.embedded else { return Ok(store) };
    let ca = tls::new_ca("bench")?;
    let server = endpoint(&ca, "meta").await?;
    server.serve(Arc::new(MetaService::new(RemoteServer::new(OccKv(served.0.clone())))));
    let client = endpoint(&ca, "node").await?;
    let calls = QuicMeta::new(client.client(), server.node().clone(), server.local_addr());
    let meta = Meta::remote(Arc::new(calls));
    meta.ping().await?;
    Ok(Store { name: "remote", meta, endpoints: vec![client, server], ..store })
}

async fn endpoint(ca: &tls::PemPair, name: &str) -> Result<Endpoint, Failure> {
    let identity = Identity::issue(ca, &name.parse()?, &["127.0.0.1".to_owned()])?;
    let options = QuicOptions { max_requests: CALLS, ..QuicOptions::default() };
    Ok(Endpoint::bind(([127, 0, 0, 1], 0).into(), &identity, options).await?)
}

/// FoundationDB's client library, if it is wanted.
pub(crate) struct Network {
    #[cfg(feature = "fdb")]
    fdb: Option<cairn_schema::kv::fdb::FdbNetwork>,
}

#[cfg(not(feature = "fdb"))]
impl Network {
    pub(crate) fn start(backends: &[BackendKind]) -> Result<Self, Failure> {
        if backends.contains(&BackendKind::Fdb) {
            return Err("this build has no FoundationDB: build it with --features fdb".into());
        }
        Ok(Self {})
    }

    async fn open(&self, _options: &Options) -> Result<Store, Failure> {
        Err("this build has no FoundationDB".into())
    }
}

#[cfg(feature = "fdb")]
impl Network {
    pub(crate) fn start(backends: &[BackendKind]) -> Result<Self, Failure> {
        if !backends.contains(&BackendKind::Fdb) {
            return Ok(Self { fdb: None });
        }
        // SAFETY: `measured` drops it after the runtime, and before `main` returns.
        let network = unsafe { cairn_schema::kv::fdb::boot() }?;
        Ok(Self { fdb: Some(network) })
    }

    async fn open(&self, options: &Options) -> Result<Store, Failure> {
        use cairn_schema::kv::fdb::{FdbKv, FdbOptions};
        let network = self.fdb.as_ref().ok_or("FoundationDB was not started")?;
        let prefix = format!("cairn-bench/{:016x}/", rand::random::<u64>()).into_bytes();
        let options = FdbOptions { cluster_file: options.cluster_file.clone(), prefix };
        let kv = Arc::new(FdbKv::open(network, &options).await?);
        Ok(Store {
            name: "fdb",
            meta: Meta::new(kv.clone()),
            embedded: None,
            endpoints: Vec::new(),
            fdb: Some(kv),
            directory: None,
        })
    }
}
