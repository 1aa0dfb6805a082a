//! Objects out: a range becomes pieces of stripes, pieces are read from the fragments that hold them, and every byte is
//! verified before it is handed on (INT-1).
//!
//! [`plan`] says which pieces; [`gather`] reads one of them whatever is slow, missing or damaged, and [`sources`]
//! decides whom it asks.

mod gather;
mod plan;
mod sources;

use std::{collections::VecDeque, ops::Range, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use cairn_schema::{record::Version, verbs::Located};
use futures::{Stream, StreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    data_path::{DataPath, Requester, Slot, StreamGrant},
    error::StoreError,
};
use gather::fetch;
use plan::Pieces;

/// A body as it goes to a client: every byte verified. An error in it means the connection must be aborted.
pub type BodyOut = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// An object's version and the bytes asked for.
pub struct GotObject {
    pub version: Version,
    /// Half open, resolved and clamped.
    pub range: Range<u64>,
    pub body: BodyOut,
}

/// Opens an object for reading: returns when the first piece is verified.
pub(crate) async fn open(
    data: Arc<DataPath>,
    requester: &Requester,
    located: Located,
) -> Result<GotObject, StoreError> {
    let start = Instant::now();
    let opened = begin(&data, requester, located).await;
    let result = if opened.is_ok() { "ok" } else { "failed" };
    data.metrics.gets.with_label_values(&[result]).inc();
    if opened.is_ok() {
        data.metrics.first_piece_seconds.observe(start.elapsed().as_secs_f64());
    }
    opened
}

async fn begin(data: &Arc<DataPath>, requester: &Requester, located: Located) -> Result<GotObject, StoreError> {
    let Located { version, range, parts_offset, parts } = located;
    let pieces = Pieces::new(range.clone(), parts_offset, parts)?;
    let left = range.end - range.start;
    let body = if left == 0 {
        stream::empty().boxed()
    } else {
        let grant = data.budget.open(requester, pieces.largest()).await?;
        let mut reader =
            Reader { data: data.clone(), grant, pieces, left, ahead: VecDeque::new(), ready: VecDeque::new() };
        reader.next_piece().await?;
        stream::unfold(Some(reader), step).boxed()
    };
    Ok(GotObject { version, range, body })
}

/// The body's next bytes, and the reader if there may be more.
async fn step(reader: Option<Reader>) -> Option<(Result<Bytes, StoreError>, Option<Reader>)> {
    let mut reader = reader?;
    match reader.next().await {
        Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

struct Reader {
    data: Arc<DataPath>,
    grant: StreamGrant,
    pieces: Pieces,
    /// Bytes still to be handed out.
    left: u64,
    /// Pieces being read, in order.
    ahead: VecDeque<AbortOnDropHandle<Result<Vec<Bytes>, StoreError>>>,
    ready: VecDeque<Bytes>,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                // Shorter than promised, or longer, must never look like a whole body (CON-2).
                let len = bytes.len() as u64;
                self.left = self.left.checked_sub(len).ok_or_else(wrong_length)?;
                self.data.metrics.get_bytes.inc_by(len);
                return Ok(Some(bytes));
            }
            if !self.next_piece().await? {
                return if self.left == 0 { Ok(None) } else { Err(wrong_length()) };
            }
        }
    }

    /// Waits for the next piece and starts reading the ones after it. False when there is none.
    async fn next_piece(&mut self) -> Result<bool, StoreError> {
        if self.ahead.is_empty() && !self.pieces.is_done() {
            let slot = self.grant.slot_or_extra().await;
            self.start(slot)?;
        }
        let Some(piece) = self.ahead.pop_front() else { return Ok(false) };
        // The first piece of a small read needs nothing ahead of it.
        self.read_ahead()?;
        let bytes = piece.await.unwrap_or(Err(StoreError::ShuttingDown))?;
        self.ready.extend(bytes.into_iter().filter(|bytes| !bytes.is_empty()));
        self.read_ahead()?;
        Ok(true)
    }

    /// As many pieces ahead as the limit and the memory that is free allow.
    fn read_ahead(&mut self) -> Result<(), StoreError> {
        while self.ahead.len() + 1 < self.data.limits.get_pieces && !self.pieces.is_done() {
            let Some(slot) = self.grant.try_slot() else { return Ok(()) };
            self.start(slot)?;
        }
        Ok(())
    }

    fn start(&mut self, slot: Slot) -> Result<(), StoreError> {
        let Some(piece) = self.pieces.next()? else { return Ok(()) };
        let data = self.data.clone();
        let read = tokio::spawn(async move {
            let bytes = fetch(&data, &piece).await?;
            let slot = Arc::new(slot);
            Ok(bytes.into_iter().map(|bytes| slot.hold(bytes)).collect())
        });
        self.ahead.push_back(AbortOnDropHandle::new(read));
        Ok(())
    }
}

fn wrong_length() -> StoreError {
    let why = "the parts do not add up to the object's length".to_owned();
    StoreError::Meta(cairn_schema::MetaError::Corrupt { what: "a manifest", why })
}
