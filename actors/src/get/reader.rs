//! A body on its way to a client: pieces in order, the next ones being read while one is handed out, and all of it
//! given back when the client does not ask for more and somebody else wants the memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use super::{
    gather::fetch,
    plan::{Piece, Pieces},
    whole::{Opening, Ready, WholeBlobs},
};
use crate::{
    data_path::{DataPath, Slot, Stallable, StreamGrant, Watched},
    error::StoreError,
};

/// One body's reader.
pub(super) struct Reader {
    data: Arc<DataPath>,
    grant: StreamGrant,
    pieces: Pieces,
    /// Bytes still to be handed out.
    left: u64,
    /// Pieces being read, in order.
    ahead: VecDeque<Ahead>,
    /// The piece of which bytes are ready, or were handed out last.
    current: Option<Current>,
    ready: VecDeque<Ready>,
    whole: WholeBlobs,
    /// Pieces that were given back, in order: they are read again before any other.
    again: VecDeque<Arc<Piece>>,
    /// Bytes of the first of those that the client has, where it had to be kept whole.
    skip: usize,
    /// The memory was given back.
    away: bool,
    /// When the client was last given something.
    handed_out: Instant,
}

struct Ahead {
    piece: Arc<Piece>,
    read: AbortOnDropHandle<Result<Read, StoreError>>,
}

/// A piece's bytes in order, and the memory that they hold.
struct Read {
    bytes: Vec<Bytes>,
    slot: Weak<Slot>,
}

struct Current {
    piece: Arc<Piece>,
    handed_out: usize,
    slot: Weak<Slot>,
}

impl Reader {
    pub(super) fn new(data: Arc<DataPath>, grant: StreamGrant, pieces: Pieces, left: u64) -> Self {
        Self {
            data,
            grant,
            pieces,
            left,
            ahead: VecDeque::new(),
            current: None,
            ready: VecDeque::new(),
            whole: WholeBlobs::default(),
            again: VecDeque::new(),
            skip: 0,
            away: false,
            handed_out: Instant::now(),
        }
    }

    /// The next bytes; None at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            if let Some(mut ready) = self.ready.pop_front() {
                self.hand_out(ready.bytes.len())?;
                self.whole.handed_out(&mut ready);
                return Ok(Some(ready.bytes));
            }
            if self.left == 0 {
                let nothing_more = self.ahead.is_empty() && self.is_done();
                return if nothing_more { Ok(None) } else { Err(wrong_length()) };
            }
            if !self.next_piece().await? {
                return Err(wrong_length());
            }
        }
    }

    fn hand_out(&mut self, bytes: usize) -> Result<(), StoreError> {
        // Shorter than promised, or longer, must never look like a whole body (CON-2).
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(wrong_length)?;
        self.data.metrics.get_bytes.inc_by(bytes as u64);
        if let Some(current) = &mut self.current {
            current.handed_out += bytes;
        }
        self.handed_out = Instant::now();
        Ok(())
    }

    /// Waits for the next piece and starts reading the ones after it. False when there is none.
    pub(super) async fn next_piece(&mut self) -> Result<bool, StoreError> {
        if self.away {
            self.grant.come_back().await?;
            self.away = false;
        }
        if self.ahead.is_empty() && !self.is_done() {
            let slot = self.grant.slot_or_extra().await;
            self.start(slot)?;
        }
        let Some(Ahead { piece, read }) = self.ahead.pop_front() else { return Ok(false) };
        // The first piece of a small read needs nothing ahead of it.
        self.read_ahead()?;
        let Read { bytes, slot } = read.await.unwrap_or(Err(StoreError::ShuttingDown))?;
        let skip = std::mem::take(&mut self.skip);
        let memory = slot.upgrade();
        self.current = Some(Current { piece: piece.clone(), handed_out: skip, slot });
        self.read_ahead()?;
        let begins = piece.begins_blob() && skip == 0;
        let (stored, sealed) = match &piece.sealed {
            None => (skip, None),
            Some(sealed) if skip == 0 => (0, Some(sealed.clone())),
            Some(sealed) => {
                let (stored, left) = sealed.without(u32::try_from(skip).unwrap_or(u32::MAX));
                (stored as usize, Some(left))
            }
        };
        let rest = skipped(bytes, stored).filter(|bytes| !bytes.is_empty()).collect();
        let judged = self.whole.judge(piece.promise, begins, rest, Opening::of(piece.blob, sealed, memory)).await;
        self.ready.extend(judged.inspect_err(|error| self.tell(error))?);
        Ok(true)
    }

    fn tell(&self, error: &StoreError) {
        if let StoreError::NotOpened { blob, why } = error {
            self.data.metrics.unopened.inc();
            tracing::error!(blob, why, "a blob has bytes that are not those that were sealed: they are not served");
        }
        if let StoreError::WrongBytes { blob } = error {
            self.data.metrics.wrong_blobs.inc();
            tracing::error!(
                blob,
                "a blob that was read whole is not what was written: the answer was cut off before its end"
            );
        }
    }

    fn is_done(&self) -> bool {
        self.again.is_empty() && self.pieces.is_done()
    }

    /// As many pieces ahead as the limit and the memory that is free allow.
    fn read_ahead(&mut self) -> Result<(), StoreError> {
        while self.ahead.len() + 1 < self.data.limits.get_pieces && !self.is_done() {
            let Some(slot) = self.grant.try_slot() else { return Ok(()) };
            self.start(slot)?;
        }
        Ok(())
    }

    fn start(&mut self, slot: Slot) -> Result<(), StoreError> {
        let piece = match self.again.pop_front() {
            Some(piece) => piece,
            None => match self.pieces.next()? {
                Some(piece) => Arc::new(piece),
                None => return Ok(()),
            },
        };
        let (data, wanted) = (self.data.clone(), piece.clone());
        let read = tokio::spawn(async move {
            let bytes = fetch(&data, &wanted).await?;
            let slot = Arc::new(slot);
            let bytes = bytes.into_iter().map(|bytes| slot.hold(bytes)).collect();
            Ok(Read { bytes, slot: Arc::downgrade(&slot) })
        });
        self.ahead.push_back(Ahead { piece, read: AbortOnDropHandle::new(read) });
        Ok(())
    }

    /// Gives back the memory of everything that the client has not been given: it is read again when it is asked for.
    fn give_back(&mut self) {
        if self.away {
            return;
        }
        self.away = true;
        self.grant.leave();
        for ahead in self.ahead.drain(..).rev() {
            self.again.push_front(ahead.piece);
        }
        let rest = self.ready.drain(..).map(|ready| ready.bytes.len()).sum::<usize>();
        let Some(current) = self.current.take() else { return };
        if let Some(slot) = current.slot.upgrade() {
            slot.let_go();
        }
        if rest == 0 {
            return;
        }
        // Only what the client has not: a slow one may stall again and again.
        let left = u32::try_from(current.handed_out).ok().and_then(|bytes| current.piece.without(bytes));
        match left {
            Some(left) => self.again.push_front(Arc::new(left)),
            None => {
                self.again.push_front(current.piece);
                self.skip = current.handed_out;
            }
        }
    }

    /// The same reader, giving back when it stalls as long as it is polled.
    pub(super) fn watched(self) -> WatchedReader {
        let stalls = self.data.budget.stalls().clone();
        let more_to_come = self.ready.len() > 1 || !self.ahead.is_empty() || !self.is_done();
        let reader = Arc::new(SharedReader(tokio::sync::Mutex::new(self)));
        let body: Weak<dyn Stallable> = Arc::downgrade(&(reader.clone() as Arc<dyn Stallable>));
        WatchedReader { reader, _watched: more_to_come.then(|| stalls.watch(body)) }
    }
}

/// A reader, and what keeps it among those that give back: None if it will have nothing that it could.
pub(super) struct WatchedReader {
    pub(super) reader: Arc<SharedReader>,
    _watched: Option<Watched>,
}

/// The lock is held by whoever waits for the next bytes: such a reader does not stall.
pub(super) struct SharedReader(pub(super) tokio::sync::Mutex<Reader>);

impl Stallable for SharedReader {
    fn give_back_after(&self, stall: Duration) {
        if let Ok(mut reader) = self.0.try_lock()
            && reader.handed_out.elapsed() >= stall
        {
            reader.give_back();
        }
    }
}

/// What follows the first `skip` bytes.
fn skipped(pieces: Vec<Bytes>, mut skip: usize) -> impl Iterator<Item = Bytes> {
    pieces.into_iter().map(move |mut bytes| {
        let here = skip.min(bytes.len());
        skip -= here;
        bytes.split_off(here)
    })
}

fn wrong_length() -> StoreError {
    let why = "the parts do not add up to the object's length".to_owned();
    StoreError::Meta(cairn_schema::MetaError::Corrupt { what: "a manifest", why })
}
