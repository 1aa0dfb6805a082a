//! Which versions a cluster's nodes run, when they are several.

use std::collections::BTreeMap;

use crate::words::plural;

/// So many names help; more are counted.
const MAX_NAMES: usize = 3;

/// None while all run the same. Nodes that do not tell, because they are away or of an older version, are named.
pub(super) fn versions<'a>(nodes: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Option<String> {
    let mut by_version: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for (node, version) in nodes {
        by_version.entry(version).or_default().push(node);
    }
    if by_version.keys().flatten().count() < 2 {
        return None;
    }
    let named = by_version.iter().rev().map(|(version, nodes)| {
        let whose = match nodes.as_slice() {
            few if few.len() <= MAX_NAMES => few.join(", "),
            many => plural(many.len(), "node"),
        };
        match version {
            Some(version) => format!("{version} on {whose}"),
            None => format!("unknown of {whose}"),
        }
    });
    Some(format!("{}: an upgrade is under way", named.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_when_they_are_several() {
        let told = |nodes: &[(&'static str, Option<&'static str>)]| versions(nodes.iter().copied());
        assert_eq!(told(&[("n1", Some("1.0")), ("n2", Some("1.0"))]), None);
        assert_eq!(told(&[("n1", Some("1.0")), ("n2", None)]), None, "it may only be away");
        let mixed = [("n1", Some("1.0")), ("n2", Some("1.1")), ("n3", None), ("n4", Some("1.0"))];
        let words = "1.1 on n2; 1.0 on n1, n4; unknown of n3: an upgrade is under way";
        assert_eq!(told(&mixed).as_deref(), Some(words));
        let many = [("a", Some("1")), ("b", Some("1")), ("c", Some("1")), ("d", Some("1")), ("e", Some("2"))];
        assert_eq!(told(&many).as_deref(), Some("2 on e; 1 on 4 nodes: an upgrade is under way"));
    }
}
