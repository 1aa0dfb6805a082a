#![allow(clippy::unwrap_used)]

use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::kv::embedded::mark::VERSION_KEY;

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

fn mark() -> Mark {
    Mark::from_hex("00112233445566778899aabbccddeeff").unwrap()
}

/// As the committer writes it.
fn batch(seqno: u64, items: &[Vec<u8>]) -> Vec<u8> {
    let version = item(VERSION_KEY, &mark().value(seqno));
    unmarked(seqno, &[&[version], items].concat())
}

/// What a user could make, who knows all but the mark.
fn unmarked(seqno: u64, items: &[Vec<u8>]) -> Vec<u8> {
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
        match mend(self.0.path(), mark()) {
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
}

#[test]
fn a_journal_after_which_others_were_begun_may_end_early_but_not_lack_its_middle() {
    let good = one(1);
    let early = [&good[..], &one(2)[..100]].concat();
    let zeros = vec![0; 100_000];
    for later in [&[Vec::new()][..], std::slice::from_ref(&zeros), &[zeros.clone(), Vec::new()]] {
        let journals = |first: &[u8]| {
            let later = later.iter().enumerate().map(|(index, bytes)| (index as u32 + 2, bytes.clone()));
            Store::of(&[(1, first.to_vec())].into_iter().chain(later).collect::<Vec<_>>())
        };
        // A batch that could not be written: the journal was sealed all the same, with nothing but zeros after it.
        for first in [early.clone(), [&early[..], &zeros].concat()] {
            let store = journals(&first);
            assert_eq!(store.mend(), Ok(Some(good.len() as u64)));
            assert_eq!(store.bytes(1), good);
            assert_eq!(store.mend(), Ok(None));
        }
        // Synced to its end when it was sealed.
        let mut damaged = [&good[..], &one(2)].concat();
        damaged[good.len() + 300..good.len() + 400].fill(0);
        let store = journals(&damaged);
        assert_eq!(store.mend(), Err(good.len() as u64));
        assert_eq!(store.bytes(1), damaged);
    }
    // Something was acknowledged after it.
    assert_eq!(Store::of(&[(1, early.clone()), (2, one(2))]).mend(), Err(good.len() as u64));
    assert_eq!(Store::of(&[(1, early), (2, one(2)[..100].to_vec())]).mend(), Err(good.len() as u64));
}

#[test]
fn a_batch_has_the_bytes_that_are_looked_for() {
    let bytes = hex::encode(batch(0x0102, &[]));
    let wanted = "01 01000000 0201000000000000 02 00 00 0700000000000000 0700 18000000 18000000 76657273696f6e \
                  0000000000000102 00112233445566778899aabbccddeeff 03";
    assert_eq!(bytes[..bytes.len() - 24], wanted.replace(' ', ""));
    assert_eq!(batch::starts(&batch(7, &[]), &mark()).collect::<Vec<_>>(), [0]);
    assert!(batch::is_whole(&batch(7, &[]), mark()));
}

#[test]
fn dur_2_a_torn_batch_is_cut_off_whatever_users_put_in_it() {
    let good = one(1);
    let other = Mark::from_hex("ffeeddccbbaa99887766554433221100").unwrap();
    let row = item(b"k", b"v");
    for forged in [unmarked(9, std::slice::from_ref(&row)), unmarked(9, &[item(VERSION_KEY, &other.value(9)), row])] {
        for (key, value) in [(&forged[..], &[7; 900][..]), (&b"key"[..], &forged.repeat(3)[..])] {
            let last = batch(2, &[item(key, value), item(b"z", &[7; 300])]);
            for bytes in [
                [&good[..], &last[..last.len() - 40]].concat(),
                [&good[..], &last[..last.len() - 200], &[0; 100], &last[last.len() - 100..]].concat(),
            ] {
                let store = Store::of(&[(1, bytes)]);
                assert_eq!(store.mend(), Ok(Some(good.len() as u64)));
                assert_eq!(store.bytes(1), good);
            }
            // Whole, it is left alone.
            assert_eq!(Store::of(&[(1, [&good[..], &last].concat())]).mend(), Ok(None));
        }
    }
}

#[test]
fn what_users_put_in_a_torn_batch_costs_no_checksums() {
    // Each of them says that it reaches far over all that follow it.
    let mut start = vec![1, 1, 0, 0, 0];
    start.extend(9u64.to_le_bytes());
    start.extend([2, 0, 0]);
    start.extend(7u64.to_le_bytes());
    start.extend([0xff, 0xff]);
    start.extend((1u32 << 20).to_le_bytes().repeat(2));
    let last = batch(2, &[item(b"key", &start.repeat(100_000))]);
    let torn = &last[..last.len() - 1];
    assert_eq!(batch::starts(torn, &mark()).collect::<Vec<_>>(), [0]);
    assert_eq!(Store::of(&[(1, [&one(1), torn].concat())]).mend(), Ok(Some(one(1).len() as u64)));
}

#[test]
fn a_journal_of_another_store_is_refused() {
    let foreign = unmarked(2, &[item(VERSION_KEY, &Mark::random().value(2))]);
    // The row counts only where the committer writes it.
    let later = unmarked(2, &[item(b"key", b"value"), item(VERSION_KEY, &mark().value(2))]);
    for second in [foreign, later] {
        let bytes = [&one(1)[..], &second, &one(3)[..50]].concat();
        let store = Store::of(&[(1, bytes.clone())]);
        let refused = mend(store.0.path(), mark());
        assert!(matches!(refused, Err(JournalError::Foreign { at, .. }) if at == one(1).len() as u64), "{refused:?}");
        assert_eq!(store.bytes(1), bytes);
    }
}

/// Whether the first byte of a file is in memory; None where that cannot be told.
fn is_cached(file: &File) -> Option<bool> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut byte = [0];
    match preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// DUR-2: pages that a failed sync left in memory are not taken for what the disk has.
#[test]
fn dur_2_a_journal_is_read_from_the_disk_and_not_from_memory() {
    const TMPFS: u32 = 0x0102_1994;
    let store = Store::of(&[(1, one(1).repeat(50))]);
    let path = store.0.path().join("1.jnl");
    let file = File::open(&path).unwrap();
    let on_a_disk = rustix::fs::fstatfs(&file).unwrap().f_type as u32 != TMPFS;
    if !on_a_disk || is_cached(&file) != Some(true) {
        println!("SKIPPED: the file system does not tell what is in memory");
        return;
    }
    let opened = open_from_disk(&path).unwrap();
    assert_eq!(is_cached(&opened), Some(false));
}
