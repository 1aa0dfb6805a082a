//! `/v1/policy`: how the cluster keeps data, shown and changed.

use std::net::SocketAddr;

use bytes::Bytes;
use cairn_actors::{
    placement::PolicyView,
    runtime::{NodeRuntime, RuntimeError},
};
use cairn_schema::{
    MetaError,
    record::{FailureDomain, Policy, PolicyDifference},
};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::config::{SchemeText, Size, policy_problems};

/// Longer than any change can be said.
pub(super) const MAX_CHANGE_BYTES: usize = 4096;

/// The policy as the node that is asked goes by it, its fields as they are written in configuration files.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyPage {
    seen_by: String,
    generation: u64,
    scheme: String,
    small_scheme: String,
    small_below: String,
    failure_domain: FailureDomain,
    write_margin: u8,
    fragment: String,
    differences: Vec<PolicyDifference>,
    too_large: Option<String>,
}

impl PolicyPage {
    fn of(node: &NodeRuntime) -> Self {
        let view = node.policy();
        let PolicyView { generation, policy, differences, too_large } = &*view;
        Self {
            seen_by: node.id().to_string(),
            generation: *generation,
            scheme: policy.scheme.to_string(),
            small_scheme: policy.small_scheme.to_string(),
            small_below: Size(policy.small_below).to_string(),
            failure_domain: policy.failure_domain,
            write_margin: policy.write_margin,
            fragment: Size(policy.fragment_bytes.into()).to_string(),
            differences: differences.clone(),
            too_large: too_large.clone(),
        }
    }
}

/// What is to be other than it was at `expected_generation`; the rest stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyChange {
    expected_generation: u64,
    scheme: Option<SchemeText>,
    small_scheme: Option<SchemeText>,
    small_below: Option<Size>,
    failure_domain: Option<FailureDomain>,
    write_margin: Option<u8>,
    fragment: Option<Size>,
}

impl PolicyChange {
    fn of(&self, before: &Policy) -> Policy {
        let size = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
        Policy {
            scheme: self.scheme.map_or(before.scheme, |scheme| scheme.0),
            small_scheme: self.small_scheme.map_or(before.small_scheme, |scheme| scheme.0),
            small_below: self.small_below.map_or(before.small_below, |size| size.0),
            failure_domain: self.failure_domain.unwrap_or(before.failure_domain),
            write_margin: self.write_margin.unwrap_or(before.write_margin),
            fragment_bytes: self.fragment.map_or(before.fragment_bytes, size),
        }
    }
}

/// Why nothing was changed, unless it says that this is not known.
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub why: String,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    fn wrong(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }
}

/// The API asks for no credentials. What changes something must come from this machine, and not from a page that a
/// browser on it shows: browsers send JSON elsewhere only if they were allowed to, and name the page's origin.
pub(super) fn may_change(peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    if !peer.ip().to_canonical().is_loopback() {
        let why = "the policy is changed from the machine that the node runs on";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "the policy is not changed from a browser"));
    }
    match headers.get(header::CONTENT_TYPE) {
        Some(kind) if kind == "application/json" => Ok(()),
        _ => Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "want content-type: application/json")),
    }
}

/// The nodes of a process, by the first of which operators are answered.
pub(crate) struct PolicyDesk<'a> {
    pub nodes: &'a [NodeRuntime],
    /// Bytes that stand before every key of the metadata.
    pub prefix_bytes: usize,
}

impl PolicyDesk<'_> {
    pub(super) fn show(&self) -> Result<PolicyPage, Refusal> {
        self.first().map(PolicyPage::of)
    }

    fn first(&self) -> Result<&NodeRuntime, Refusal> {
        self.nodes.first().ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "no node runs here"))
    }

    pub(super) async fn change(&self, body: &Bytes) -> Result<PolicyPage, Refusal> {
        let first = self.first()?;
        let change: PolicyChange =
            serde_json::from_slice(body).map_err(|error| Refusal::wrong(format!("not a change: {error}")))?;
        let before = first.kept_policy().await.map_err(refusal)?;
        if before.generation != change.expected_generation {
            let why = format!(
                "the policy is of generation {} by now, not {}: look at it again",
                before.generation, change.expected_generation
            );
            return Err(Refusal::new(StatusCode::CONFLICT, why));
        }
        let policy = change.of(&before.policy);
        let problems = policy.problems().into_iter().chain(policy_problems(&policy, self.prefix_bytes));
        let problems: Vec<String> = problems.map(|problem| problem.to_string()).collect();
        if !problems.is_empty() {
            return Err(Refusal::wrong(problems.join("; ")));
        }
        for node in self.nodes {
            node.can_hold(&policy).map_err(refusal)?;
        }
        first.set_policy(before.generation, policy).await.map_err(refusal)?;
        for node in &self.nodes[1..] {
            node.look_again().await;
        }
        Ok(PolicyPage::of(first))
    }
}

fn refusal(error: RuntimeError) -> Refusal {
    let why = error.to_string();
    match error {
        RuntimeError::PolicyTooLarge(_) => Refusal::wrong(why),
        RuntimeError::Meta(MetaError::Invalid { what, why }) => Refusal::wrong(format!("{what}: {why}")),
        RuntimeError::Meta(MetaError::Stale(_)) => {
            Refusal::new(StatusCode::CONFLICT, "the policy was changed by somebody else meanwhile: look at it again")
        }
        _ => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why),
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

    #[test]
    fn a_change_names_what_it_changes_and_nothing_unknown() {
        let before = Policy::new("4+2".parse().unwrap(), "replicated(3)".parse().unwrap(), FailureDomain::Rack);
        let change: PolicyChange =
            serde_json::from_str(r#"{"expected_generation": 1, "scheme": "8+4", "fragment": "2 MiB"}"#).unwrap();
        assert_eq!(change.of(&before), Policy { scheme: "8+4".parse().unwrap(), fragment_bytes: 2 << 20, ..before });
        for wrong in [
            "{}",
            r#"{"expected_generation": 1, "shceme": "8+4"}"#,
            r#"{"expected_generation": 1, "scheme": "8x4"}"#,
            r#"{"expected_generation": 1, "failure_domain": "cage"}"#,
            r#"{"expected_generation": 1, "write_margin": -1}"#,
        ] {
            assert!(serde_json::from_str::<PolicyChange>(wrong).is_err(), "{wrong}");
        }
    }
}
