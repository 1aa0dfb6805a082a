//! Bodies that say what they are: the key, the write's number, the length and a checksum stand in them, so that any
//! read can be judged alone, and the same body can be made again from its number.

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

/// What the header `x-amz-meta-nonce` says of each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Of the write; no two have the same.
    pub nonce: u64,
    pub length: usize,
}

impl Label {
    pub fn header(self) -> String {
        format!("{:x}-{}", self.nonce, self.length)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (nonce, length) = text.split_once('-')?;
        Some(Self { nonce: u64::from_str_radix(nonce, 16).ok()?, length: length.parse().ok()? })
    }
}

/// The head of a body; shorter bodies have only the beginning of what follows it.
const HEAD: usize = 128;
const MARK: &str = "cairn-chaos/1";

/// What the write of that number puts under a key.
pub fn body(key: &str, label: Label) -> Bytes {
    let mut bytes = vec![0; label.length];
    let mut rng = StdRng::seed_from_u64(label.nonce);
    if label.length <= HEAD {
        rng.fill(bytes.as_mut_slice());
        return bytes.into();
    }
    rng.fill(&mut bytes[HEAD..]);
    let check = checksum(&bytes[HEAD..]);
    let head = format!("{MARK} {key} {:x} {} {check}", label.nonce, label.length);
    let head = format!("{head:<w$}\n", w = HEAD - 1);
    bytes[..HEAD].copy_from_slice(&head.as_bytes()[..HEAD]);
    bytes.into()
}

fn checksum(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..12])
}

/// What a body says that it is; Err: what about it cannot be true.
pub fn described(bytes: &[u8]) -> Result<(String, Label), String> {
    let head = bytes.get(..HEAD).and_then(|head| std::str::from_utf8(head).ok()).ok_or("it has no head")?;
    let [mark, key, nonce, length, check] = head.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(format!("its head is {head:?}"));
    };
    let label = Label::parse(&format!("{nonce}-{length}")).filter(|_| mark == MARK);
    let label = label.ok_or_else(|| format!("its head is {head:?}"))?;
    if label.length != bytes.len() {
        return Err(format!("it has {} bytes and says {length}", bytes.len()));
    }
    if checksum(&bytes[HEAD..]) != check {
        return Err("its bytes are not those of its checksum".into());
    }
    Ok((key.to_owned(), label))
}

/// Err: why these are not the bytes that were written under `key` by the write of that label.
pub fn verify(key: &str, label: Label, bytes: &[u8]) -> Result<(), String> {
    if label.length > HEAD {
        let (says, found) = described(bytes)?;
        if says != key || found != label {
            return Err(format!("it is write {:x} of {says}, and its header says {:x}", found.nonce, label.nonce));
        }
    }
    if bytes != body(key, label) {
        return Err(format!("{} bytes are not those of write {:x}", bytes.len(), label.nonce));
    }
    Ok(())
}

/// The same for a copy, whose label is its own and whose bytes are those of a write under `source`.
pub fn verify_copy(source: &str, bytes: &[u8]) -> Result<Option<Label>, String> {
    if bytes.len() <= HEAD {
        return Ok(None);
    }
    let (says, found) = described(bytes)?;
    if says != source {
        return Err(format!("it is write {:x} of {says}, and it was copied from {source}", found.nonce));
    }
    verify(source, found, bytes).map(|()| Some(found))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn int_1_a_body_is_known_from_itself_and_no_other_passes_for_it() {
        for length in [0, 1, HEAD, HEAD + 1, 70_000] {
            let label = Label { nonce: 77, length };
            let bytes = body("plain/hot/01", label);
            assert_eq!(bytes.len(), length);
            verify("plain/hot/01", label, &bytes).unwrap();
            assert_eq!(Label::parse(&label.header()), Some(label));
            if length == 0 {
                continue;
            }
            let mut other = bytes.to_vec();
            other[length - 1] ^= 1;
            assert!(verify("plain/hot/01", label, &other).is_err());
            assert!(verify("plain/hot/01", Label { nonce: 78, ..label }, &bytes).is_err());
            assert!(verify("plain/hot/01", label, &bytes[..length - 1]).is_err());
        }
    }

    #[test]
    fn con_2_mixtures_and_other_keys_are_told() {
        let (first, second) = (Label { nonce: 1, length: 5000 }, Label { nonce: 2, length: 5000 });
        let mixed = [&body("a", first)[..2500], &body("a", second)[2500..]].concat();
        assert!(described(&mixed).unwrap_err().contains("checksum"));
        assert!(verify("b", first, &body("a", first)).unwrap_err().contains("of a"));
        assert_eq!(verify_copy("a", &body("a", first)), Ok(Some(first)));
        assert!(verify_copy("b", &body("a", first)).is_err());
    }
}
