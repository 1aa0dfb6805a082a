//! Objects out: a range becomes pieces of stripes, pieces are read from the fragments that hold them, and every byte is
//! verified before it is handed on (INT-1).
//!
//! [`plan`] says which pieces; [`reader`] reads them one after the other, a little ahead of the client; [`gather`]
//! reads one of them whatever is slow, missing or damaged, and [`sources`] decides whom it asks. [`whole`] judges a
//! blob that is read from its first byte to its last by its own checksum. [`sealed`] opens what is encrypted, last of
//! all.

mod gather;
mod plan;
mod reader;
mod sealed;
mod sources;
mod whole;

use std::{ops::Range, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use cairn_fragment::sealing::Sealer;
use cairn_schema::{MetaError, record::Version, verbs::Located};
use futures::{Stream, StreamExt, stream};

use crate::{
    data_path::{DataPath, Requester},
    error::StoreError,
};
use plan::Pieces;
use reader::{Reader, WatchedReader};

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
    opener: Option<Arc<dyn Sealer>>,
) -> Result<GotObject, StoreError> {
    let start = Instant::now();
    let opened = begin(&data, requester, located, opener).await;
    let result = if opened.is_ok() { "ok" } else { "failed" };
    data.metrics.gets.with_label_values(&[result]).inc();
    if opened.is_ok() {
        data.metrics.first_piece_seconds.observe(start.elapsed().as_secs_f64());
    }
    opened
}

async fn begin(
    data: &Arc<DataPath>,
    requester: &Requester,
    located: Located,
    opener: Option<Arc<dyn Sealer>>,
) -> Result<GotObject, StoreError> {
    let Located { version, range, parts_offset, parts } = located;
    // Nobody is ever given sealed bytes.
    if version.encryption.is_some() != opener.is_some() {
        let why = "a sealed version without what opens it, or the other way round".to_owned();
        return Err(MetaError::Invalid { what: "read", why }.into());
    }
    let pieces = Pieces::new(range.clone(), parts_offset, parts, opener)?;
    let left = range.end - range.start;
    let body = if left == 0 {
        stream::empty().boxed()
    } else {
        let grant = data.budget.open(requester, pieces.largest()).await?;
        let mut reader = Reader::new(data.clone(), grant, pieces, left);
        reader.next_piece().await?;
        stream::unfold(Some(reader.watched()), step).boxed()
    };
    Ok(GotObject { version, range, body })
}

/// The body's next bytes, and the reader if there may be more.
async fn step(reader: Option<WatchedReader>) -> Option<(Result<Bytes, StoreError>, Option<WatchedReader>)> {
    let reader = reader?;
    let next = reader.reader.0.lock().await.next().await;
    match next {
        Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}
