//! How bucket documents are stored: they are longer than a record, and up to [`MAX_BYTES`], which is more than a row
//! can hold.
//!
//! | Format version | Row | After the version's byte |
//! |---|---|---|
//! | 1 | first | the whole document |
//! | 2 | first | [`DocumentHead`]: the document is in chunks |
//! | 1 | chunk | [`CHUNK_BYTES`] of the document; the last has what is left |

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    codec::{CodecError, Stored, corrupt},
    error::{MetaError, Result},
    record::rows::DocumentHead,
};

/// The longest document. S3's own limits are lower (20 KiB for a policy, 64 KiB for CORS rules; a lifecycle of 1,000
/// rules is the largest) and the business of whoever reads what is in it.
pub const MAX_BYTES: usize = 1 << 20;
/// Documents of at most so many bytes are in one row.
pub const CHUNK_BYTES: usize = 64 << 10;

const WHAT: &str = "bucket document";
const BYTES_VERSION: u8 = 1;

/// What the first row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    Whole(Bytes),
    Chunked(DocumentHead),
}

impl First {
    pub fn read(key: &[u8], row: &Bytes) -> Result<Self> {
        match row.first() {
            Some(&BYTES_VERSION) => Ok(Self::Whole(row.slice(1..))),
            Some(&DocumentHead::VERSION) => DocumentHead::read(key, row).map(Self::Chunked),
            version => Err(unknown(key, version.copied())),
        }
    }
}

fn unknown(key: &[u8], version: Option<u8>) -> MetaError {
    let known = DocumentHead::VERSION;
    let error = version.map_or(CodecError::Empty, |version| CodecError::UnknownVersion { found: version, known });
    corrupt(WHAT, key, &error)
}

/// The bytes in the row of a chunk.
pub fn chunk(key: &[u8], row: &Bytes) -> Result<Bytes> {
    match row.first() {
        Some(&BYTES_VERSION) => Ok(row.slice(1..)),
        version => Err(unknown(key, version.copied())),
    }
}

/// The rows of a document, the first one first.
///
/// # Errors
/// TooLarge over [`MAX_BYTES`].
pub fn rows(body: &[u8]) -> Result<Vec<Bytes>> {
    if body.len() > MAX_BYTES {
        return Err(MetaError::TooLarge { what: WHAT, actual: body.len() as u64, limit: MAX_BYTES as u64 });
    }
    let with_version = |bytes: &[u8]| Bytes::from([&[BYTES_VERSION], bytes].concat());
    if body.len() <= CHUNK_BYTES {
        return Ok(vec![with_version(body)]);
    }
    let chunks = body.chunks(CHUNK_BYTES);
    let count = u16::try_from(chunks.len()).unwrap_or(u16::MAX);
    let head = DocumentHead { length: body.len() as u64, chunks: count, checksum: xxh3_64(body) };
    Ok(std::iter::once(head.encode()).chain(chunks.map(with_version)).collect())
}

/// The document again, from what its head says and its chunks in order.
pub fn join(key: &[u8], head: DocumentHead, chunks: impl Iterator<Item = Result<Bytes>>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut count = 0u16;
    for chunk in chunks {
        body.extend_from_slice(&chunk?);
        count = count.saturating_add(1);
    }
    if (body.len() as u64, count, xxh3_64(&body)) != (head.length, head.chunks, head.checksum) {
        let DocumentHead { chunks, length, .. } = head;
        let held = body.len();
        let why = format!(
            "its head says {length} bytes in {chunks} chunks, it has {held} in {count}, or with another checksum"
        );
        return Err(corrupt(WHAT, key, &why));
    }
    Ok(body)
}
