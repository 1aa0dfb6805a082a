#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use cairn_schema::record::ChecksumAlgorithm;
use proptest::prelude::*;

use super::*;

const ALL: DigestPlan = DigestPlan { md5: true, sha256: true, sha1: true, crc32: true, crc32c: true, crc64nvme: true };

fn digests(bytes: &[u8]) -> BodyDigests {
    let mut digester = Digester::new(ALL);
    digester.update(bytes);
    digester.finish()
}

fn body(seed: u64, len: usize) -> Vec<u8> {
    use rand::{RngCore, SeedableRng};
    let mut bytes = vec![0; len];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// RFC 1321, appendix A.5.
#[test]
fn md5_of_the_rfc() {
    let vectors = [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
        (
            "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            "57edf4a22be3c955ac49da2e2107b67a",
        ),
    ];
    for (text, md5) in vectors {
        assert_eq!(hex::encode(digests(text.as_bytes()).digests.md5.unwrap()), md5, "{text}");
    }
}

/// FIPS 180-4's examples, and the check values of the CRC catalogue.
#[test]
fn the_other_digests_of_their_standards() {
    let abc = digests(b"abc").digests;
    assert_eq!(hex::encode(abc.sha256.unwrap()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(hex::encode(abc.sha1.unwrap()), "a9993e364706816aba3e25717850c26c9cd0d89d");
    let check = digests(b"123456789").digests;
    assert_eq!(check.crc32.unwrap(), 0xcbf4_3926u32.to_be_bytes());
    assert_eq!(check.crc32c.unwrap(), 0xe306_9283u32.to_be_bytes());
    assert_eq!(check.crc64nvme.unwrap(), 0xae8b_1486_0a79_9888u64.to_be_bytes());
    assert_eq!(check.length, 9);
    assert_eq!(digests(b"").xxh3, 0x2d06_8005_38d3_94c2);
}

/// Bit by bit from the definition, so that the accelerated code is not its own judge.
fn crc(poly: u64, bits: u32, bytes: &[u8]) -> u64 {
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let mut crc = mask;
    for byte in bytes {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ poly } else { crc >> 1 };
        }
    }
    !crc & mask
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn crcs_equal_their_definition(bytes in proptest::collection::vec(any::<u8>(), 0..3_000), cut in any::<usize>()) {
        let mut digester = Digester::new(ALL);
        let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
        digester.update(head);
        digester.update(tail);
        let got = digester.finish().digests;
        prop_assert_eq!(got.crc32.unwrap(), (crc(0xedb8_8320, 32, &bytes) as u32).to_be_bytes());
        prop_assert_eq!(got.crc32c.unwrap(), (crc(0x82f6_3b78, 32, &bytes) as u32).to_be_bytes());
        prop_assert_eq!(got.crc64nvme.unwrap(), crc(0x9a6c_9329_ac4b_c9b5, 64, &bytes).to_be_bytes());
    }

    #[test]
    fn digests_do_not_depend_on_how_a_body_is_cut(seed in any::<u64>(), cuts in proptest::collection::vec(0usize..400, 0..20)) {
        let bytes = body(seed, cuts.iter().sum());
        let mut digester = Digester::new(ALL);
        let mut rest = &bytes[..];
        for cut in cuts {
            let (head, tail) = rest.split_at(cut);
            digester.update(head);
            rest = tail;
        }
        prop_assert_eq!(digester.finish(), digests(&bytes));
    }

    #[test]
    fn parts_combine_to_the_whole(seed in any::<u64>(), cuts in proptest::collection::vec(0usize..5_000, 0..6)) {
        let bytes = body(seed, cuts.iter().sum());
        let mut rest = &bytes[..];
        let mut parts = Vec::new();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut);
            parts.push(digests(head).digests);
            rest = tail;
        }
        let of_all = digests(&bytes).digests;
        let combine = |algorithm, of: fn(&Digests) -> &[u8]| {
            combine::combine_parts(algorithm, parts.iter().map(|part| (of(part), part.length))).unwrap()
        };
        prop_assert_eq!(combine(ChecksumAlgorithm::Crc32, |d| d.crc32.as_ref().unwrap()), of_all.crc32.unwrap());
        prop_assert_eq!(combine(ChecksumAlgorithm::Crc32c, |d| d.crc32c.as_ref().unwrap()), of_all.crc32c.unwrap());
        prop_assert_eq!(combine(ChecksumAlgorithm::Crc64Nvme, |d| d.crc64nvme.as_ref().unwrap()), of_all.crc64nvme.unwrap());
    }
}

#[test]
fn what_cannot_be_combined_is_refused() {
    assert_eq!(combine::combine_parts(ChecksumAlgorithm::Sha256, [(&[0u8; 32][..], 1)]), None);
    assert_eq!(combine::combine_parts(ChecksumAlgorithm::Crc32, [(&[0u8; 8][..], 1)]), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_gives_the_digests_of_its_bytes_in_order() {
    let bytes = Bytes::from(body(7, 3 << 20));
    for (push, lag) in [(1000, 0), (64 * 1024, 0), (300_000, 1 << 20), (3 << 20, 1)] {
        let mut pipeline = DigestPipeline::new(ALL, lag);
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            pipeline.push(rest.split_to(push.min(rest.len()))).await.unwrap();
            // BND-1: what waits is bounded by the lag, one push, and what is not yet worth a task.
            assert!(pipeline.lag_bytes() <= lag + push.max(64 * 1024), "{} unhashed", pipeline.lag_bytes());
        }
        assert_eq!(pipeline.finish().await.unwrap(), digests(&bytes), "pushes of {push}");
    }
}

#[tokio::test]
async fn a_pipeline_computes_only_what_is_planned() {
    let plan = DigestPlan { crc32: true, ..DigestPlan::default() };
    let mut pipeline = DigestPipeline::new(plan, 0);
    pipeline.push(Bytes::from_static(b"123456789")).await.unwrap();
    pipeline.push(Bytes::new()).await.unwrap();
    let got = pipeline.finish().await.unwrap();
    let expected = Digests { length: 9, crc32: Some(0xcbf4_3926u32.to_be_bytes()), ..Digests::default() };
    assert_eq!(got.digests, expected);
    assert_eq!(got.xxh3, xxhash_rust::xxh3::xxh3_64(b"123456789"));
    let empty = DigestPipeline::new(ALL, 0).finish().await.unwrap();
    assert_eq!(empty, digests(b""));
}
