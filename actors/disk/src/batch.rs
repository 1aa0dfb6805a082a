//! What one fdatasync will make durable, planned before it is written.

use std::collections::HashMap;

use bytes::Bytes;
use cairn_fragment::{DiskError, NewFragment};
use cairn_schema::ids::FragmentName;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    format::{Place, RecordBody, RecordHeader, UNIT, fragment_units, payload_at},
    index::{Effect, segments::Entry},
    queue::Reply,
};

static PADDING: [u8; UNIT as usize] = [0; UNIT as usize];

/// A name as the batch will leave it.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Put { entry: Entry, block_checksums: Vec<u64> },
    Deleted,
}

/// A record as it will be written: its head, its payload and the zeros up to the next unit.
struct Planned {
    head: Vec<u8>,
    payload: Bytes,
    padding: usize,
}

/// Records for one segment, one after another from `start`.
pub(crate) struct Batch {
    pub number: u64,
    pub segment: u32,
    pub salt: u64,
    pub start: u64,
    pub bytes: u64,
    pub written_ms: u64,
    pub names: HashMap<FragmentName, Pending>,
    /// What becomes true once the batch is durable.
    pub effects: Vec<Effect>,
    /// Records that are dead then, to be given back.
    pub dead: Vec<(Place, u32)>,
    pub puts: Vec<Reply<()>>,
    pub deletes: Vec<(u64, Reply<u64>)>,
    /// Held until the batch is done: what bounds the queue bounds the batch too.
    pub permits: Vec<OwnedSemaphorePermit>,
    records: Vec<Planned>,
}

impl Batch {
    pub(crate) fn new(number: u64, segment: u32, salt: u64, start: u64, written_ms: u64) -> Self {
        Self {
            number,
            segment,
            salt,
            start,
            bytes: 0,
            written_ms,
            names: HashMap::new(),
            effects: Vec::new(),
            dead: Vec::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            permits: Vec::new(),
            records: Vec::new(),
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.records.len()
    }

    fn next_place(&self) -> Place {
        // Segments are bounded to 2^32 units when they are made.
        Place { segment: self.segment, unit: ((self.start + self.bytes) / UNIT) as u32 }
    }

    /// A record of `fragment`, written at `written_ms`, that counts in place of `replaces`.
    pub(crate) fn put(&mut self, fragment: NewFragment, written_ms: u64, replaces: Option<Entry>) {
        let NewFragment { name, payload, block_checksums } = fragment;
        let length = payload.len() as u32; // bounded by MAX_FRAGMENT_BYTES when it was accepted
        let place = self.next_place();
        let entry = Entry { place, length, written_ms };
        let header = RecordHeader { name, body: RecordBody::Fragment { length }, batch: self.number, written_ms };
        let head = header.encode(&block_checksums, self.salt, place.unit);
        let record = u64::from(fragment_units(length)) * UNIT;
        let padding = (record - payload_at(length) - u64::from(length)) as usize;
        self.records.push(Planned { head, payload, padding });
        self.bytes += record;
        self.effects.push(Effect::Put { name, entry, replaces });
        self.names.insert(name, Pending::Put { entry, block_checksums });
    }

    /// A tombstone for the record of `name` at `kills`, whose pages are given back; `live` is that record if it is the
    /// one that counts.
    pub(crate) fn kill(&mut self, name: FragmentName, kills: Place, units: u32, live: Option<Entry>) {
        self.tombstone(name, kills, units, live);
        self.dead.push((kills, units));
    }

    /// A tombstone that says again what another one has said.
    pub(crate) fn repeat(&mut self, name: FragmentName, kills: Place, units: u32) {
        self.tombstone(name, kills, units, None);
    }

    fn tombstone(&mut self, name: FragmentName, kills: Place, units: u32, live: Option<Entry>) {
        let body = RecordBody::Tombstone { kills, units };
        let at = self.next_place();
        let header = RecordHeader { name, body, batch: self.number, written_ms: self.written_ms };
        let head = header.encode(&[], self.salt, at.unit);
        self.records.push(Planned { head, payload: Bytes::new(), padding: 0 });
        self.bytes += UNIT;
        self.effects.push(Effect::Kill { at, name, kills, live });
    }

    /// All bytes of the batch in order, where they lie.
    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        let mut slices = Vec::with_capacity(self.records.len() * 3);
        for record in &self.records {
            slices.push(record.head.as_slice());
            if !record.payload.is_empty() {
                slices.push(&record.payload);
            }
            if record.padding > 0 {
                slices.push(&PADDING[..record.padding]);
            }
        }
        slices
    }

    /// Tells everyone who waits.
    pub(crate) fn answer(self, result: &Result<(), DiskError>) {
        // A caller that went away does not want to know.
        for reply in self.puts {
            let _ = reply.send(result.clone());
        }
        for (count, reply) in self.deletes {
            let _ = reply.send(result.clone().map(|()| count));
        }
    }
}
