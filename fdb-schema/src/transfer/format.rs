//! The export file.
//!
//! ```text
//! "cairn metadata export" · version (1) · created_ms (8)
//! 01 · length (4) · rows · xxh3-64 of the rows, seeded with the block's number (8)      once per block
//! 02 · rows (8) · blocks (8) · xxh3-64 of the blocks' checksums (8)                     at the end, once
//!
//! a row: key length (4) · key · value length (4) · value
//! ```
//!
//! Numbers are big-endian. Rows are in key order. A file without its end is not an export.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::{
    error::{MetaError, Result},
    kv::{Row, limits},
};

const MAGIC: &[u8; 21] = b"cairn metadata export";
const VERSION: u8 = 1;
const BLOCK: u8 = 1;
const END: u8 = 2;
/// A block is closed when it has this many bytes.
const BLOCK_BYTES: usize = 1 << 20;
const MAX_BLOCK_BYTES: usize = BLOCK_BYTES + limits::KEY_BYTES + limits::VALUE_BYTES + 8;

fn damaged(why: impl Into<String>) -> MetaError {
    MetaError::Corrupt { what: "metadata export", why: why.into() }
}

fn unwritten(error: std::io::Error) -> MetaError {
    MetaError::Storage(format!("write the export: {error}"))
}

/// What a whole file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub rows: u64,
    pub blocks: u64,
    /// Of all rows.
    pub checksum: u64,
}

pub(super) struct Writer<'a, W> {
    out: &'a mut W,
    block: Vec<u8>,
    totals: Totals,
    checksums: Xxh3,
}

impl<'a, W: AsyncWrite + Unpin> Writer<'a, W> {
    pub(super) async fn new(out: &'a mut W, created_ms: u64) -> Result<Self> {
        let mut header = MAGIC.to_vec();
        header.push(VERSION);
        header.extend_from_slice(&created_ms.to_be_bytes());
        out.write_all(&header).await.map_err(unwritten)?;
        Ok(Self { out, block: Vec::new(), totals: Totals::default(), checksums: Xxh3::new() })
    }

    pub(super) async fn row(&mut self, (key, value): &Row) -> Result<()> {
        for bytes in [key, value] {
            let length = u32::try_from(bytes.len()).map_err(|_| damaged("a row of more than 4 GiB"))?;
            self.block.extend_from_slice(&length.to_be_bytes());
            self.block.extend_from_slice(bytes);
        }
        self.totals.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block().await } else { Ok(()) }
    }

    async fn close_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let checksum = xxh3_64_with_seed(&self.block, self.totals.blocks);
        let length = u32::try_from(self.block.len()).map_err(|_| damaged("a block of more than 4 GiB"))?;
        self.out.write_all(&[BLOCK]).await.map_err(unwritten)?;
        self.out.write_all(&length.to_be_bytes()).await.map_err(unwritten)?;
        self.out.write_all(&self.block).await.map_err(unwritten)?;
        self.out.write_all(&checksum.to_be_bytes()).await.map_err(unwritten)?;
        self.checksums.update(&checksum.to_be_bytes());
        self.totals.blocks += 1;
        self.block.clear();
        Ok(())
    }

    /// Closes the last block. The file is not whole before [`Writer::end`].
    pub(super) async fn totals(&mut self) -> Result<Totals> {
        self.close_block().await?;
        Ok(Totals { checksum: self.checksums.digest(), ..self.totals })
    }

    pub(super) async fn end(mut self) -> Result<Totals> {
        let totals = self.totals().await?;
        let mut end = vec![END];
        for number in [totals.rows, totals.blocks, totals.checksum] {
            end.extend_from_slice(&number.to_be_bytes());
        }
        self.out.write_all(&end).await.map_err(unwritten)?;
        self.out.flush().await.map_err(unwritten)?;
        Ok(totals)
    }
}

pub(super) struct Reader<'a, R> {
    input: &'a mut R,
    totals: Totals,
    checksums: Xxh3,
    last_key: Bytes,
}

impl<'a, R: AsyncRead + Unpin> Reader<'a, R> {
    pub(super) async fn new(input: &'a mut R) -> Result<Self> {
        let mut reader = Self { input, totals: Totals::default(), checksums: Xxh3::new(), last_key: Bytes::new() };
        let magic: [u8; MAGIC.len()] = reader.array().await?;
        if magic != *MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        let [version] = reader.array().await?;
        if version != VERSION {
            return Err(damaged(format!("format version {version}; this program knows {VERSION}")));
        }
        reader.array::<8>().await?;
        Ok(reader)
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes).await?;
        Ok(bytes)
    }

    async fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.input.read_exact(bytes).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(damaged("it ends too early")),
            Err(error) => Err(MetaError::Storage(format!("read the export: {error}"))),
        }
    }

    /// The rows of the next block; None after the last.
    pub(super) async fn block(&mut self) -> Result<Option<Vec<Row>>> {
        match self.array().await? {
            [BLOCK] => {}
            [END] => return self.check_end().await.map(|()| None),
            [kind] => return Err(damaged(format!("unknown block kind {kind}"))),
        }
        let number = self.totals.blocks;
        let length = usize::try_from(u32::from_be_bytes(self.array().await?)).unwrap_or(usize::MAX);
        if length > MAX_BLOCK_BYTES {
            return Err(damaged(format!("block {number} claims {length} bytes")));
        }
        let mut block = vec![0; length];
        self.fill(&mut block).await?;
        let checksum = self.array::<8>().await?;
        if u64::from_be_bytes(checksum) != xxh3_64_with_seed(&block, number) {
            return Err(damaged(format!("the checksum of block {number} is wrong")));
        }
        self.checksums.update(&checksum);
        self.totals.blocks += 1;
        self.rows(block.into()).map(Some)
    }

    fn rows(&mut self, mut block: Bytes) -> Result<Vec<Row>> {
        let garbled = || damaged("a block is garbled");
        let take = |block: &mut Bytes| -> Result<Bytes> {
            let length = block.get(..4).and_then(|length| <[u8; 4]>::try_from(length).ok()).ok_or_else(garbled)?;
            let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| garbled())?;
            let mut bytes = block.split_off(4.min(block.len()));
            if bytes.len() < length {
                return Err(garbled());
            }
            *block = bytes.split_off(length);
            Ok(bytes)
        };
        let mut rows = Vec::new();
        while !block.is_empty() {
            let row = (take(&mut block)?, take(&mut block)?);
            if self.totals.rows > 0 && row.0 <= self.last_key {
                return Err(damaged("its rows are not in order"));
            }
            self.last_key = row.0.clone();
            self.totals.rows += 1;
            rows.push(row);
        }
        Ok(rows)
    }

    async fn check_end(&mut self) -> Result<()> {
        let mut numbers = [0; 3];
        for number in &mut numbers {
            *number = u64::from_be_bytes(self.array().await?);
        }
        let Totals { rows, blocks, .. } = self.totals;
        if numbers != [rows, blocks, self.checksums.digest()] {
            return Err(damaged("its totals do not agree with its blocks"));
        }
        if self.input.read(&mut [0]).await.is_ok_and(|read| read > 0) {
            return Err(damaged("something follows its end"));
        }
        Ok(())
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { checksum: self.checksums.digest(), ..self.totals }
    }
}
