//! `cairn meta`: serves one embedded metadata store to the nodes of a lab cluster, over QUIC with mutual TLS.

use std::{path::Path, sync::Arc, time::Duration};

use cairn_actors::transport::{
    meta::MetaService,
    quic::{Endpoint, QuicError, QuicOptions},
};
use cairn_schema::{
    Meta, MetaError,
    kv::{embedded, occ::OccKv, remote::RemoteServer},
};

use crate::{
    admin::{AdminServer, ProcessMetrics, Subject, register_memory},
    certs,
    config::{MetaFile, MetaShares},
    failure::Failure,
    files,
    heap::Keeper,
    manager,
    process::{Stop, stopped},
    ready_file::Ready,
};

/// Calls in hand when the server stops are short; the rest is repeated by its callers.
const CLOSE_GRACE: Duration = Duration::from_secs(10);
/// Nodes of a cluster call from one connection each, and each from many requests.
const CALLS_PER_NODE: u32 = 1024;

/// Runs until `stop`.
pub(crate) async fn run(
    file: &MetaFile,
    ready_file: Option<&Path>,
    max_fds: Option<u64>,
    json: bool,
    mut stop: Stop,
) -> Result<(), Failure> {
    // 1. Who we are, which has been looked at already.
    let identity = certs::read_identity(&file.tls)?;
    let shares = file.meta.shares().ok_or(Failure::MetaMemory(file.meta.memory))?;
    let heap = Keeper::start(shares.bound).map_err(Failure::Runtime)?;
    // 2. The admin API: it says "starting" while the store recovers.
    let registry = prometheus::Registry::new();
    ProcessMetrics::register(&registry, max_fds)?;
    register_memory(&registry, shares.bound, &shares.parts())?;
    let admin = AdminServer::start(file.admin.listen, registry.clone(), stop.clone()).await?;
    // 3. The store.
    let (meta, server) = open(&file.meta.path, &shares).await?;
    // 4. QUIC.
    let options = QuicOptions {
        metrics: Some(registry),
        max_requests: CALLS_PER_NODE,
        max_served_bytes: u32::try_from(shares.served).unwrap_or(u32::MAX),
        ..QuicOptions::default()
    };
    let quic = |error: QuicError| Failure::Quic(error.to_string());
    let endpoint = Endpoint::bind(file.meta.listen, &identity, options).await.map_err(quic)?;
    endpoint.serve(Arc::new(MetaService::new(server)));
    let failing = meta.clone();
    admin.serve(Subject::Metadata(meta));
    admin.open();
    tracing::info!(address = %endpoint.local_addr(), "metadata is served");
    // 5. Tell where.
    let ready = Ready::of_metadata(endpoint.local_addr(), admin.local_addr());
    if let Some(path) = ready_file {
        ready.write(path)?;
    }
    if json {
        ready.print()?;
    }
    manager::serves(&format!("serves metadata at {}", endpoint.local_addr()));
    let ended = tokio::select! {
        () = stopped(&mut stop) => Ok(()),
        () = endpoint.ended() => Err(Failure::Deaf("metadata's QUIC endpoint")),
        () = admin.ended() => Err(Failure::Deaf("admin API")),
        why = failing.failed() => Err(Failure::MetadataFailed { place: file.meta.path.display().to_string(), why }),
    };
    manager::stops();
    if let Some(path) = ready_file {
        files::forget(path);
    }
    endpoint.close(CLOSE_GRACE).await;
    admin.stop().await;
    drop(heap);
    tracing::info!("stopped");
    ended
}

async fn open(path: &Path, shares: &MetaShares) -> Result<(Meta, RemoteServer), Failure> {
    files::create_folder(path)?;
    let failure = |why: String| Failure::Metadata(path.display().to_string(), MetaError::Storage(why));
    let (folder, options) = (path.to_owned(), shares.metadata());
    // Recovery reads the whole journal.
    let opened = tokio::task::spawn_blocking(move || embedded::open(&folder, options)).await;
    let store = opened.map_err(|error| failure(error.to_string()))?.map_err(|error| failure(error.to_string()))?;
    Ok((Meta::new(Arc::new(OccKv(store.0.clone()))), RemoteServer::new(store)))
}
