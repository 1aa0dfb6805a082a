#![allow(clippy::unwrap_used)]
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const BLOCK: usize = 64;

fn key(byte: u8) -> VersionKey {
    VersionKey::new(&Secret::of(&[byte; 32]).unwrap(), false)
}

/// Blocks of a body, sealed one by one.
fn sealed(key: &VersionKey, blob: BlobId, body: &[u8]) -> Vec<Vec<u8>> {
    let sealer = key.of_blob(blob);
    let blocks: Vec<&[u8]> = body.chunks(BLOCK).collect();
    let seal = |(number, block): (usize, &&[u8])| {
        let mut out = vec![7];
        sealer.seal(number as u64, number + 1 == blocks.len(), block, &mut out);
        out.split_off(1)
    };
    blocks.iter().enumerate().map(seal).collect()
}

/// What a reader makes of stored blocks: everything, or an error.
fn opened(key: &VersionKey, blob: BlobId, blocks: &[Vec<u8>]) -> Result<Vec<u8>, NotOpened> {
    let opener = key.of_blob(blob);
    let mut body = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        let mut block = block.clone();
        let length = opener.open(number as u64, number + 1 == blocks.len(), &mut block)?;
        body.extend_from_slice(&block[..length]);
    }
    Ok(body)
}

proptest! {
    /// INT-1: whatever is done to what is stored, a reader gets the body or an error.
    #[test]
    fn int_1_blocks_open_in_their_place_and_nowhere_else(
        body in prop::collection::vec(any::<u8>(), 1..BLOCK * 6),
        (a, b, byte) in any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(),
        bit in 0u32..8,
    ) {
        let (version, blob) = (key(1), BlobId([2; 16]));
        let blocks = sealed(&version, blob, &body);
        prop_assert_eq!(opened(&version, blob, &blocks), Ok(body.clone()));
        let differs = |blocks: &[Vec<u8>]| opened(&version, blob, blocks).is_err();
        let (a, b) = (a.index(blocks.len()), b.index(blocks.len()));
        // Swapped.
        let mut changed = blocks.clone();
        changed.swap(a, b);
        prop_assert!(a == b || differs(&changed));
        // Another one in its place.
        let mut changed = blocks.clone();
        changed[a] = blocks[b].clone();
        prop_assert!(a == b || differs(&changed));
        // Cut behind any block, and within one.
        prop_assert!(a == 0 || differs(&blocks[..a]));
        let mut changed = blocks.clone();
        let at = byte.index(changed[a].len());
        changed[a].truncate(at);
        prop_assert!(differs(&changed));
        // Extended by one of its own, or one left out.
        let mut changed = blocks.clone();
        changed.push(blocks[b].clone());
        prop_assert!(differs(&changed));
        let mut changed = blocks.clone();
        changed.remove(a);
        prop_assert!(changed.is_empty() || differs(&changed));
        // Any bit.
        let mut changed = blocks.clone();
        changed[a][at] ^= 1 << bit;
        prop_assert!(differs(&changed));
        // In another blob of the version, and in the same of another version.
        prop_assert!(opened(&version, BlobId([3; 16]), &blocks).is_err());
        prop_assert!(opened(&key(2), blob, &blocks).is_err());
    }

    #[test]
    fn nonces_of_a_blob_are_different(blocks in prop::collection::hash_set(any::<(u64, bool)>(), 0..200)) {
        let nonces: HashSet<[u8; NONCE_LEN]> =
            blocks.iter().map(|(block, last)| *nonce(*block, *last).as_ref()).collect();
        prop_assert_eq!(nonces.len(), blocks.len());
    }
}

/// Made by another implementation. A change here is a change of format: what was sealed before could not be opened.
#[test]
fn sealed_blocks_have_their_golden_bytes() {
    let blocks = sealed(&key(5), BlobId([6; 16]), b"some bytes");
    assert_eq!(hex::encode(&blocks[0]), GOLDEN);
}

const GOLDEN: &str = "0ab0d0473bea29ac9edcbdbc9dfd0d3679ce39bc84cbb83ea393";

#[test]
fn tags_are_md5s_only_where_the_key_is_the_clusters() {
    let secret = Secret::of(&[1; 32]).unwrap();
    let md5 = [9; 16];
    assert_eq!(VersionKey::new(&secret, true).tag_of(md5), md5);
    let shown = VersionKey::new(&secret, false).tag_of(md5);
    assert_ne!(shown, md5);
    assert_eq!(shown, VersionKey::new(&secret, false).tag_of(md5));
    assert_ne!(shown, key(2).tag_of(md5));
    assert_eq!(format!("{:?} {:?}", key(1), secret), "VersionKey Secret");
}
