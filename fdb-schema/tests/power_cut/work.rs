//! Writers that note what they are about to do and what was acknowledged, and the model that the notes make.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cairn_schema::{Meta, MetaError, ids::*, keyspace::RECLAIM_BUCKETS, record::*, verbs::*};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::common::*;

/// Versioning off, and enabled.
const PLAIN: &str = "plain";
const KEPT: &str = "kept";
pub(crate) const WRITERS: u64 = 12;
const KEYS: u64 = 6;

/// Where the notes go: a file that no cut touches. A line is written before and after each change.
#[derive(Clone)]
pub(crate) struct Notes {
    file: Arc<Mutex<File>>,
}

impl Notes {
    pub(crate) fn create(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path).unwrap();
        Self { file: Arc::new(Mutex::new(file)) }
    }

    /// The power is cut now. What is acknowledged after this was not acknowledged to anybody: a machine without power
    /// tells nothing.
    pub(crate) fn cut(&self) {
        self.line("cut".to_owned());
    }

    fn line(&self, line: String) {
        self.file.lock().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// One change to a key that only one writer changes.
#[derive(Clone, Debug, PartialEq)]
enum Change {
    Put {
        bucket: &'static str,
        key: String,
        size: u64,
    },
    Delete {
        bucket: &'static str,
        key: String,
    },
    /// Of so many parts.
    Multipart {
        key: String,
        parts: u16,
        last: u64,
    },
    Copy {
        from: String,
        key: String,
    },
}

const PART_BYTES: u64 = 1_000_000;

impl Change {
    fn note(&self) -> String {
        match self {
            Self::Put { bucket, key, size } => format!("put {bucket} {key} {size}"),
            Self::Delete { bucket, key } => format!("delete {bucket} {key}"),
            Self::Multipart { key, parts, last } => format!("multipart {key} {parts} {last}"),
            Self::Copy { from, key } => format!("copy {from} {key}"),
        }
    }

    fn parse(note: &str) -> Self {
        let words: Vec<&str> = note.split(' ').collect();
        let bucket = |word| if word == PLAIN { PLAIN } else { KEPT };
        match words[..] {
            ["put", name, key, size] => {
                Self::Put { bucket: bucket(name), key: key.into(), size: size.parse().unwrap() }
            }
            ["delete", name, key] => Self::Delete { bucket: bucket(name), key: key.into() },
            ["multipart", key, parts, last] => {
                Self::Multipart { key: key.into(), parts: parts.parse().unwrap(), last: last.parse().unwrap() }
            }
            ["copy", from, key] => Self::Copy { from: from.into(), key: key.into() },
            _ => panic!("note {note:?}"),
        }
    }
}

pub(crate) async fn prepare(meta: &Meta) -> Group {
    for (name, versioning) in [(PLAIN, Versioning::Off), (KEPT, Versioning::Enabled)] {
        match meta.create_bucket(bucket(name, versioning)).await {
            Ok(()) | Err(MetaError::BucketExists(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    group(meta).await
}

struct Writer {
    meta: Meta,
    group: Group,
    notes: Notes,
    rng: StdRng,
    number: u64,
    /// Makes every size one of its kind.
    serial: u64,
    /// Keys of the plain bucket that have an object.
    present: BTreeSet<String>,
}

impl Writer {
    fn key(&mut self) -> String {
        format!("w{:02}/k{}", self.number, self.rng.random_range(0..KEYS))
    }

    fn choose(&mut self) -> Change {
        self.serial += 1;
        let (size, key) = (2 * self.serial + 1, self.key());
        match self.rng.random_range(0..20) {
            0..8 => Change::Put { bucket: PLAIN, key, size },
            8..11 => Change::Delete { bucket: PLAIN, key },
            11..15 => Change::Put { bucket: KEPT, key, size },
            15 => Change::Delete { bucket: KEPT, key },
            // Few parts move into the version's row, many do not.
            16..18 => Change::Multipart { key, parts: self.rng.random_range(2..24), last: 2 * self.serial + 2 },
            _ => match self.present.first().cloned() {
                Some(from) => Change::Copy { from, key },
                None => Change::Put { bucket: PLAIN, key, size },
            },
        }
    }

    async fn make(&mut self, change: &Change) -> Result<(), MetaError> {
        match change {
            Change::Put { bucket, key, size } => {
                let mut request = put(&self.group, bucket, key, *size);
                if let Some(new) = request.blob.as_mut().filter(|_| size % 4 == 1) {
                    let position = self.rng.random_range(0..3);
                    let missing = FragmentName { group: self.group.id, blob: new.blob.id, stripe: 0, position };
                    new.missing.push(missing);
                }
                self.meta.commit_object(request).await.map(drop)
            }
            Change::Delete { bucket, key } => {
                self.meta.delete_object(delete(bucket, key, VersionSelector::Current)).await.map(drop)
            }
            Change::Multipart { key, parts, last } => {
                let upload = upload(PLAIN, key);
                self.meta.create_upload(upload.clone()).await?;
                let mut uploaded = Vec::new();
                for number in 1..=*parts {
                    let length = if number == *parts { *last } else { PART_BYTES };
                    uploaded.push(self.meta.put_part(put_part(&self.group, &upload, number, length)).await?);
                }
                // A part that is uploaded and not named is let go.
                self.meta.put_part(put_part(&self.group, &upload, parts + 1, 7)).await?;
                self.meta.complete_upload(complete(&upload, &uploaded)).await.map(drop)
            }
            Change::Copy { from, key } => {
                let copy = CopyObject {
                    attempt: AttemptId::random(),
                    source: (PLAIN.into(), from.clone(), VersionSelector::Current),
                    source_precondition: Precondition::default(),
                    bucket: PLAIN.into(),
                    key: key.clone(),
                    attributes: None,
                    owner: "o".into(),
                    precondition: Precondition::default(),
                    encryption: None,
                    origin: Origin::default(),
                };
                self.meta.copy_object(copy).await.map(drop)
            }
        }
    }

    /// Changes until told to stop, or until one fails: why.
    async fn run(mut self, stop: Arc<AtomicBool>) -> Option<MetaError> {
        while !stop.load(Ordering::Relaxed) {
            let change = self.choose();
            self.notes.line(format!("try {} {}", self.number, change.note()));
            if let Err(error) = self.make(&change).await {
                return Some(error);
            }
            self.notes.line(format!("done {}", self.number));
            match change {
                Change::Put { bucket: PLAIN, key, .. } | Change::Multipart { key, .. } | Change::Copy { key, .. } => {
                    self.present.insert(key);
                }
                Change::Delete { bucket: PLAIN, key } => {
                    self.present.remove(&key);
                }
                Change::Put { .. } | Change::Delete { .. } => {}
            }
        }
        None
    }
}

/// What the background actors do to the same rows: repairs, and reclaims.
async fn housekeeping(meta: Meta, group: Group, stop: Arc<AtomicBool>) -> Option<MetaError> {
    while !stop.load(Ordering::Relaxed) {
        for bucket in 0..RECLAIM_BUCKETS {
            let result = async {
                for reclaim in meta.reclaimable(bucket, u64::MAX, 8).await? {
                    meta.reclaimed(std::slice::from_ref(&reclaim)).await?;
                }
                for entry in meta.ledger(None, 2).await? {
                    meta.ledger_clear(entry.fragment, group.epoch).await?;
                }
                Ok(())
            };
            if let Err(error) = result.await {
                return Some(error);
            }
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Works until told to stop or until the store fails; why each writer ended. `round` is different for each run on one
/// store.
pub(crate) async fn run(
    meta: &Meta,
    group: &Group,
    notes: &Notes,
    model: &Model,
    seed: u64,
    round: u64,
    stop: Arc<AtomicBool>,
) -> Vec<Option<MetaError>> {
    let mut tasks = Vec::new();
    for number in 0..WRITERS {
        let writer = Writer {
            meta: meta.clone(),
            group: group.clone(),
            notes: notes.clone(),
            rng: StdRng::seed_from_u64(seed ^ (round << 32) ^ number),
            number,
            serial: (round * WRITERS + number) * 10_000,
            present: model.present(number),
        };
        tasks.push(tokio::spawn(writer.run(stop.clone())));
    }
    tasks.push(tokio::spawn(housekeeping(meta.clone(), group.clone(), stop.clone())));
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.unwrap());
    }
    ends
}

/// What is there for sure, and what may be there instead because it was tried and not acknowledged.
#[derive(Clone, Debug, Default)]
struct Fate<T> {
    sure: T,
    /// In order; more than one only after a cut.
    maybe: Vec<T>,
}

impl<T: Clone + PartialEq> Fate<T> {
    fn newest(&self) -> T {
        self.maybe.last().unwrap_or(&self.sure).clone()
    }

    fn acknowledged(&mut self) {
        self.sure = self.maybe.pop().unwrap();
        self.maybe.clear();
    }

    fn allows(&self, is: &T) -> bool {
        self.sure == *is || self.maybe.contains(is)
    }

    /// This is how it came out.
    fn settle(&mut self, is: T) {
        *self = Self { sure: is, maybe: Vec::new() };
    }
}

/// The object's size; the sizes of its versions from the oldest, None for delete markers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    plain: BTreeMap<String, Fate<Option<u64>>>,
    kept: BTreeMap<String, Fate<Vec<Option<u64>>>>,
}

impl Model {
    fn present(&self, writer: u64) -> BTreeSet<String> {
        let prefix = format!("w{writer:02}/");
        let there = self.plain.iter().filter(|(key, fate)| key.starts_with(&prefix) && fate.sure.is_some());
        there.map(|(key, _)| key.clone()).collect()
    }

    /// Adds what the notes of a run say; how many changes were acknowledged.
    pub(crate) fn read(&mut self, notes: &Path) -> u64 {
        let text = std::fs::read_to_string(notes).unwrap_or_default();
        let mut open: BTreeMap<u64, Change> = BTreeMap::new();
        let (mut acknowledged, mut cut) = (0, false);
        // The last line may be cut short: then its change was not begun, or is treated as not acknowledged.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            match line.split_once(' ') {
                Some(("try", rest)) => {
                    let (writer, note) = rest.split_once(' ').unwrap();
                    let change = Change::parse(note);
                    self.tried(&change);
                    open.insert(writer.parse().unwrap(), change);
                }
                Some((_, writer)) if !cut => {
                    self.acknowledged(&open.remove(&writer.parse().unwrap()).unwrap());
                    acknowledged += 1;
                }
                Some(_) => {}
                None => cut = true,
            }
        }
        acknowledged
    }

    fn tried(&mut self, change: &Change) {
        let (key, size) = match change {
            Change::Put { bucket: KEPT, key, size } => return self.kept_tried(key, Some(*size)),
            Change::Delete { bucket: KEPT, key } => return self.kept_tried(key, None),
            Change::Put { key, size, .. } => (key, Some(*size)),
            Change::Delete { key, .. } => (key, None),
            Change::Multipart { key, parts, last } => (key, Some(u64::from(parts - 1) * PART_BYTES + last)),
            Change::Copy { from, key } => (key, self.plain[from].newest()),
        };
        self.plain.entry(key.clone()).or_default().maybe.push(size);
    }

    fn kept_tried(&mut self, key: &str, size: Option<u64>) {
        let fate = self.kept.entry(key.to_owned()).or_default();
        let mut versions = fate.newest();
        versions.push(size);
        fate.maybe.push(versions);
    }

    fn acknowledged(&mut self, change: &Change) {
        match change {
            Change::Put { bucket: KEPT, key, .. } | Change::Delete { bucket: KEPT, key } => {
                self.kept.get_mut(key).unwrap().acknowledged();
            }
            Change::Put { key, .. }
            | Change::Delete { key, .. }
            | Change::Multipart { key, .. }
            | Change::Copy { key, .. } => self.plain.get_mut(key).unwrap().acknowledged(),
        }
    }

    /// DUR-2, CON-1: every acknowledged change is there, and one that was not acknowledged is there wholly or not at
    /// all. What is found is sure from now on.
    pub(crate) async fn check(&mut self, meta: &Meta, context: &str) {
        let mut wrong = Vec::new();
        let mut unexplained = listed(meta, PLAIN).await;
        for (key, fate) in &mut self.plain {
            let is = unexplained.remove(key).map(|versions| versions[0].unwrap());
            if !fate.allows(&is) {
                wrong.push(format!("{key} has {is:?}, but {fate:?}"));
            }
            fate.settle(is);
        }
        wrong.extend(unexplained.into_iter().map(|(key, versions)| format!("{key} from nowhere: {versions:?}")));
        let mut unexplained = listed(meta, KEPT).await;
        for (key, fate) in &mut self.kept {
            let is = unexplained.remove(key).unwrap_or_default();
            if !fate.allows(&is) {
                wrong.push(format!("{key} has {is:?}, but {fate:?}"));
            }
            fate.settle(is);
        }
        wrong.extend(unexplained.into_iter().map(|(key, versions)| format!("{key} from nowhere: {versions:?}")));
        assert!(wrong.is_empty(), "{context}: {}", wrong.join("\n"));
    }
}

/// The versions of each key from the oldest; None for delete markers.
async fn listed(meta: &Meta, bucket: &str) -> BTreeMap<String, Vec<Option<u64>>> {
    let mut versions_by_key: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
    let mut query = ListVersionsQuery { bucket: bucket.into(), limit: 1000, ..Default::default() };
    loop {
        let page = meta.list_versions(&query).await.unwrap();
        for entry in page.entries {
            let ListVersionsEntry::Version { key, version, .. } = entry else { unreachable!() };
            let size = (version.kind == VersionKind::Object).then_some(version.size);
            versions_by_key.entry(key).or_default().insert(0, size);
        }
        match page.next {
            Some((key, version)) => (query.key_marker, query.version_marker) = (Some(key), version),
            None => return versions_by_key,
        }
    }
}
