//! What a cluster says of itself on its admin port, and waiting until it says something.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

use crate::error::ChaosError;

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

pub async fn json(url: &str) -> Result<Value, ChaosError> {
    let body = get(url).await?;
    serde_json::from_slice(&body).map_err(|error| ChaosError::Admin { url: url.into(), why: error.to_string() })
}

/// The body of a successful answer.
pub async fn get(url: &str) -> Result<Bytes, ChaosError> {
    let failed = |why: String| ChaosError::Admin { url: url.into(), why };
    let uri = url.parse().map_err(|error| failed(format!("{error}")))?;
    let exchange = async {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(uri).await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))))
        }
    };
    tokio::time::timeout(DEADLINE, exchange).await.map_err(|_| failed("no answer in time".into()))?
}

/// Asks again and again until `holds` says that what it saw is enough; the error tells what was seen last.
pub async fn until<F, S>(what: &str, within: Duration, mut ask: F, holds: impl Fn(&S) -> bool) -> Result<S, ChaosError>
where
    F: AsyncFnMut() -> Result<S, ChaosError>,
    S: std::fmt::Debug,
{
    let ends = Instant::now() + within;
    loop {
        let answer = ask().await;
        if let Ok(state) = &answer
            && holds(state)
        {
            return answer;
        }
        if Instant::now() > ends {
            let detail = match answer {
                Ok(state) => format!("{state:?}").chars().take(1000).collect(),
                Err(error) => error.to_string(),
            };
            return Err(ChaosError::NotInTime { what: what.into(), detail });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Fragments on all disks of a status.
pub fn fragments(status: &Value) -> u64 {
    disks(status).filter_map(|disk| disk["fragments"].as_u64()).sum()
}

/// Disks of a status that are in `state`.
pub fn disks_in(status: &Value, state: &str) -> usize {
    disks(status).filter(|disk| disk["state"] == state).count()
}

fn disks(status: &Value) -> impl Iterator<Item = &Value> {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().flat_map(|node| node["disks"].as_array().map(Vec::as_slice).unwrap_or_default())
}
