//! Whether the largest object has so few stripes that its commit can note all fragments that may be absent by then.

use cairn_gateway::OBJECT_MAX_BYTES;
use cairn_schema::{record::Scheme, verbs::most_absent};

use super::{
    Findings, Size,
    node_file::{DEFAULT_PREFIX, FRAGMENT_RANGE, MetadataKind, NodeFile},
};

pub fn check(file: &NodeFile, findings: &mut Findings<'_>) {
    let prefix = match file.metadata.kind {
        MetadataKind::Fdb => file.metadata.prefix.as_deref().unwrap_or(DEFAULT_PREFIX).len(),
        MetadataKind::Embedded | MetadataKind::Remote => 0,
    };
    let most = most_absent(prefix) as u64;
    let policy = &file.policy;
    let small = policy.small_below.0.min(OBJECT_MAX_BYTES);
    for (field, scheme, object) in
        [("policy.scheme", policy.scheme.0, OBJECT_MAX_BYTES), ("policy.small_scheme", policy.small_scheme.0, small)]
    {
        let absent = absent(scheme, object, policy.fragment.0);
        // A size out of range is told elsewhere.
        if absent <= most || policy.fragment < FRAGMENT_RANGE.0 {
            continue;
        }
        let what = format!(
            "{} cuts {} with {field} = \"{scheme}\" into stripes of which {absent} fragments may be absent; one commit can note {most}",
            policy.fragment,
            Size(object)
        );
        let fix = match least(scheme, object, most) {
            Some(least) => format!("use at least {least}"),
            None => format!("use a {field} with less redundancy"),
        };
        findings.refuse("policy.fragment", what, fix);
    }
}

/// Fragments that can be lost, or never have come, of all stripes of an object.
fn absent(scheme: Scheme, object: u64, fragment: u64) -> u64 {
    let stripe = fragment.saturating_mul(scheme.data() as u64).max(1);
    object.div_ceil(stripe).saturating_mul(scheme.parity() as u64)
}

/// The least size of a fragment that leaves no more than `most` of them to be absent.
fn least(scheme: Scheme, object: u64, most: u64) -> Option<Size> {
    let (smallest, largest) = FRAGMENT_RANGE;
    let sizes = (smallest.0..=largest.0).step_by(usize::try_from(smallest.0).unwrap_or(usize::MAX));
    sizes.map(Size).find(|size| absent(scheme, object, size.0) <= most)
}
