//! The client's side: an engine whose every operation is one call.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::kv::{
    CommitVersion, KvError, RangePage,
    occ::{CommitRequest, Engine, KeyRange, OccKv, View},
    remote::{
        MAX_REQUEST_BYTES, MetaTransport, TransportFailure,
        wire::{self, Request, Response},
    },
};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct RemoteEngine {
    transport: Arc<dyn MetaTransport>,
}

/// The store behind a transport.
pub fn kv(transport: Arc<dyn MetaTransport>) -> OccKv<RemoteEngine> {
    OccKv(RemoteEngine { transport })
}

/// What a call came to, before it is known whether the operation can be repeated.
enum CallError {
    NotDone(String),
    Unknown(String),
    Failed(KvError),
}

impl RemoteEngine {
    async fn call(&self, request: &Request) -> Result<Response, CallError> {
        let bytes = wire::encode(request);
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(CallError::Failed(KvError::TooLarge {
                what: "transaction",
                actual: bytes.len(),
                limit: MAX_REQUEST_BYTES,
            }));
        }
        let answer = match tokio::time::timeout(CALL_TIMEOUT, self.transport.call(bytes)).await {
            Err(_) => return Err(CallError::Unknown(format!("metadata server: no answer in {CALL_TIMEOUT:?}"))),
            Ok(Err(TransportFailure::NotSent(why))) => return Err(CallError::NotDone(why)),
            Ok(Err(TransportFailure::NoResponse(why))) => return Err(CallError::Unknown(why)),
            Ok(Ok(answer)) => answer,
        };
        match wire::decode(&answer) {
            Ok(Response::Failed(error)) => Err(CallError::Failed(error.into())),
            Ok(response) => Ok(response),
            Err(fault) => Err(CallError::Unknown(format!("metadata server: {fault}"))),
        }
    }

    async fn read(&self, request: &Request) -> Result<Response, KvError> {
        self.call(request).await.map_err(|error| match error {
            CallError::NotDone(why) | CallError::Unknown(why) => KvError::Unavailable(why),
            CallError::Failed(error) => error,
        })
    }
}

fn unexpected(response: &Response) -> String {
    let name = match response {
        Response::Version(_) => "Version",
        Response::Values { .. } => "Values",
        Response::Rows { .. } => "Rows",
        Response::Committed(_) => "Committed",
        Response::Failed(_) => "Failed",
    };
    format!("metadata server: unexpected answer {name}")
}

#[async_trait]
impl Engine for RemoteEngine {
    type View = RemoteView;

    const LONG_VIEWS: bool = false;

    async fn view(&self) -> Result<RemoteView, KvError> {
        Ok(RemoteView { engine: self.clone(), at: OnceLock::new() })
    }

    async fn commit(&self, request: CommitRequest) -> Result<CommitVersion, KvError> {
        match self.call(&Request::Commit(request)).await {
            Ok(Response::Committed(version)) => Ok(CommitVersion(version)),
            Ok(other) => Err(KvError::CommitUnknown(unexpected(&other))),
            Err(CallError::NotDone(why)) => Err(KvError::Unavailable(why)),
            Err(CallError::Unknown(why)) => Err(KvError::CommitUnknown(why)),
            Err(CallError::Failed(error)) => Err(error),
        }
    }
}

pub struct RemoteView {
    engine: RemoteEngine,
    /// Learnt with the first read.
    at: OnceLock<u64>,
}

impl RemoteView {
    /// All reads of a view are of one version.
    fn learn(&self, at: u64) -> Result<(), KvError> {
        if *self.at.get_or_init(|| at) == at {
            Ok(())
        } else {
            Err(KvError::Storage("metadata server: answered for another version".into()))
        }
    }
}

#[async_trait]
impl View for RemoteView {
    fn version(&self) -> Option<u64> {
        self.at.get().copied()
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvError> {
        let mut read = Vec::with_capacity(keys.len());
        while read.len() < keys.len() {
            let request = Request::GetMany { at: self.version(), keys: keys[read.len()..].to_vec() };
            let (at, values) = match self.engine.read(&request).await? {
                Response::Values { at, values } => (at, values),
                other => return Err(KvError::Storage(unexpected(&other))),
            };
            self.learn(at)?;
            if values.is_empty() || values.len() > keys.len() - read.len() {
                return Err(KvError::Storage("metadata server: wrong number of values".into()));
            }
            read.extend(values);
        }
        Ok(read)
    }

    async fn range(&self, range: KeyRange, limit: usize, reverse: bool) -> Result<RangePage, KvError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let request = Request::Range { at: self.version(), range, limit, reverse };
        match self.engine.read(&request).await? {
            Response::Rows { at, rows, more } => {
                self.learn(at)?;
                // A page without a row that promises more would be asked for again and again.
                let more = more && !rows.is_empty();
                Ok(RangePage { rows, more })
            }
            other => Err(KvError::Storage(unexpected(&other))),
        }
    }
}
