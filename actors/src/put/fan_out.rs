//! Sending a stripe's fragments to their disks, all at once, and knowing which became durable.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cairn_fragment::{NewFragment, Positions, TransportError, block_checksums, codec::Codec};
use cairn_schema::{MetaError, ids::*, record::Group};
use tokio::task::JoinSet;

use crate::{
    data_path::{Reach, Remains, Span},
    error::StoreError,
    placement::{Heard, Safety, Topology, Use},
};

/// A stripe cut into fragments, with the checksums that travel with them.
pub(crate) struct EncodedStripe {
    blob: BlobId,
    stripe: u32,
    fragments: Vec<(Bytes, Arc<[u64]>)>,
    /// Keeps the stripe's grant of memory as long as any fragment is under way, parity included.
    memory: Bytes,
}

impl EncodedStripe {
    /// Work for a processor: call it off the async threads when the stripe is large.
    pub(crate) fn encode(codec: &Codec, blob: BlobId, stripe: u32, bytes: Bytes) -> Result<Self, StoreError> {
        let refused = |error| MetaError::Invalid { what: "stripe", why: format!("{error}") };
        let fragments = codec.encode(bytes.clone()).map_err(refused)?;
        let mut checked: Vec<(Bytes, Arc<[u64]>)> = Vec::with_capacity(fragments.len());
        for fragment in fragments {
            // Copies are the same bytes in the same place: one checksum does for all.
            let same =
                checked.last().filter(|(last, _)| last.as_ptr() == fragment.as_ptr() && last.len() == fragment.len());
            let checksums = same.map_or_else(|| block_checksums(&fragment).into(), |(_, checksums)| checksums.clone());
            checked.push((fragment, checksums));
        }
        Ok(Self { blob, stripe, fragments: checked, memory: bytes })
    }

    /// The name in `group` and the bytes of one fragment.
    pub(crate) fn fragment(&self, group: &Group, position: u8) -> (FragmentName, Bytes) {
        let name = FragmentName { group: group.id, blob: self.blob, stripe: self.stripe, position };
        (name, self.fragments[usize::from(position)].0.clone())
    }

    /// Bytes of the largest fragment.
    pub(crate) fn fragment_bytes(&self) -> usize {
        self.fragments.iter().map(|(bytes, _)| bytes.len()).max().unwrap_or(0)
    }

    fn to_send(&self, group: &Group, position: u8) -> NewFragment {
        let (name, payload) = self.fragment(group, position);
        let block_checksums = self.fragments[usize::from(position)].1.to_vec();
        NewFragment { name, payload, block_checksums }
    }
}

/// The fragments of one stripe on their way to one group. Dropping it gives up those still under way.
pub(crate) struct Sending {
    sends: JoinSet<(u8, Result<(), TransportError>)>,
    durable: Positions,
    settled: Positions,
    width: usize,
    /// Fragments that a stripe of the group can lose.
    spare: usize,
    safety: Safety,
    /// What the first few failures were, for the error's text.
    why: Vec<String>,
    disks: Vec<DiskId>,
}

impl Sending {
    /// Starts sending. Members known to be dead are not tried: their fragments are absent at once.
    pub(crate) fn start(reach: &Arc<Reach>, group: &Arc<Group>, stripe: &EncodedStripe) -> Self {
        let topology = reach.placement.topology();
        let mut sending = Self {
            sends: JoinSet::new(),
            durable: Positions::default(),
            settled: Positions::default(),
            width: group.members.len().min(stripe.fragments.len()),
            spare: group.scheme.parity(),
            safety: topology.safety(group),
            why: Vec::new(),
            disks: group.members.clone(),
        };
        for (position, disk) in group.members.iter().take(sending.width).enumerate() {
            // A width of at most 255 is the scheme's own rule.
            let position = position as u8;
            if topology.disk(*disk).is_some_and(|disk| disk.known_dead()) {
                sending.settled.insert(position);
                sending.note(format!("disk {disk} is down"));
                continue;
            }
            let fragment = stripe.to_send(group, position);
            let under_way = UnderWay::enter(&topology, *disk, fragment.payload.len());
            let (reach, disk, memory) = (reach.clone(), *disk, stripe.memory.clone());
            sending.sends.spawn(async move {
                let result = reach.put(disk, fragment).await;
                drop((under_way, memory));
                (position, result)
            });
        }
        sending
    }

    /// Waits until the stripe is safe, or until so much failed that it cannot be.
    pub(crate) async fn safe(&mut self) -> Result<(), StoreError> {
        while !self.safety.holds(self.durable) {
            let positions = (0..self.width).map(|position| position as u8);
            let possible = positions.filter(|p| !self.settled.contains(*p) || self.durable.contains(*p)).collect();
            if !self.safety.holds(possible) || !self.next().await {
                return Err(self.unsafe_still());
            }
        }
        Ok(())
    }

    fn unsafe_still(&self) -> StoreError {
        let why = if self.why.is_empty() { "the group is too small".to_owned() } else { self.why.join("; ") };
        self.safety.refusal(self.durable, why)
    }

    /// Waits for one more fragment; false when none is under way.
    async fn next(&mut self) -> bool {
        match self.sends.join_next().await {
            Some(done) => {
                self.settle(done);
                true
            }
            None => false,
        }
    }

    fn settle(&mut self, done: Result<(u8, Result<(), TransportError>), tokio::task::JoinError>) {
        match done {
            Ok((position, Ok(()))) => {
                self.settled.insert(position);
                self.durable.insert(position);
            }
            Ok((position, Err(error))) => {
                self.settled.insert(position);
                self.note(error.to_string());
            }
            // Cancelled by `give_up`, or the runtime is going: absent either way. `settled` stays without it, which
            // only means that a quorum is waited for until nothing is under way.
            Err(error) => self.note(error.to_string()),
        }
    }

    fn note(&mut self, why: String) {
        if self.why.len() < 4 {
            self.why.push(why);
        }
    }

    /// Takes note of what has ended, without waiting. True when nothing is under way any more.
    pub(crate) fn reap(&mut self) -> bool {
        while let Some(done) = self.sends.try_join_next() {
            self.settle(done);
        }
        self.sends.is_empty()
    }

    /// Waits for every fragment; each ends by its deadline.
    pub(crate) async fn all(&mut self) {
        while self.next().await {}
    }

    /// Stops waiting for what is still under way; returns how many fragments that were. Their disks were too slow, and
    /// are avoided for a while. They may yet become durable, which does no harm: they are in the ledger, and repair
    /// finds them.
    pub(crate) fn give_up(&mut self, reach: &Reach) -> usize {
        let slow = self.slow().len();
        self.blame_slow(reach);
        self.abandon();
        slow
    }

    /// Has the disks avoided for a while that have not answered yet. When they are more than a stripe can lose, it is
    /// not they who are slow but the cluster or this node: avoiding them all would refuse writes that are only late.
    pub(crate) fn blame_slow(&mut self, reach: &Reach) {
        let slow = self.slow();
        if slow.len() <= self.spare {
            slow.into_iter().for_each(|disk| reach.placement.report(disk, Use::Write, Heard::Nothing));
        }
    }

    /// Disks that have not answered yet.
    pub(crate) fn slow(&mut self) -> Vec<DiskId> {
        if self.reap() {
            return Vec::new();
        }
        let slow = (0..self.width).filter(|position| !self.settled.contains(*position as u8));
        slow.map(|position| self.disks[position]).collect()
    }

    /// Stops sending what is still under way. Some of it may yet become durable.
    pub(crate) fn abandon(&mut self) {
        self.sends.abort_all();
    }

    /// What to clean up of a stripe that was sent, or tried to be, to one group.
    pub(crate) fn into_remains(mut self, blob: BlobId, group: Arc<Group>, stripe: u32) -> Remains {
        let quiet = async move {
            self.all().await;
            vec![Span { group, first: stripe, stripes: 1 }]
        };
        Remains { blob, quiet: Box::pin(quiet) }
    }

    pub(crate) fn durable(&self) -> Positions {
        self.durable
    }

    /// Positions not known to be durable.
    pub(crate) fn absent(&self) -> impl Iterator<Item = u8> + use<> {
        let (durable, width) = (self.durable, self.width);
        (0..width).map(|position| position as u8).filter(move |position| !durable.contains(*position))
    }
}

/// Counts bytes under way to a disk while it lives.
struct UnderWay {
    counter: Option<Arc<AtomicU64>>,
    bytes: u64,
}

impl UnderWay {
    fn enter(topology: &Topology, disk: DiskId, bytes: usize) -> Self {
        let counter = topology.disk(disk).map(|disk| disk.sending.clone());
        let bytes = bytes as u64;
        if let Some(counter) = &counter {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
        Self { counter, bytes }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(counter) = &self.counter {
            counter.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
