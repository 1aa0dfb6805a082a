//! Whether a blob that is read from its first byte to its last is the one that was written.
//!
//! The checksums of fragments vouch for each by itself; that they were put together in the right order, and made of the
//! right bytes, only the blob's own checksum tells. It is judged when the blob's last piece has come and nothing of
//! that was handed out yet, so that no client ever has all of a wrong blob (CON-2, INT-1).

use bytes::Bytes;
use cairn_schema::{ids::BlobId, record::Blob};
use xxhash_rust::xxh3::Xxh3Default;

use crate::error::StoreError;

/// This much is hashed where it stands, in some tens of microseconds; more on another thread.
const IN_PLACE_BYTES: usize = 512 * 1024;

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
    /// if they are its last, and it is not what was promised.
    pub(super) async fn judge(
        &mut self,
        promise: Option<Promise>,
        begins: bool,
        bytes: Vec<Bytes>,
    ) -> Result<Vec<Ready>, StoreError> {
        let Some(promise) = promise else {
            return Ok(bytes.into_iter().map(|bytes| Ready { bytes, then: None }).collect());
        };
        if begins {
            self.had = Progress::default();
        }
        let had = self.had.clone();
        let length: usize = bytes.iter().map(Bytes::len).sum();
        let work = move || follow(had, bytes);
        let (ready, end) = if length <= IN_PLACE_BYTES {
            work()
        } else {
            tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::ShuttingDown)?
        };
        if end.bytes >= promise.length && end.hash.digest() != promise.checksum {
            return Err(StoreError::WrongBytes { blob: promise.blob.to_string() });
        }
        Ok(ready)
    }

    /// The client has these now; what was judged and not handed out is as if it had never come.
    pub(super) fn handed_out(&mut self, ready: &mut Ready) {
        if let Some(then) = ready.then.take() {
            self.had = *then;
        }
    }
}

fn follow(mut progress: Progress, bytes: Vec<Bytes>) -> (Vec<Ready>, Progress) {
    let mut ready = Vec::with_capacity(bytes.len());
    for bytes in bytes {
        progress.hash.update(&bytes);
        progress.bytes += bytes.len() as u64;
        ready.push(Ready { bytes, then: Some(Box::new(progress.clone())) });
    }
    (ready, progress)
}
