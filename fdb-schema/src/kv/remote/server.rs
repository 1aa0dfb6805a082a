//! The server's side.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::kv::{
    KvError, limits,
    occ::{Engine, OccKv, View, check_limits},
    remote::{
        MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES,
        wire::{self, Request, Response, WireError},
    },
};

/// Requests executed at once; the others wait their turn.
const IN_FLIGHT: usize = 256;
/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// Versions kept for reading; above it the oldest go early and their transactions start again.
const MAX_VIEWS: usize = 4096;
/// Keys of one get.
const MAX_KEYS: usize = 10_000;
const MAX_ROWS: usize = 20_000;
/// What a response may carry besides its last value.
const RESPONSE_BYTES: usize = MAX_RESPONSE_BYTES - limits::VALUE_BYTES - limits::KEY_BYTES - 4096;

/// Serves a store to [`super::RemoteEngine`] clients: give [`RemoteServer::handle`] what arrives and send back what it
/// returns. Cheap to clone.
#[derive(Clone)]
pub struct RemoteServer {
    inner: Arc<dyn Serve>,
}

impl RemoteServer {
    /// Serves `store`, which may be used locally at the same time.
    pub fn new<E: Engine>(store: OccKv<E>) -> Self {
        Self { inner: Arc::new(Server { engine: store.0, views: Mutex::default(), turns: Semaphore::new(IN_FLIGHT) }) }
    }

    /// Executes one request. Never fails: what is wrong is in the response. `peer` is only named in logs.
    pub async fn handle(&self, peer: &str, request: Bytes) -> Bytes {
        wire::encode(&self.inner.respond(peer, request).await)
    }
}

#[async_trait]
trait Serve: Send + Sync {
    async fn respond(&self, peer: &str, request: Bytes) -> Response;
}

struct Server<E: Engine> {
    engine: E,
    /// Versions that transactions may still read, by version.
    views: Mutex<BTreeMap<u64, Kept<E::View>>>,
    turns: Semaphore,
}

struct Kept<V> {
    view: Arc<V>,
    until: Instant,
}

#[async_trait]
impl<E: Engine> Serve for Server<E> {
    async fn respond(&self, peer: &str, request: Bytes) -> Response {
        if request.len() > MAX_REQUEST_BYTES {
            return Response::Failed(WireError::BadRequest(format!("{} bytes are too many", request.len())));
        }
        let request = match wire::decode(&request) {
            Ok(request) => request,
            Err(fault) => {
                tracing::warn!(peer, %fault, "refused a metadata request");
                return Response::Failed(WireError::BadRequest(fault.to_string()));
            }
        };
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN_TIMEOUT, self.turns.acquire()).await else {
            return Response::Failed(WireError::Unavailable("metadata server is overloaded".into()));
        };
        self.execute(request).await.unwrap_or_else(|error| Response::Failed(error.into()))
    }
}

impl<E: Engine> Server<E> {
    async fn execute(&self, request: Request) -> Result<Response, KvError> {
        match request {
            Request::Version => Ok(Response::Version(self.view(None).await?.0)),
            Request::GetMany { at, mut keys } => {
                keys.truncate(MAX_KEYS);
                let (at, view) = self.view(at).await?;
                Ok(Response::Values { at, values: get_what_fits(&*view, &keys).await? })
            }
            Request::Range { at, range, limit, reverse } => {
                let (at, view) = self.view(at).await?;
                let limit = usize::try_from(limit).unwrap_or(MAX_ROWS).min(MAX_ROWS);
                let mut page = view.range(range, limit, reverse).await?;
                let mut bytes = 0;
                let fitting = page.rows.iter().take_while(|(key, value)| {
                    let fits = bytes <= RESPONSE_BYTES;
                    bytes += key.len() + value.len() + 16;
                    fits
                });
                let fitting = fitting.count();
                page.more |= fitting < page.rows.len();
                page.rows.truncate(fitting);
                Ok(Response::Rows { at, rows: page.rows, more: page.more })
            }
            Request::Commit(commit) => {
                // Clients check these themselves; one that does not must not get past them.
                check_limits(&commit.mutations)?;
                Ok(Response::Committed(self.engine.commit(commit).await?.0))
            }
        }
    }

    /// The view at a version, which must still be kept, or of the newest.
    async fn view(&self, at: Option<u64>) -> Result<(u64, Arc<E::View>), KvError> {
        if let Some(at) = at {
            let views = self.views.lock();
            let kept = views.get(&at).filter(|kept| kept.until > Instant::now());
            return kept.map(|kept| (at, Arc::clone(&kept.view))).ok_or(KvError::TooOld);
        }
        let view = self.engine.view().await?;
        let at = view.version().ok_or_else(|| KvError::Storage("a view without a version".into()))?;
        let until = Instant::now() + limits::TRANSACTION_LIFE;
        let mut views = self.views.lock();
        let now = Instant::now();
        while views.len() >= MAX_VIEWS || views.first_entry().is_some_and(|oldest| oldest.get().until <= now) {
            views.pop_first();
        }
        let kept = views.entry(at).or_insert_with(|| Kept { view: Arc::new(view), until });
        kept.until = until;
        Ok((at, Arc::clone(&kept.view)))
    }
}

/// Values of the first keys, as many as fit in a response.
async fn get_what_fits<V: View>(view: &V, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvError> {
    /// Read at a time, so that no more than this many values of the largest size are in memory.
    const STEP: usize = 32;
    let mut values = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for step in keys.chunks(STEP) {
        for value in view.get_many(step).await? {
            if bytes > RESPONSE_BYTES {
                return Ok(values);
            }
            bytes += value.as_ref().map_or(0, Bytes::len) + 8;
            values.push(value);
        }
    }
    Ok(values)
}
