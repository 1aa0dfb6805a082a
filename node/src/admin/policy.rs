//! `/v1/policy`: how the cluster keeps data, shown and changed.

use cairn_actors::{placement::PolicyView, runtime::NodeRuntime};
use cairn_schema::record::{FailureDomain, Policy, PolicyDifference};
use serde::{Deserialize, Serialize};

use super::desk::{self, Desk, Refusal};
use crate::config::{SchemeText, Size, policy_problems};

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
struct PolicyChange {
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

impl Desk<'_> {
    pub(super) fn policy(&self) -> Result<PolicyPage, Refusal> {
        self.first().map(PolicyPage::of)
    }

    pub(super) async fn change_policy(&self, body: &[u8]) -> Result<PolicyPage, Refusal> {
        let first = self.first()?;
        let change: PolicyChange = desk::change(body)?;
        let before = first.kept_policy().await?;
        desk::seen_last("policy", before.generation, change.expected_generation)?;
        let policy = change.of(&before.policy);
        let problems = policy.problems().into_iter().chain(policy_problems(&policy, self.prefix_bytes));
        let problems: Vec<String> = problems.map(|problem| problem.to_string()).collect();
        if !problems.is_empty() {
            return Err(Refusal::wrong(problems.join("; ")));
        }
        for node in self.nodes {
            node.can_hold(&policy)?;
        }
        first.set_policy(before.generation, policy).await?;
        self.tell_others().await;
        Ok(PolicyPage::of(first))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
