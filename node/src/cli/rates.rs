//! `cairn admin rates`: shows and changes how fast nodes repair and scrub, through the admin API of any node.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    ask::{self, Page},
    setting_args::{OrDefault, RatesArgs, RatesCommand, RatesSet},
};
use crate::failure::Failure;

const PAGE: Page = Page { path: "/v1/rates", refused: Failure::RatesRefused };

/// `/v1/rates`, read leniently, so that it works across versions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RatesView {
    seen_by: String,
    generation: u64,
    scrub: String,
    repair: String,
    background_percent: u64,
    of_cluster: Vec<String>,
}

impl RatesView {
    /// Each rate with its value, and whose it is.
    fn fields(&self) -> [(&'static str, String); 3] {
        let whose = |name: &'static str, value: &dyn std::fmt::Display| {
            let of_cluster = self.of_cluster.iter().any(|named| named == name);
            let whose = if of_cluster { "the cluster's".to_owned() } else { format!("{}'s own", self.seen_by) };
            (name, format!("{value} ({whose})"))
        };
        [
            whose("scrub", &self.scrub),
            whose("repair", &self.repair),
            whose("background_percent", &self.background_percent),
        ]
    }

    fn in_words(&self) -> String {
        // Writing to a String cannot fail, so results are dropped throughout.
        let mut text = format!("rates {} of the cluster, seen by {}\n", self.generation, self.seen_by);
        for (name, value) in self.fields() {
            let _ = writeln!(text, "  {name:<20}{value}");
        }
        text
    }
}

/// Does it, and says what was found or done.
pub(crate) async fn run(args: &RatesArgs) -> Result<String, Failure> {
    let api = &args.api;
    let before = PAGE.ask(&api.admin, None).await?;
    let fields = match &args.command {
        None if api.json => return Ok(String::from_utf8_lossy(&before).into_owned()),
        None => return Ok(ask::read::<RatesView>(&api.admin, &before)?.in_words()),
        Some(RatesCommand::Set(set)) => said(set),
        Some(RatesCommand::Reset) => ["scrub", "repair", "background_percent"].map(|name| (name, Some(Value::Null))),
    };
    let before: RatesView = ask::read(&api.admin, &before)?;
    let after = PAGE.ask(&api.admin, Some(change(fields, before.generation))).await?;
    if api.json {
        return Ok(String::from_utf8_lossy(&after).into_owned());
    }
    Ok(changed(&before, &ask::read(&api.admin, &after)?))
}

/// Each rate and what it is to be: null for each node's own. None stays as it is.
fn said(set: &RatesSet) -> [(&'static str, Option<Value>); 3] {
    fn value<T: Copy>(said: Option<OrDefault<T>>, as_json: impl Fn(T) -> Value) -> Option<Value> {
        said.map(|said| match said {
            OrDefault::Default => Value::Null,
            OrDefault::Value(value) => as_json(value),
        })
    }
    [
        ("scrub", value(set.scrub, |size| json!(size.0))),
        ("repair", value(set.repair, |size| json!(size.0))),
        ("background_percent", value(set.background_percent, |percent| json!(percent))),
    ]
}

fn change(fields: [(&'static str, Option<Value>); 3], generation: u64) -> Value {
    let mut change = Map::new();
    change.insert("expected_generation".into(), generation.into());
    change.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Value::Object(change)
}

fn changed(before: &RatesView, after: &RatesView) -> String {
    if before.generation == after.generation {
        return format!("nothing to change: rates {} are so already\n", after.generation);
    }
    let mut text = format!("rates {} are now rates {}\n", before.generation, after.generation);
    for ((name, old), (_, new)) in before.fields().into_iter().zip(after.fields()) {
        if old != new {
            let _ = writeln!(text, "  {name:<20}{old} -> {new}");
        }
    }
    text.push_str(
        "All nodes go by it within a second or two, and after a restart, whatever their configurations say.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Size;

    fn view(generation: u64, repair: &str, of_cluster: &[&str]) -> RatesView {
        RatesView {
            generation,
            repair: repair.to_owned(),
            scrub: "32 MiB".to_owned(),
            seen_by: "n1".to_owned(),
            background_percent: 20,
            of_cluster: of_cluster.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_changed_is_said_and_whose_rates_hold() {
        let (own, set) = (view(0, "256 MiB", &[]), view(1, "64 MiB", &["repair"]));
        let said = changed(&own, &set);
        let line = "  repair              256 MiB (n1's own) -> 64 MiB (the cluster's)\n";
        assert!(said.contains(&format!("rates 0 are now rates 1\n{line}")), "{said}");
        assert!(!said.contains("scrub"), "{said}");
        assert!(changed(&set, &set).contains("nothing to change: rates 1"));
        let said = changed(&set, &view(2, "256 MiB", &[]));
        assert!(said.contains("64 MiB (the cluster's) -> 256 MiB (n1's own)"), "{said}");
        let words = set.in_words();
        assert!(words.contains("scrub               32 MiB (n1's own)\n"), "{words}");
    }

    #[test]
    fn a_change_says_only_what_was_said() {
        let set = RatesSet {
            scrub: Some(OrDefault::Default),
            repair: Some(OrDefault::Value(Size(1 << 20))),
            background_percent: None,
        };
        let expected = json!({"expected_generation": 4, "scrub": null, "repair": 1 << 20});
        assert_eq!(change(said(&set), 4), expected);
    }
}
