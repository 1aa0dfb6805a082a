//! Export and import of all metadata: backup and restore, and the way from one backend to another.

pub(crate) mod check;
mod format;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncSeek, AsyncSeekExt, AsyncWrite};

pub use format::Totals;

use crate::{
    codec::Stored,
    error::{MetaError, Result, unfinished_import},
    ids::GroupId,
    keyspace::{self, Space},
    kv::{KvError, RangePage, RangeQuery, Row, Transaction, key_after},
    record::Blob,
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
    /// Writes every row to `out`, as of one moment. The embedded store exports while it works. The others forget old
    /// versions after seconds, so they are read twice: if anything changed meanwhile the answer is Err(Stale) and `out`
    /// is not a valid export; stop the gateways and try again.
    ///
    /// # Errors
    /// Invalid for a store without a cluster, which nobody would want to restore; Corrupt for one whose import was not
    /// finished.
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

    /// Fills an empty store from an export, of whatever backend. The whole file is verified before the first row is
    /// written: a damaged one changes nothing. An import that was interrupted is started again by calling this again;
    /// until it is finished [`Meta::cluster`] fails.
    ///
    /// # Errors
    /// Corrupt for a damaged file, one without a cluster or rows of unknown formats; Invalid for a store that is not
    /// empty, or into which another import has begun meanwhile.
    pub async fn import<R: AsyncRead + AsyncSeek + Unpin + Send>(&self, input: &mut R) -> Result<Totals> {
        let start = input.stream_position().await.map_err(unread)?;
        let mut verify = Reader::new(input).await?;
        let mut cluster = None;
        while let Some(rows) = verify.block().await? {
            rows.iter().try_for_each(check::row)?;
            // The first of all keys.
            cluster = cluster.or_else(|| rows.into_iter().next().filter(|(key, _)| *key == keyspace::cluster()));
        }
        let totals = verify.totals();
        let no_cluster = || MetaError::Corrupt { what: "metadata export", why: "it has no cluster".to_owned() };
        let (_, cluster) = cluster.ok_or_else(no_cluster)?;
        input.seek(std::io::SeekFrom::Start(start)).await.map_err(unread)?;
        let mark = Mark::random();
        transact!(self, "import", |tx| begin(tx, &mark))?;
        while transact!(self, "import", |tx| empty(tx, &mark))? {}
        let mut reader = Reader::new(input).await?;
        let mut counted = StripeCounts::default();
        while let Some(rows) = reader.block().await? {
            counted.take(&rows)?;
            for page in pages(&rows) {
                transact!(self, "import", |tx| write(tx, &mark, page))?;
            }
        }
        for page in pages(&counted.into_rows()) {
            transact!(self, "import", |tx| write(tx, &mark, page))?;
        }
        let mut tried = false;
        let era = (self.clock)() / 1000;
        transact!(self, "import", |tx| finish(tx, &mark, &cluster, era, &mut tried))?;
        Ok(totals)
    }

    async fn all_rows(&self) -> Result<AllRows> {
        let mut snapshot = self.kv.long_snapshot().await.map_err(failed)?;
        let keys = [keyspace::importing(), keyspace::cluster()];
        let rows = match &mut snapshot {
            Some(snapshot) => snapshot.get_many(&keys, true).await.map_err(failed)?,
            None => transact!(self, "export", |tx| tx.raw_many(&keys))?,
        };
        match &rows[..] {
            [None, Some(_)] => Ok(AllRows { snapshot, left: all_ranges().collect() }),
            [Some(_), _] => Err(unfinished_import()),
            _ => Err(unusable("it is empty: it has no cluster")),
        }
    }
}

fn failed(error: KvError) -> MetaError {
    MetaError::Storage(error.to_string())
}

fn unusable(why: &str) -> MetaError {
    MetaError::Invalid { what: "metadata store", why: why.to_owned() }
}

fn unread(error: std::io::Error) -> MetaError {
    MetaError::Storage(format!("read the export: {error}"))
}

/// All rows in key order, from one snapshot or from a transaction for each page.
struct AllRows {
    snapshot: Option<Box<dyn Transaction>>,
    /// What is still to be read.
    left: VecDeque<(Bytes, Bytes)>,
}

impl AllRows {
    fn is_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    async fn next(&mut self, meta: &Meta) -> Result<Option<Vec<Row>>> {
        let Some((begin, end)) = self.left.pop_front() else { return Ok(None) };
        let query = RangeQuery::new(begin, end.clone(), PAGE).snapshot();
        let page: RangePage = match &mut self.snapshot {
            Some(snapshot) => snapshot.range(query).await.map_err(failed)?,
            None => transact!(meta, "export", |tx| tx.range(query.clone()))?,
        };
        if let Some((last, _)) = page.rows.last().filter(|_| page.more) {
            self.left.push_front((key_after(last), end));
        }
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

/// Counters of the groups' stripes, which no export has.
#[derive(Default)]
struct StripeCounts(BTreeMap<GroupId, u64>);

impl StripeCounts {
    fn take(&mut self, rows: &[Row]) -> Result<()> {
        for (key, value) in rows.iter().filter(|(key, _)| key.first() == Some(&(Space::Blob as u8))) {
            for (group, stripes) in Blob::read(key, value)?.stripes_by_group() {
                *self.0.entry(group).or_default() += stripes;
            }
        }
        Ok(())
    }

    fn into_rows(self) -> Vec<Row> {
        let counter = |stripes: u64| Bytes::copy_from_slice(&stripes.to_le_bytes());
        let counters = self.0.into_iter().map(|(group, stripes)| (keyspace::group_stripes(group), counter(stripes)));
        counters.chain([(keyspace::stripes_are_counted(), Bytes::new())]).collect()
    }
}

/// What is in the store while an import is under way, and names it: whoever finds another's has been overtaken.
struct Mark(Bytes);

impl Mark {
    fn random() -> Self {
        Self(Bytes::copy_from_slice(&rand::random::<[u8; 16]>()))
    }

    /// Read by every transaction of the import, so that none is committed beside the beginning of another's.
    async fn must_stand(&self, tx: &mut Tx) -> Outcome<()> {
        match tx.raw(&keyspace::importing()).await? {
            Some(stored) if stored == self.0 => Ok(()),
            _ => Err(overtaken().into()),
        }
    }
}

fn overtaken() -> MetaError {
    unusable("another import into it has begun")
}

fn all_ranges() -> impl Iterator<Item = (Bytes, Bytes)> {
    keyspace::METADATA.into_iter().map(|(begin, end)| (Bytes::from_static(begin), Bytes::from_static(end)))
}

/// Some of the rows, if there are any.
async fn some_rows(tx: &mut Tx, limit: usize) -> Outcome<RangePage> {
    for (begin, end) in all_ranges() {
        let page = tx.range(RangeQuery::new(begin, end, limit)).await?;
        if !page.rows.is_empty() {
            return Ok(page);
        }
    }
    Ok(RangePage::default())
}

/// Checks that there is nothing but what an unfinished import left, and marks the store.
async fn begin(tx: &mut Tx, mark: &Mark) -> Outcome<()> {
    if tx.raw(&keyspace::importing()).await?.is_none() && !some_rows(tx, 1).await?.rows.is_empty() {
        return Err(unusable("it is not empty; import into a new one").into());
    }
    tx.set_raw(keyspace::importing(), mark.0.clone());
    Ok(())
}

/// Takes away what an unfinished import left; whether there may be more.
async fn empty(tx: &mut Tx, mark: &Mark) -> Outcome<bool> {
    mark.must_stand(tx).await?;
    let page = some_rows(tx, PAGE).await?;
    let more = !page.rows.is_empty();
    for (key, _) in page.rows {
        tx.clear(key);
    }
    let (begin, end) = keyspace::space(Space::GroupStripes);
    tx.clear_range(begin, end);
    Ok(more)
}

async fn write(tx: &mut Tx, mark: &Mark, rows: &[Row]) -> Outcome<()> {
    mark.must_stand(tx).await?;
    for (key, value) in rows {
        tx.set_raw(key.clone(), value.clone());
    }
    Ok(())
}

/// A try whose commit is unknown may have taken the mark away. Then the store holds what was imported, which its
/// cluster tells: no other import can have begun but by finding the mark.
async fn finish(tx: &mut Tx, mark: &Mark, cluster: &Bytes, era: u64, tried: &mut bool) -> Outcome<()> {
    let finished = *tried
        && tx.raw(&keyspace::importing()).await?.is_none()
        && tx.raw(&keyspace::cluster()).await?.as_ref() == Some(cluster);
    if finished {
        return Ok(());
    }
    mark.must_stand(tx).await?;
    *tried = true;
    // Events from now on come after those that were imported, whatever this store's stamps are.
    tx.set(keyspace::event_era(), &era);
    tx.clear(keyspace::importing());
    Ok(())
}
