#![allow(clippy::unwrap_used)]

use xxhash_rust::xxh3::xxh3_64;

use super::*;

fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0];
    bytes.extend(7u64.to_le_bytes());
    bytes.extend((key.len() as u16).to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(key);
    bytes.extend(value);
    bytes
}

fn batch(seqno: u64, items: &[Vec<u8>]) -> Vec<u8> {
    let body = items.concat();
    let mut bytes = vec![1];
    bytes.extend((items.len() as u32).to_le_bytes());
    bytes.extend(seqno.to_le_bytes());
    bytes.extend(&body);
    bytes.push(3);
    bytes.extend(xxh3_64(&body).to_le_bytes());
    bytes.extend(b"FJL\x03");
    bytes
}

fn one(seqno: u64) -> Vec<u8> {
    batch(seqno, &[item(b"key", &[seqno as u8 | 0x40; 900])])
}

struct Store(tempfile::TempDir);

impl Store {
    fn of(journals: &[(u32, Vec<u8>)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (number, bytes) in journals {
            fs::write(directory.path().join(format!("{number}.jnl")), bytes).unwrap();
        }
        Self(directory)
    }

    fn mend(&self) -> Result<Option<u64>, u64> {
        match mend(self.0.path()) {
            Ok(mended) => Ok(mended.map(|mended| mended.at)),
            Err(JournalError::Damaged { at, .. }) => Err(at),
            Err(error) => panic!("{error}"),
        }
    }

    fn bytes(&self, number: u32) -> Vec<u8> {
        fs::read(self.0.path().join(format!("{number}.jnl"))).unwrap()
    }
}

#[test]
fn whole_journals_stay_as_they_are() {
    let zeros = vec![0; 100_000];
    for bytes in [Vec::new(), zeros.clone(), one(1), [one(1), one(5)].concat(), [one(1), zeros].concat()] {
        let store = Store::of(&[(9, [one(0), vec![0; 10]].concat()), (10, bytes.clone())]);
        assert_eq!(store.mend(), Ok(None));
        assert_eq!(store.bytes(10), bytes);
    }
    assert_eq!(Store::of(&[]).mend(), Ok(None));
}

#[test]
fn a_torn_last_batch_is_cut_off() {
    let (good, last) = ([one(1), one(2)].concat(), one(3));
    for length in (1..last.len()).filter(|length| length % 41 == 0 || *length < 40 || length + 30 > last.len()) {
        let mut bytes = [&good[..], &last[..length]].concat();
        for zeros in [0, 5000] {
            bytes.resize(good.len() + length + zeros, 0);
            let store = Store::of(&[(1, bytes.clone())]);
            assert_eq!(store.mend(), Ok(Some(good.len() as u64)), "{length}");
            assert_eq!(store.bytes(1), good);
            assert_eq!(store.mend(), Ok(None));
        }
    }
    // The first sector of it did not arrive.
    let late = [&good[..], &[0; 512], &last[512..]].concat();
    assert_eq!(Store::of(&[(1, late)]).mend(), Ok(Some(good.len() as u64)));
}

#[test]
fn damage_before_a_whole_batch_is_refused_wherever_it_is() {
    let (first, rest) = (one(1), [one(2), one(3)].concat());
    for at in 0..first.len() {
        // A larger number could be right as far as anybody can tell, until the next one.
        if (5..13).contains(&at) || (50..first.len() - 30).contains(&at) && at % 50 > 0 {
            continue;
        }
        let mut bytes = [&first[..], &rest[..]].concat();
        bytes[at] ^= 0x55;
        let store = Store::of(&[(1, bytes.clone())]);
        assert_eq!(store.mend(), Err(0), "{at}");
        assert_eq!(store.bytes(1), bytes);
    }
    // Numbers that do not grow.
    let store = Store::of(&[(1, [one(5), one(4), one(6)].concat())]);
    assert_eq!(store.mend(), Err(one(5).len() as u64));
    // A sealed journal was synced to its end.
    let torn = one(1)[..100].to_vec();
    assert_eq!(Store::of(&[(1, torn.clone()), (2, one(2))]).mend(), Err(0));
    assert_eq!(Store::of(&[(1, torn), (2, Vec::new())]).mend(), Err(0));
}
