//! Export and import of all metadata: backup and restore, and the way from one backend to another.

pub(crate) mod check;
mod format;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncSeek, AsyncSeekExt, AsyncWrite};

pub use format::Totals;

use crate::{
    error::{MetaError, Result},
    keyspace,
    kv::{RangePage, RangeQuery, Row, Transaction, key_after},
    transfer::format::{Reader, Writer},
    verbs::{
        Meta,
        tx::{Outcome, Tx, transact},
    },
};

/// Rows read at a time.
const PAGE: usize = 1000;
/// Bytes written in one transaction.
const TRANSACTION_BYTES: usize = 1 << 20;
/// Rows written in one transaction.
const TRANSACTION_ROWS: usize = 5000;

impl Meta {
    /// Writes every row to `out`, as of one moment. The embedded store exports while it works. The others forget old versions
    /// after seconds, so they are read twice: if anything changed meanwhile the answer is Err(Stale) and `out` is not a valid export; stop
    /// the gateways and try again.
    pub async fn export<W: AsyncWrite + Unpin + Send>(&self, out: &mut W) -> Result<Totals> {
        let mut writer = Writer::new(out, (self.clock)()).await?;
        let mut rows = self.all_rows().await?;
        while let Some(page) = rows.next(self).await? {
            for row in &page {
                writer.row(row).await?;
            }
        }
        if !rows.is_snapshot() {
            let first = writer.totals().await?;
            if self.totals_now().await? != first {
                return Err(MetaError::Stale("metadata changed during the export"));
            }
        }
        writer.end().await
    }

    /// What an export would hold at this moment, if nothing changes meanwhile.
    async fn totals_now(&self) -> Result<Totals> {
        let mut nowhere = tokio::io::sink();
        let mut writer = Writer::new(&mut nowhere, 0).await?;
        let mut rows = self.all_rows().await?;
        while let Some(page) = rows.next(self).await? {
            for row in &page {
                writer.row(row).await?;
            }
        }
        writer.totals().await
    }

    /// Fills an empty store from an export, of whatever backend. The whole file is verified before the first row is written: a
    /// damaged one changes nothing. An import that was interrupted is started again by calling this again; until it is finished
    /// [`Meta::cluster`] fails.
    ///
    /// # Errors
    /// Corrupt for a damaged file or rows of unknown formats, Invalid for a store that is not empty.
    pub async fn import<R: AsyncRead + AsyncSeek + Unpin + Send>(&self, input: &mut R) -> Result<Totals> {
        let start = input.stream_position().await.map_err(unread)?;
        let mut verify = Reader::new(input).await?;
        while let Some(rows) = verify.block().await? {
            rows.iter().try_for_each(check::row)?;
        }
        let totals = verify.totals();
        input.seek(std::io::SeekFrom::Start(start)).await.map_err(unread)?;
        self.empty_for_import().await?;
        let mut reader = Reader::new(input).await?;
        while let Some(rows) = reader.block().await? {
            for page in pages(&rows) {
                transact!(self, "import", |tx| write(tx, page))?;
            }
        }
        transact!(self, "import", |tx| finish(tx))?;
        Ok(totals)
    }

    async fn all_rows(&self) -> Result<AllRows> {
        let snapshot = self.kv.long_snapshot().await.map_err(|error| MetaError::Storage(error.to_string()))?;
        Ok(AllRows { snapshot, begin: Some(Bytes::from_static(keyspace::FIRST_KEY)) })
    }

    /// Checks that there is nothing but what an unfinished import left, takes that away, and marks the store.
    async fn empty_for_import(&self) -> Result<()> {
        while transact!(self, "import", |tx| make_empty(tx))? {}
        Ok(())
    }
}

fn unread(error: std::io::Error) -> MetaError {
    MetaError::Storage(format!("read the export: {error}"))
}

/// All rows in key order, from one snapshot or from a transaction for each page.
struct AllRows {
    snapshot: Option<Box<dyn Transaction>>,
    /// None after the last row.
    begin: Option<Bytes>,
}

impl AllRows {
    fn is_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    async fn next(&mut self, meta: &Meta) -> Result<Option<Vec<Row>>> {
        let Some(begin) = self.begin.take() else { return Ok(None) };
        let query = RangeQuery::new(begin, Bytes::from_static(keyspace::END_KEY), PAGE).snapshot();
        let page: RangePage = match &mut self.snapshot {
            Some(snapshot) => snapshot.range(query).await.map_err(|error| MetaError::Storage(error.to_string()))?,
            None => transact!(meta, "export", |tx| tx.range(query.clone()))?,
        };
        self.begin = page.rows.last().filter(|_| page.more).map(|(key, _)| key_after(key));
        Ok(Some(page.rows))
    }
}

/// Rows in runs that fit in a transaction.
fn pages(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(TRANSACTION_ROWS).take_while(|(key, value)| {
            let fits = bytes < TRANSACTION_BYTES;
            bytes += key.len() + value.len();
            fits
        });
        let (page, left) = rest.split_at(fitting.count());
        rest = left;
        (!page.is_empty()).then_some(page)
    })
}

/// Whether there is more to take away.
async fn make_empty(tx: &mut Tx) -> Outcome<bool> {
    let query = RangeQuery::new(Bytes::from_static(keyspace::FIRST_KEY), Bytes::from_static(keyspace::END_KEY), PAGE);
    let page = tx.range(query).await?;
    if page.rows.is_empty() {
        tx.set(keyspace::importing(), &tx.now_ms.clone());
        return Ok(false);
    }
    if tx.raw(&keyspace::importing()).await?.is_none() {
        let why = "it is not empty; import into a new one".to_owned();
        return Err(MetaError::Invalid { what: "metadata store", why }.into());
    }
    for (key, _) in page.rows {
        tx.clear(key);
    }
    Ok(true)
}

async fn write(tx: &mut Tx, rows: &[Row]) -> Outcome<()> {
    for (key, value) in rows {
        tx.set_raw(key.clone(), value.clone());
    }
    Ok(())
}

async fn finish(tx: &mut Tx) -> Outcome<()> {
    tx.clear(keyspace::importing());
    Ok(())
}
