//! Where operators ask about what holds in the cluster, and change it: who may, and how they are refused.

use std::net::SocketAddr;

use cairn_actors::runtime::{NodeRuntime, RuntimeError};
use cairn_gateway::{AccessDesk, EventTargets, KeyDesk};
use cairn_schema::MetaError;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// Longer than any change can be said.
pub(super) const MAX_CHANGE_BYTES: usize = 4096;

/// Why nothing was changed, unless it says that this is not known.
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub why: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    pub(super) fn wrong(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }
}

impl From<RuntimeError> for Refusal {
    fn from(error: RuntimeError) -> Self {
        let why = error.to_string();
        match error {
            RuntimeError::UnknownName(_) => Self::new(StatusCode::NOT_FOUND, why),
            RuntimeError::PolicyTooLarge(_) | RuntimeError::JobRefused(_) => Self::wrong(why),
            RuntimeError::Meta(error @ MetaError::NoSuchEntry { .. }) => {
                Self::new(StatusCode::NOT_FOUND, error.to_string())
            }
            RuntimeError::Meta(error @ MetaError::InUse { .. }) => Self::new(StatusCode::CONFLICT, error.to_string()),
            RuntimeError::Meta(error @ MetaError::TooLarge { .. }) => Self::wrong(error.to_string()),
            RuntimeError::Meta(MetaError::Invalid { what, why }) => Self::wrong(format!("{what}: {why}")),
            RuntimeError::Meta(MetaError::Stale(what)) => {
                Self::new(StatusCode::CONFLICT, format!("somebody else changed the {what} meanwhile: look again"))
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

/// The API asks for no credentials. What changes something must come from this machine, and not from a page that a
/// browser on it shows: browsers send JSON elsewhere only if they were allowed to, and name the page's origin.
pub(super) fn may_change(peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    if !peer.ip().to_canonical().is_loopback() {
        let why = "it is changed from the machine that the node runs on";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "it is not changed from a browser"));
    }
    match headers.get(header::CONTENT_TYPE) {
        Some(kind) if kind == "application/json" => Ok(()),
        _ => Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "want content-type: application/json")),
    }
}

/// What a body says is to be changed.
pub(super) fn change<C: DeserializeOwned>(body: &[u8]) -> Result<C, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::wrong(format!("not a change: {error}")))
}

/// Tells null from what is left out.
pub(super) fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Whoever changes something has seen it as it is now.
pub(super) fn seen_last(what: &str, now: u64, expected: u64) -> Result<(), Refusal> {
    if now == expected {
        return Ok(());
    }
    let why = format!("the {what} of the cluster has generation {now} by now, not {expected}: look again");
    Err(Refusal::new(StatusCode::CONFLICT, why))
}

/// The nodes of a process, by the first of which operators are answered.
pub(crate) struct Desk<'a> {
    pub nodes: &'a [NodeRuntime],
    /// Bytes that stand before every key of the metadata.
    pub prefix_bytes: usize,
    /// For users, their keys and policies.
    pub access: &'a AccessDesk,
    /// For the keys by which objects are encrypted.
    pub keys: &'a KeyDesk,
    /// Whom events can be told to.
    pub targets: Option<&'a EventTargets>,
}

impl Desk<'_> {
    pub(super) fn first(&self) -> Result<&NodeRuntime, Refusal> {
        self.nodes.first().ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "no node runs here"))
    }

    /// The first node knows what it changed; the others of this process need not wait to learn of it.
    pub(super) async fn tell_others(&self) {
        for node in self.nodes.iter().skip(1) {
            node.look_again().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;

    use super::*;

    fn status(peer: &str, headers: &[(header::HeaderName, &'static str)]) -> u16 {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        may_change(peer.parse().unwrap(), &headers).err().map_or(200, |refusal| refusal.status.as_u16())
    }

    #[test]
    fn only_this_machine_and_no_browser_changes_anything() {
        const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");
        for peer in ["127.0.0.1:7", "[::1]:7", "[::ffff:127.0.0.1]:7"] {
            assert_eq!(status(peer, &[JSON]), 200, "{peer}");
        }
        for peer in ["10.0.0.1:7", "[2001:db8::1]:7", "[::ffff:10.0.0.1]:7"] {
            assert_eq!(status(peer, &[JSON]), 403, "{peer}");
        }
        assert_eq!(status("127.0.0.1:7", &[JSON, (header::ORIGIN, "http://localhost:9001")]), 403);
        for kind in ["text/plain", "application/x-www-form-urlencoded"] {
            assert_eq!(status("127.0.0.1:7", &[(header::CONTENT_TYPE, kind)]), 415);
        }
        assert_eq!(status("127.0.0.1:7", &[]), 415);
    }
}
