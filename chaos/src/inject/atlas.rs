//! What may be hurt at once. A stripe survives the loss of as many fragments as its scheme has parity; where its
//! fragments are stands in the metadata, and what of it is hurt is known to whoever hurts.
//!
//! Groups are looked at, not stripes: what is written while a fault goes on lies in a group, too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::ChaosError;

/// Why these nodes may not be hurt together, by what `cairn admin metadata placement` printed; None: they may.
pub fn excess(placement: &str, hurt: &BTreeSet<String>) -> Result<Option<String>, ChaosError> {
    let mut homes: BTreeMap<String, String> = BTreeMap::new();
    let (mut groups, mut filled) = (Vec::new(), BTreeSet::new());
    for line in placement.lines() {
        let line: Value = serde_json::from_str(line)
            .map_err(|error| ChaosError::Workload(format!("the placement is not as expected: {error} in {line:?}")))?;
        if let Some(disk) = line.get("disk") {
            let text = |field: &str| disk[field].as_str().unwrap_or_default().to_owned();
            homes.insert(text("id"), text("node"));
        } else if let Some(blob) = line.get("blob") {
            filled.extend(blob["runs"].as_array().into_iter().flatten().filter_map(|run| run["group"].as_u64()));
        } else if let Some(group) = line.get("group") {
            groups.push(group.clone());
        }
    }
    for group in groups {
        let id = group["id"].as_u64().unwrap_or_default();
        if group["state"] == "sealed" && !filled.contains(&id) {
            continue;
        }
        let members = group["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let away = members.iter().filter_map(|id| homes.get(id.as_str()?)).filter(|node| hurt.contains(*node)).count();
        let parity = group["parity"].as_u64().unwrap_or(0);
        if away as u64 > parity {
            return Ok(Some(format!("group {id} would miss {away} fragments of a stripe, and can lose {parity}")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Disks a and b on n1, c on n2, d on n3.
    const PLACEMENT: &str = r#"{"disk":{"id":"a","node":"n1"}}
{"disk":{"id":"b","node":"n1"}}
{"disk":{"id":"c","node":"n2"}}
{"disk":{"id":"d","node":"n3"}}
{"group":{"id":1,"parity":2,"state":"sealed","members":["a","b","c","d"]}}
{"group":{"id":2,"parity":1,"state":"open","members":["a","c","d"]}}
{"blob":{"id":"00","runs":[{"group":1,"stripes":1}]}}"#;

    fn told(placement: &str, hurt: &[&str]) -> Option<String> {
        excess(placement, &hurt.iter().map(|node| (*node).to_owned()).collect()).unwrap()
    }

    #[test]
    fn what_the_scheme_survives_is_allowed_and_no_more() {
        for node in ["n1", "n2", "n3"] {
            assert_eq!(told(PLACEMENT, &[node]), None);
        }
        assert_eq!(
            told(PLACEMENT, &["n1", "n2"]).unwrap(),
            "group 1 would miss 3 fragments of a stripe, and can lose 2"
        );
        // Group 1 can lose both; group 2 cannot, though nothing is in it yet.
        assert!(told(PLACEMENT, &["n2", "n3"]).unwrap().contains("group 2"));
    }

    #[test]
    fn a_group_that_takes_no_writes_and_holds_nothing_loses_nothing() {
        let empty = PLACEMENT.lines().filter(|line| !line.contains("blob")).collect::<Vec<_>>().join("\n");
        assert!(told(&empty, &["n1", "n2"]).unwrap().contains("group 2"));
        assert_eq!(told(&empty.replace("open", "sealed"), &["n1", "n2"]), None);
        assert!(excess("no list", &BTreeSet::new()).is_err());
    }
}
