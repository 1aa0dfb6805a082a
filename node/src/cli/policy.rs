//! `cairn admin policy`: shows and changes how the cluster keeps data, through the admin API of any node.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    ask::{self, Page},
    setting_args::{PolicyArgs, PolicyCommand, PolicySet},
};
use crate::failure::Failure;

const PAGE: Page = Page { path: "/v1/policy", refused: Failure::PolicyRefused };

/// `/v1/policy`, read leniently, so that it works across versions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyView {
    seen_by: String,
    generation: u64,
    scheme: String,
    small_scheme: String,
    small_below: String,
    failure_domain: String,
    write_margin: u64,
    fragment: String,
    differences: Vec<DifferenceView>,
    too_large: Option<String>,
}

/// Where a node was told otherwise than what holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DifferenceView {
    pub field: String,
    pub told: String,
    pub holds: String,
}

impl PolicyView {
    fn fields(&self) -> [(&'static str, String); 6] {
        [
            ("scheme", self.scheme.clone()),
            ("small_scheme", self.small_scheme.clone()),
            ("small_below", self.small_below.clone()),
            ("failure_domain", self.failure_domain.clone()),
            ("write_margin", self.write_margin.to_string()),
            ("fragment", self.fragment.clone()),
        ]
    }

    fn in_words(&self) -> String {
        // Writing to a String cannot fail, so results are dropped throughout.
        let mut text = format!("policy {} of the cluster, seen by {}\n", self.generation, self.seen_by);
        for (name, value) in self.fields() {
            let _ = writeln!(text, "  {name:<16}{value}");
        }
        for DifferenceView { field, told, holds } in &self.differences {
            let _ = writeln!(text, "the configuration of {} says {field} = {told}; it obeys {holds}", self.seen_by);
        }
        if let Some(why) = &self.too_large {
            let _ = writeln!(text, "{} TAKES NO WRITES: {why}; raise limits.memory and restart it", self.seen_by);
        }
        text
    }
}

/// Does it, and says what was found or done.
pub(crate) async fn run(args: &PolicyArgs) -> Result<String, Failure> {
    let api = &args.api;
    let before = PAGE.ask(&api.admin, None).await?;
    match &args.command {
        None if api.json => Ok(String::from_utf8_lossy(&before).into_owned()),
        None => Ok(ask::read::<PolicyView>(&api.admin, &before)?.in_words()),
        Some(PolicyCommand::Set(set)) => {
            let before: PolicyView = ask::read(&api.admin, &before)?;
            let change = change(set, before.generation);
            let after = PAGE.ask(&api.admin, Some(change)).await?;
            if api.json {
                return Ok(String::from_utf8_lossy(&after).into_owned());
            }
            Ok(changed(&before, &ask::read(&api.admin, &after)?))
        }
    }
}

fn change(set: &PolicySet, generation: u64) -> Value {
    let mut change = Map::new();
    change.insert("expected_generation".into(), generation.into());
    let fields = [
        ("scheme", set.scheme.map(|scheme| json!(scheme.to_string()))),
        ("small_scheme", set.small_scheme.map(|scheme| json!(scheme.to_string()))),
        ("small_below", set.small_below.map(|size| json!(size.0))),
        ("failure_domain", set.failure_domain.map(|domain| json!(domain.domain()))),
        ("write_margin", set.write_margin.map(|margin| json!(margin))),
        ("fragment", set.fragment.map(|size| json!(size.0))),
    ];
    for (name, value) in fields {
        change.extend(value.map(|value| (name.to_owned(), value)));
    }
    Value::Object(change)
}

fn changed(before: &PolicyView, after: &PolicyView) -> String {
    if before.generation == after.generation {
        return format!("nothing to change: policy {} is so already\n", after.generation);
    }
    let mut text = format!("policy {} is now policy {}\n", before.generation, after.generation);
    for ((name, old), (_, new)) in before.fields().into_iter().zip(after.fields()) {
        if old != new {
            let _ = writeln!(text, "  {name:<16}{old} -> {new}");
        }
    }
    text.push_str(
        "All nodes go by it within a second or two. What was written before stays as it is, and readable.\n\
         Put the same into [policy] of every node's configuration: until then each says that it differs.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(generation: u64, scheme: &str) -> PolicyView {
        PolicyView { generation, scheme: scheme.to_owned(), seen_by: "n1".to_owned(), ..PolicyView::default() }
    }

    #[test]
    fn what_changed_is_said_and_what_a_node_says_otherwise() {
        let said = changed(&view(1, "4+2"), &view(2, "8+4"));
        assert!(said.contains("policy 1 is now policy 2\n  scheme          4+2 -> 8+4\n"), "{said}");
        assert!(!said.contains("write_margin"), "{said}");
        assert!(changed(&view(2, "8+4"), &view(2, "8+4")).contains("nothing to change"));
        let difference =
            DifferenceView { field: "policy.scheme".to_owned(), told: "4+2".to_owned(), holds: "8+4".to_owned() };
        let differs = PolicyView { differences: vec![difference], ..view(2, "8+4") }.in_words();
        assert!(differs.contains("the configuration of n1 says policy.scheme = 4+2; it obeys 8+4"), "{differs}");
    }
}
