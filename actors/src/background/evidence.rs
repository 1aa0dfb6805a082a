//! Which fragments of a stripe are wrong, when each is right by its own checksums and together they do not agree.
//!
//! Fragments of a code of distance m + 1: any k of them make a whole stripe up, and the others should be what that
//! encodes to. Those explanations are tried that need the fewest wrong fragments. If these are half of the redundancy
//! at most, there is just one explanation; else there may be several, and only the blob's checksum tells which is true.

use bytes::Bytes;
use cairn_fragment::codec::{Codec, CodecError, Fragment};

/// Decodings of one stripe at most: of 12 fragments all threes are tried, of 6 all that say something.
const MOST_TRIES: usize = 300;

/// Tells of each explanation the stripe's bytes and the positions of the fragments that are wrong by it. Of fragments
/// that agree there is one, by which none is wrong; of some that are too wrong there is none. Takes its time: call it
/// off the async threads.
pub(super) fn explain(
    codec: &Codec,
    present: &[Fragment],
    stripe_len: usize,
    mut tell: impl FnMut(&[Bytes], &[u8]),
) -> Result<(), CodecError> {
    let fragment_len = codec.fragment_len(stripe_len)?;
    let positions: Vec<u8> = present.iter().map(|(position, _)| *position).collect();
    let spare = present.len().saturating_sub(codec.needed());
    let mut tries = 0;
    for most_wrong in 0..=spare {
        let mut explained = false;
        for trusted in subsets(present.len(), present.len() - most_wrong) {
            if tries == MOST_TRIES {
                return Ok(());
            }
            tries += 1;
            let basis: Vec<Fragment> =
                trusted.iter().take(codec.needed()).map(|index| present[*index].clone()).collect();
            let should_be = codec.reconstruct(&basis, &positions, fragment_len)?;
            let differ = present.iter().zip(&should_be).filter(|((_, is), should_be)| is != *should_be);
            let wrong: Vec<u8> = differ.map(|((position, _), _)| *position).collect();
            // Fewer were tried before.
            if wrong.len() == most_wrong && !trusted.iter().any(|index| wrong.contains(&positions[*index])) {
                tell(&codec.decode_stripe(&basis, stripe_len)?, &wrong);
                explained = true;
            }
        }
        if explained {
            return Ok(());
        }
    }
    Ok(())
}

/// All ways to choose `count` of the numbers below `of`, each in order.
fn subsets(of: usize, count: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut next = (count <= of).then(|| (0..count).collect::<Vec<usize>>());
    std::iter::from_fn(move || {
        let chosen = next.take()?;
        // The last that can still move up takes those behind it along.
        if let Some(at) = (0..count).rev().find(|at| chosen[*at] < of - count + at) {
            let mut following = chosen.clone();
            following[at] += 1;
            (at + 1..count).for_each(|later| following[later] = following[later - 1] + 1);
            next = Some(following);
        }
        Some(chosen)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const STRIPE: usize = 1003;

    fn stripe() -> Bytes {
        (0..STRIPE).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>().into()
    }

    /// All fragments, those at `wrong` with other bytes.
    fn fragments(codec: &Codec, wrong: &[u8]) -> Vec<Fragment> {
        let encoded = codec.encode(stripe()).unwrap();
        let mut fragments: Vec<Fragment> = (0u8..).zip(encoded).collect();
        for position in wrong {
            let bytes = &mut fragments[usize::from(*position)].1;
            let mut other = bytes.to_vec();
            other[usize::from(*position) * 7] ^= 1 + *position;
            *bytes = other.into();
        }
        fragments
    }

    fn explanations(codec: &Codec, present: &[Fragment]) -> Vec<(Bytes, Vec<u8>)> {
        let mut told = Vec::new();
        explain(codec, present, STRIPE, |bytes, wrong| told.push((bytes.concat().into(), wrong.to_vec()))).unwrap();
        told
    }

    #[test]
    fn subsets_are_all_and_each_once() {
        let chosen: Vec<_> = subsets(4, 2).collect();
        assert_eq!(chosen, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
        assert_eq!((subsets(3, 3).count(), subsets(12, 9).count(), subsets(2, 3).count()), (1, 220, 0));
    }

    #[test]
    fn what_one_more_than_half_can_tell_has_several_explanations_and_the_truth_is_one() {
        let codec = Codec::new("4+2".parse().unwrap()).unwrap();
        let told = explanations(&codec, &fragments(&codec, &[1, 3]));
        assert_eq!(told.len(), 15, "any four may be right");
        assert!(told.contains(&(stripe(), vec![1, 3])));
        let codec = Codec::new("4+1".parse().unwrap()).unwrap();
        assert_eq!(explanations(&codec, &fragments(&codec, &[2])).len(), 5);
    }

    proptest! {
        /// Whichever fragments are absent and whichever of the others are wrong: as long as these are no more than half
        /// of what is to spare, they are found, and nothing else is.
        #[test]
        fn int_1_wrong_fragments_are_found_while_the_others_outvote_them(
            scheme in prop::sample::select(vec!["4+2", "8+4", "2+3", "replicated(3)", "4+2/novelpoly"]),
            order in prop::collection::vec(any::<u32>(), 12),
            absent in 0usize..4,
            wrong in 0usize..3,
        ) {
            let codec = Codec::new(scheme.parse().unwrap()).unwrap();
            let mut positions: Vec<u8> = (0..codec.width() as u8).collect();
            positions.sort_by_key(|position| order[usize::from(*position)]);
            let spare = codec.width() - codec.needed();
            let absent = absent.min(spare);
            let wrong = wrong.min((spare - absent) / 2);
            let mut damaged = positions[absent..absent + wrong].to_vec();
            damaged.sort_unstable();
            let mut present = fragments(&codec, &damaged);
            present.retain(|(position, _)| !positions[..absent].contains(position));
            prop_assert_eq!(explanations(&codec, &present), [(stripe(), damaged)]);
        }
    }
}
