//! `/v1/kms`: the keys by which objects are encrypted, and what older versions of them wrapped.

use std::time::Duration;

use cairn_gateway::{KeyDeskError, KeyringStatus, RewrapPlace, RewrapStep};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::desk::{self, Desk, Refusal};

/// How long one order works at most, but for its last step.
const WORK_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
pub(crate) struct KmsPage {
    seen_by: String,
    configured: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<KeysPage>,
}

#[derive(Debug, Serialize)]
struct KeysPage {
    backend: &'static str,
    address: Option<String>,
    default_key: String,
    keys: Vec<KeyRow>,
    reachable: bool,
    problem: Option<String>,
    answered_seconds_ago: Option<u64>,
    failed_seconds_ago: Option<u64>,
    last_failure: Option<String>,
    data_keys_remembered: usize,
    data_key_seconds: Option<u64>,
}

#[derive(Debug, Serialize)]
struct KeyRow {
    name: String,
    versions: Vec<u32>,
    /// By which new keys are wrapped.
    wraps: u32,
}

impl From<KeyringStatus> for KeysPage {
    fn from(status: KeyringStatus) -> Self {
        let row = |(name, versions, wraps)| KeyRow { name, versions, wraps };
        let (failed_ago, last_failure) = status.failed_ago.unzip();
        Self {
            backend: status.backend,
            address: status.address,
            default_key: status.default_key,
            keys: status.keys.into_iter().map(row).collect(),
            reachable: status.problem.is_none(),
            problem: status.problem,
            answered_seconds_ago: status.answered_ago.map(|ago| ago.as_secs()),
            failed_seconds_ago: failed_ago.map(|ago| ago.as_secs()),
            last_failure,
            data_keys_remembered: status.data_keys,
            data_key_seconds: status.data_key_age.map(|age| age.as_secs()),
        }
    }
}

/// Wraps again what is left of a walk, or the beginning of one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RewrapOrder {
    /// None for all.
    bucket: Option<String>,
    /// Where an answer before said that it goes on.
    next: Option<Place>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    bucket: String,
    uploads: bool,
    key: Option<String>,
    /// 32 hexadecimal digits.
    id: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RewrapPage {
    looked_at: u64,
    rewrapped: u64,
    failed: u64,
    first_failure: Option<String>,
    next: Option<Place>,
}

impl From<RewrapPlace> for Place {
    fn from(place: RewrapPlace) -> Self {
        let (key, id) = place.after.unzip();
        Self { bucket: place.bucket, uploads: place.uploads, key, id: id.flatten().map(hex::encode) }
    }
}

impl Place {
    fn into_place(self) -> Result<RewrapPlace, Refusal> {
        let id = self.id.map(|id| {
            let mut bytes = [0; 16];
            hex::decode_to_slice(&id, &mut bytes).map_err(|_| Refusal::wrong("next.id: want 32 hexadecimal digits"))?;
            Ok::<_, Refusal>(bytes)
        });
        let id = id.transpose()?;
        Ok(RewrapPlace { bucket: self.bucket, uploads: self.uploads, after: self.key.map(|key| (key, id)) })
    }
}

impl Desk<'_> {
    pub(super) async fn kms(&self) -> Result<KmsPage, Refusal> {
        let seen_by = self.first()?.id().to_string();
        let status = self.keys.status().await;
        Ok(KmsPage { seen_by, configured: status.is_some(), keys: status.map(Into::into) })
    }

    pub(super) async fn rewrap(&self, body: &[u8]) -> Result<RewrapPage, Refusal> {
        let order: RewrapOrder = desk::change(body)?;
        let mut next = order.next.map(Place::into_place).transpose()?;
        let begun = std::time::Instant::now();
        let mut all = RewrapStep::default();
        loop {
            let step = self.keys.rewrap(order.bucket.as_deref(), next).await.map_err(refused)?;
            all.looked_at += step.looked_at;
            all.rewrapped += step.rewrapped;
            all.failed += step.failed;
            all.first_failure = all.first_failure.or(step.first_failure);
            next = step.next;
            if next.is_none() || begun.elapsed() >= WORK_TIME {
                break;
            }
        }
        let RewrapStep { looked_at, rewrapped, failed, first_failure, .. } = all;
        Ok(RewrapPage { looked_at, rewrapped, failed, first_failure, next: next.map(Into::into) })
    }
}

fn refused(error: KeyDeskError) -> Refusal {
    let why = error.to_string();
    match error {
        KeyDeskError::NoKeys => Refusal::new(StatusCode::CONFLICT, why),
        KeyDeskError::Keys(_) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why),
        KeyDeskError::Meta(cairn_schema::MetaError::NoSuchBucket(_)) => Refusal::new(StatusCode::NOT_FOUND, why),
        KeyDeskError::Meta(_) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}
