#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::*;

fn bytes(seed: u64, len: usize) -> Bytes {
    let mut out = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut out);
    out.into()
}

fn codec(scheme: &str) -> Codec {
    Codec::new(scheme.parse().unwrap()).unwrap()
}

fn join(pieces: &[Bytes]) -> Vec<u8> {
    pieces.concat()
}

/// DUR-1: the stripe and every lost fragment come back from `present`.
fn check_loss(codec: &Codec, stripe: &[u8], all: &[Bytes], present: &[u8]) {
    let held: Vec<Fragment> = present.iter().map(|p| (*p, all[usize::from(*p)].clone())).collect();
    assert_eq!(join(&codec.decode_stripe(&held, stripe.len()).unwrap()), stripe, "{codec:?} from {present:?}");
    let wanted: Vec<u8> = (0..codec.width() as u8).collect();
    let rebuilt = codec.reconstruct(&held, &wanted, all[0].len()).unwrap();
    assert_eq!(rebuilt, all, "{codec:?} from {present:?}");
}

fn every_loss_pattern(scheme: &str, lengths: &[usize]) {
    let codec = codec(scheme);
    for len in lengths {
        let stripe = bytes(*len as u64, *len);
        let all = codec.encode(stripe.clone()).unwrap();
        assert_eq!(all.len(), codec.width());
        assert!(all.iter().all(|fragment| fragment.len() == codec.fragment_len(*len).unwrap()));
        for mask in 0u32..1 << codec.width() {
            let present: Vec<u8> = (0..codec.width() as u8).filter(|p| mask >> p & 1 == 1).collect();
            if present.len() >= codec.needed() {
                check_loss(&codec, &stripe, &all, &present);
            }
        }
    }
}

#[test]
fn dur_1_every_loss_pattern_of_small_gf256_schemes() {
    for scheme in ["1+1", "1+3", "2+1", "3+2", "4+2", "6+3"] {
        every_loss_pattern(scheme, &[1, 2, 5, 64, 257]);
    }
}

#[test]
fn dur_1_every_loss_pattern_of_8_and_4() {
    every_loss_pattern("8+4", &[1000]);
}

#[test]
fn dur_1_every_loss_pattern_of_small_novelpoly_schemes() {
    for scheme in ["1+1/novelpoly", "2+1/novelpoly", "3+2/novelpoly", "4+2/novelpoly"] {
        every_loss_pattern(scheme, &[1, 33]);
    }
    for scheme in ["1+1", "2+1", "3+3", "4+2"] {
        every_loss_pattern(scheme, &[1]);
    }
}

#[test]
fn dur_1_every_loss_pattern_of_replicas() {
    every_loss_pattern("replicated(3)", &[1, 100]);
    every_loss_pattern("replicated(1)", &[1]);
}

#[test]
fn dur_1_random_losses_of_wide_schemes() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for scheme in ["10+4", "17+3", "20+10", "50+50", "128+127", "200+55", "254+1", "1+254"] {
        let codec = codec(scheme);
        let stripe = bytes(rng.next_u64(), rng.random_range(1..5_000));
        let all = codec.encode(stripe.clone()).unwrap();
        for _ in 0..8 {
            let mut positions: Vec<u8> = (0..codec.width() as u8).collect();
            positions.shuffle(&mut rng);
            positions.truncate(codec.needed());
            check_loss(&codec, &stripe, &all, &positions);
        }
    }
    for scheme in ["10+4/novelpoly", "17+3/novelpoly", "100+60/novelpoly"] {
        let codec = codec(scheme);
        let stripe = bytes(rng.next_u64(), rng.random_range(1..600));
        let all = codec.encode(stripe.clone()).unwrap();
        for _ in 0..4 {
            let mut positions: Vec<u8> = (0..codec.width() as u8).collect();
            positions.shuffle(&mut rng);
            positions.truncate(codec.needed());
            check_loss(&codec, &stripe, &all, &positions);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The same bytes as an independent implementation, whatever the shape: what either wrote the other can read.
    #[test]
    fn gf256_equals_reed_solomon_erasure(k in 1usize..=40, m in 1usize..=12, len in 1usize..3_000, seed in any::<u64>()) {
        let codec = Codec::new(Scheme::Rs { data: k as u8, parity: m as u8, code: ErasureCode::Gf256 }).unwrap();
        let stripe = bytes(seed, len);
        let ours = codec.encode(stripe.clone()).unwrap();
        let f = codec.fragment_len(len).unwrap();
        let mut theirs: Vec<Vec<u8>> = stripe.chunks(f).map(<[u8]>::to_vec).collect();
        theirs.resize(k + m, Vec::new());
        theirs.iter_mut().for_each(|fragment| fragment.resize(f, 0));
        reed_solomon_erasure::galois_8::ReedSolomon::new(k, m).unwrap().encode(&mut theirs).unwrap();
        prop_assert_eq!(ours.iter().map(|b| b.to_vec()).collect::<Vec<_>>(), theirs);
    }

    /// Any byte range of lost fragments comes back from the same range of any k others.
    #[test]
    fn gf256_rebuilds_any_range(
        k in 1usize..=12, m in 1usize..=5, len in 1usize..3_000, seed in any::<u64>(), a in any::<usize>(), b in any::<usize>()
    ) {
        let codec = Codec::new(Scheme::Rs { data: k as u8, parity: m as u8, code: ErasureCode::Gf256 }).unwrap();
        prop_assert!(codec.is_range_local());
        let all = codec.encode(bytes(seed, len)).unwrap();
        let f = all[0].len();
        let (a, b) = (a % f, b % f);
        let range = a.min(b)..a.max(b) + 1;
        let mut positions: Vec<u8> = (0..codec.width() as u8).collect();
        positions.shuffle(&mut StdRng::seed_from_u64(seed));
        let (read, lost) = positions.split_at(k);
        let held: Vec<Fragment> = read.iter().map(|p| (*p, all[usize::from(*p)].slice(range.clone()))).collect();
        let rebuilt = codec.reconstruct(&held, lost, range.len()).unwrap();
        for (position, bytes) in lost.iter().zip(rebuilt) {
            prop_assert_eq!(&bytes[..], &all[usize::from(*position)][range.clone()]);
        }
    }

    /// Arbitrary input is answered, never a panic.
    #[test]
    fn bad_input_is_a_typed_error(
        scheme in prop_oneof![Just("4+2"), Just("3+2/novelpoly"), Just("replicated(3)")],
        present in proptest::collection::vec((any::<u8>(), 0usize..40), 0..8),
        small in any::<bool>(),
        wanted in proptest::collection::vec(any::<u8>(), 0..4),
        len in 0usize..40,
    ) {
        let codec = codec(scheme);
        let position = |p: u8| if small { p % 6 } else { p };
        let held: Vec<Fragment> = present.iter().map(|(p, n)| (position(*p), bytes(1, *n))).collect();
        let wanted: Vec<u8> = wanted.iter().map(|p| position(*p)).collect();
        if let Ok(rebuilt) = codec.reconstruct(&held, &wanted, len) {
            prop_assert_eq!(rebuilt.len(), wanted.len());
        }
        if let Ok(pieces) = codec.decode_stripe(&held, len) {
            prop_assert_eq!(join(&pieces).len(), len);
        }
    }
}

#[test]
fn data_fragments_are_slices_of_the_stripe() {
    let stripe = bytes(1, 4 * 1000 - 3);
    let start = stripe.as_ptr() as usize;
    let all = codec("4+2").encode(stripe.clone()).unwrap();
    let inside = |fragment: &Bytes| (start..start + stripe.len()).contains(&(fragment.as_ptr() as usize));
    assert_eq!(all.iter().map(inside).collect::<Vec<_>>(), [true, true, true, false, false, false]);
    let held: Vec<Fragment> = (0..4).map(|p| (p, all[usize::from(p)].clone())).collect();
    let pieces = codec("4+2").decode_stripe(&held, stripe.len()).unwrap();
    assert_eq!(pieces[2].as_ptr(), all[2].as_ptr());
}

#[test]
fn what_cannot_be_a_stripe_is_refused() {
    assert_eq!(codec("4+2").encode(Bytes::new()), Err(CodecError::StripeLength(0)));
    let none = Scheme::Rs { data: 4, parity: 0, code: ErasureCode::Gf256 };
    assert!(matches!(Codec::new(none), Err(CodecError::Scheme { .. })));
    let wide = Scheme::Rs { data: 200, parity: 100, code: ErasureCode::Novelpoly };
    assert!(matches!(Codec::new(wide), Err(CodecError::Scheme { .. })));
    let empty = Scheme::Rs { data: 0, parity: 3, code: ErasureCode::Novelpoly };
    assert!(matches!(Codec::new(empty), Err(CodecError::Scheme { .. })));
    let few = codec("4+2").reconstruct(&[(0, bytes(1, 8))], &[1], 8);
    assert_eq!(few, Err(CodecError::TooFew { have: 1, needed: 4 }));
}

/// Fragments on disks outlive this build: their bytes may never change.
#[test]
fn fragments_keep_their_bytes_for_ever() {
    let stripe = Bytes::from_static(b"Cairn keeps these bytes.");
    let hex = |scheme| codec(scheme).encode(stripe.clone()).unwrap().iter().map(hex::encode).collect::<Vec<_>>();
    assert_eq!(hex("3+2")[3..], GOLDEN_GF256);
    assert_eq!(hex("2+2/novelpoly"), GOLDEN_NOVELPOLY);
}

const GOLDEN_GF256: [&str; 2] = ["4331782b6e2d7d38", "ba7283e2e2d94b72"];
const GOLDEN_NOVELPOLY: [&str; 4] =
    ["43616e206570746865207465", "69726b65732065736279732e", "7757676a41b25a796fdc7eb6", "5d44622f57e24b62688579fd"];
