//! Whether the largest object has so few stripes that its commit can note all fragments that may be absent by then.

use cairn_gateway::OBJECT_MAX_BYTES;
use cairn_schema::{
    record::{Policy, Scheme, SettingProblem},
    verbs::most_absent,
};

use super::Size;

/// Fragments are read in blocks, and a stripe of them is held in memory.
const FRAGMENT_RANGE: (Size, Size) =
    (Size(Policy::LEAST_FRAGMENT_BYTES as u64), Size(Policy::MOST_FRAGMENT_BYTES as u64));

/// Why the largest object could not be written by the policy, where `prefix_bytes` stand before every key of the
/// metadata.
pub(crate) fn problems(policy: &Policy, prefix_bytes: usize) -> Vec<SettingProblem> {
    let most = most_absent(prefix_bytes) as u64;
    let small = policy.small_below.min(OBJECT_MAX_BYTES);
    let fragment = Size(policy.fragment_bytes.into());
    let mut problems = Vec::new();
    for (field, scheme, object) in
        [("policy.scheme", policy.scheme, OBJECT_MAX_BYTES), ("policy.small_scheme", policy.small_scheme, small)]
    {
        let absent = absent(scheme, object, fragment.0);
        // A size out of range is told elsewhere.
        if absent <= most || fragment < FRAGMENT_RANGE.0 {
            continue;
        }
        let what = format!(
            "{fragment} cuts {} with {field} = \"{scheme}\" into stripes of which {absent} fragments may be absent; one commit can note {most}",
            Size(object)
        );
        let fix = match least(scheme, object, most) {
            Some(least) => format!("use at least {least}"),
            None => format!("use a {field} with less redundancy"),
        };
        problems.push(SettingProblem { field: "policy.fragment", what, fix });
    }
    problems
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
