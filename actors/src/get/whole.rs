//! Whether a blob that is read from its first byte to its last is the one that was written.
//!
//! The checksums of fragments vouch for each by itself; that they were put together in the right order, and made of the
//! right bytes, only the blob's own checksum tells. It is judged when the blob's last piece has come and nothing of
//! that was handed out yet, so that no client ever has all of a wrong blob (CON-2, INT-1).

use std::sync::Arc;

use bytes::Bytes;
use cairn_fragment::sealing::NotOpened;
use cairn_schema::{ids::BlobId, record::Blob};
use xxhash_rust::xxh3::Xxh3Default;

use super::sealed::{Opened, SealedPiece};
use crate::{data_path::Slot, error::StoreError};

/// This much is hashed where it stands, in some tens of microseconds; more on another thread.
const IN_PLACE_BYTES: usize = 512 * 1024;
/// Opening what is sealed takes longer.
const OPENED_IN_PLACE_BYTES: usize = 72 * 1024;

/// What the pieces of a blob that is read whole are to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub blob: BlobId,
    pub length: u64,
    pub checksum: u64,
}

impl Promise {
    /// None if less is read than the whole blob.
    pub(super) fn of(blob: &Blob, range: &std::ops::Range<u64>) -> Option<Self> {
        (*range == (0..blob.length)).then_some(Self { blob: blob.id, length: blob.length, checksum: blob.checksum })
    }
}

/// Bytes to be handed out, and what has been read of their blob when they have been.
pub(super) struct Ready {
    pub bytes: Bytes,
    then: Option<Box<Progress>>,
}

/// What a client has of a blob that it reads whole.
#[derive(Clone, Default)]
struct Progress {
    hash: Xxh3Default,
    bytes: u64,
}

/// One body's, over all its blobs.
#[derive(Default)]
pub(super) struct WholeBlobs {
    had: Progress,
}

impl WholeBlobs {
    /// The next bytes of a blob, where nothing else is on its way to the client; `begins`: they are its first. An error
    /// if they are its last, and it is not what was promised, or if they are sealed and do not open.
    pub(super) async fn judge(
        &mut self,
        promise: Option<Promise>,
        begins: bool,
        bytes: Vec<Bytes>,
        opening: Option<Opening>,
    ) -> Result<Vec<Ready>, StoreError> {
        if promise.is_none() && opening.is_none() {
            return Ok(bytes.into_iter().map(|bytes| Ready { bytes, then: None }).collect());
        }
        if begins {
            self.had = Progress::default();
        }
        let had = promise.is_some().then(|| self.had.clone());
        let length: usize = bytes.iter().map(Bytes::len).sum();
        let in_place = if opening.is_some() { OPENED_IN_PLACE_BYTES } else { IN_PLACE_BYTES };
        let work = move || match opening {
            None => Ok(follow(had, bytes)),
            Some(opening) => opening.follow(had, bytes),
        };
        let (ready, end) = if length <= in_place {
            work()?
        } else {
            tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::ShuttingDown)??
        };
        match (promise, end) {
            (Some(promise), Some(end)) if end.bytes >= promise.length && end.hash.digest() != promise.checksum => {
                Err(StoreError::WrongBytes { blob: promise.blob.to_string() })
            }
            _ => Ok(ready),
        }
    }

    /// The client has these now; what was judged and not handed out is as if it had never come.
    pub(super) fn handed_out(&mut self, ready: &mut Ready) {
        if let Some(then) = ready.then.take() {
            self.had = *then;
        }
    }
}

/// What is ready, and how far the blob has come with it if that is followed.
type Followed = (Vec<Ready>, Option<Progress>);

impl Progress {
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

fn follow(mut progress: Option<Progress>, bytes: Vec<Bytes>) -> Followed {
    let mut ready = Vec::with_capacity(bytes.len());
    for bytes in bytes {
        if let Some(progress) = &mut progress {
            progress.add(&bytes);
        }
        ready.push(Ready { bytes, then: progress.clone().map(Box::new) });
    }
    (ready, progress)
}

/// How stored bytes become those that are handed out.
pub(super) struct Opening {
    blob: BlobId,
    sealed: SealedPiece,
    /// Holds what is opened.
    memory: Option<Arc<Slot>>,
}

impl Opening {
    /// None for a piece that is not sealed.
    pub(super) fn of(blob: BlobId, sealed: Option<SealedPiece>, memory: Option<Arc<Slot>>) -> Option<Self> {
        Some(Self { blob, sealed: sealed?, memory })
    }

    fn follow(self, mut progress: Option<Progress>, bytes: Vec<Bytes>) -> Result<Followed, StoreError> {
        let Self { blob, sealed, memory } = self;
        let not_opened = |error: NotOpened| StoreError::NotOpened { blob: blob.to_string(), why: error.to_string() };
        let opened = sealed.open(bytes).map_err(not_opened)?;
        let mut ready = Vec::with_capacity(opened.len());
        for Opened { bytes, stored } in opened {
            if let Some(progress) = &mut progress {
                stored.iter().for_each(|stored| progress.add(stored));
            }
            let bytes = match &memory {
                Some(slot) => slot.hold(bytes),
                None => bytes,
            };
            ready.push(Ready { bytes, then: progress.clone().map(Box::new) });
        }
        Ok((ready, progress))
    }
}
