//! Whether the largest object has so few stripes that its commit can note all fragments that may be absent by then.

use cairn_gateway::OBJECT_MAX_BYTES;
use cairn_schema::{record::Scheme, verbs::most_absent};

use super::{Findings, Size};

/// Fragments are read in blocks, and a stripe of them is held in memory.
pub(super) const FRAGMENT_RANGE: (Size, Size) = (Size::kib(64), Size::mib(16));

/// What decides how many stripes the largest object has.
pub(super) struct Cut {
    pub scheme: Scheme,
    pub small_scheme: Scheme,
    /// Objects smaller than this have `small_scheme`.
    pub small_below: Size,
    pub fragment: Size,
    /// Bytes that stand before every key of the metadata.
    pub prefix_bytes: usize,
}

pub(super) fn check(cut: &Cut, findings: &mut Findings<'_>) {
    let most = most_absent(cut.prefix_bytes) as u64;
    let small = cut.small_below.0.min(OBJECT_MAX_BYTES);
    for (field, scheme, object) in
        [("policy.scheme", cut.scheme, OBJECT_MAX_BYTES), ("policy.small_scheme", cut.small_scheme, small)]
    {
        let absent = absent(scheme, object, cut.fragment.0);
        // A size out of range is told elsewhere.
        if absent <= most || cut.fragment < FRAGMENT_RANGE.0 {
            continue;
        }
        let what = format!(
            "{} cuts {} with {field} = \"{scheme}\" into stripes of which {absent} fragments may be absent; one commit can note {most}",
            cut.fragment,
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
