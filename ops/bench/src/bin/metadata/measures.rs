//! What is measured.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cairn_bench::{per_second, thousands};
use cairn_schema::{Meta, MetaError, record::*, verbs::*};
use futures::{StreamExt, TryStreamExt, stream};
use rand::Rng;

use crate::{
    options::{Failure, Measure, Options},
    requests::*,
    stores::Store,
    table::Table,
};

/// Writers that fill buckets.
const FILLERS: usize = 256;
/// Times that what takes long is measured.
const TIMES: usize = 7;
const PAGE: usize = 1000;
const OVERWRITES: [u64; 3] = [0, 10, 100];
/// Of each verb: a store that stalls is slow here, not broken.
const DEADLINE: Duration = Duration::from_secs(60);
/// Keys of the bucket that has the big one's folders with little in them.
const THIN_KEYS: u64 = 50_000;

pub(crate) async fn run(store: &Store, options: &Options, table: &mut Table) -> Result<(), Failure> {
    let meta = store.meta.clone().with_deadline(DEADLINE);
    let bench = Bench { store, group: prepare(&meta).await?, meta, options };
    if options.wants(Measure::Commit) {
        bench.commits(table).await?;
    }
    if options.wants(Measure::Complete) {
        bench.completes(table).await?;
    }
    if options.wants(Measure::Delete) {
        bench.deletes(table).await?;
    }
    if options.wants(Measure::Get) || options.wants(Measure::List) {
        bench.fill_big(table).await?;
    }
    if options.wants(Measure::Get) {
        bench.gets(table).await?;
    }
    if options.wants(Measure::List) {
        bench.lists(table).await?;
    }
    Ok(())
}

struct Bench<'a> {
    store: &'a Store,
    meta: Meta,
    group: Group,
    options: &'a Options,
}

/// The keys of the big bucket: 10 folders of 100 folders each, neighbours far apart in time.
fn key(index: u64) -> String {
    format!("{}/{:02}/{:07}", index % 10, index / 10 % 100, index / 1000)
}

fn milliseconds(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.1} ms") }
}

/// The median, and the best: on a machine that others use too, the median tells of them as well.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    match (times.first(), times.get(times.len() / 2)) {
        (Some(best), Some(median)) => format!("{} (best {})", milliseconds(*median), milliseconds(*best)),
        _ => String::new(),
    }
}

impl Bench<'_> {
    /// Runs `each` with numbers from 0 on, by so many tasks, until the time is over; how many were done, and in what
    /// time.
    async fn rate<F, O>(&self, tasks: usize, each: F) -> Result<(u64, Duration), Failure>
    where
        F: Fn(u64) -> O + Clone + Send + 'static,
        O: Future<Output = Result<(), MetaError>> + Send,
    {
        let next = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let until = started + Duration::from_secs(self.options.seconds);
        let mut running = Vec::new();
        for _ in 0..tasks {
            let (next, each) = (next.clone(), each.clone());
            running.push(tokio::spawn(async move {
                let mut done = 0;
                while Instant::now() < until {
                    each(next.fetch_add(1, Ordering::Relaxed)).await?;
                    done += 1;
                }
                Ok::<u64, MetaError>(done)
            }));
        }
        let mut done = 0;
        for task in running {
            done += task.await??;
        }
        Ok((done, started.elapsed()))
    }

    async fn commits(&self, table: &mut Table) -> Result<(), Failure> {
        for writers in [1, 16, 256] {
            let name = format!("commits-{writers}");
            self.meta.create_bucket(bucket(&name)).await?;
            let (meta, group) = (self.meta.clone(), self.group.clone());
            let before = self.store.stats();
            let commit = move |number| {
                let (meta, request) = (meta.clone(), put(&group, &name, key(number)));
                async move { meta.commit_object(request).await.map(drop) }
            };
            let (done, took) = self.rate(writers, commit).await?;
            table.set(&format!("commits/s, writers: {writers}"), per_second(done, took));
            if let (Some(before), Some(after)) = (before, self.store.stats()) {
                let shared = (after.commits - before.commits) as f64 / (after.syncs - before.syncs).max(1) as f64;
                table.set(&format!("commits per fsync, writers: {writers}"), format!("{shared:.1}"));
            }
        }
        Ok(())
    }

    async fn fill(&self, bucket: &str, keys: impl Iterator<Item = String>) -> Result<(), Failure> {
        let puts = keys.map(|key| {
            let (meta, request) = (self.meta.clone(), put(&self.group, bucket, key));
            async move { tokio::spawn(async move { meta.commit_object(request).await }).await }
        });
        let mut committed = stream::iter(puts).buffer_unordered(FILLERS);
        while let Some(committed) = committed.next().await {
            committed??;
        }
        Ok(())
    }

    async fn fill_big(&self, table: &mut Table) -> Result<(), Failure> {
        let keys = self.options.keys;
        self.meta.create_bucket(bucket("big")).await?;
        let started = Instant::now();
        self.fill("big", (0..keys).map(key)).await?;
        table.set(&format!("commits/s while {} keys are put", thousands(keys)), per_second(keys, started.elapsed()));
        let objects = self.meta.usage("big").await?.objects;
        if objects != keys {
            return Err(format!("{objects} of {keys} keys were put").into());
        }
        Ok(())
    }

    async fn gets(&self, table: &mut Table) -> Result<(), Failure> {
        let keys = self.options.keys;
        for readers in [1, 16, 256] {
            let meta = self.meta.clone();
            let get = move |_| {
                let (meta, key) = (meta.clone(), key(rand::rng().random_range(0..keys)));
                async move { meta.locate("big", &key, VersionSelector::Current, RangeRequest::All).await.map(drop) }
            };
            let (done, took) = self.rate(readers, get).await?;
            table.set(&format!("gets/s of random keys, readers: {readers}"), per_second(done, took));
        }
        Ok(())
    }

    async fn page(&self, bucket: &str, prefix: &str, delimiter: bool) -> Result<(usize, String), Failure> {
        let query = ListQuery {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            delimiter: delimiter.then(|| "/".to_owned()),
            limit: PAGE,
            ..ListQuery::default()
        };
        let mut times = Vec::new();
        let mut entries = 0;
        for _ in 0..3 * TIMES {
            let started = Instant::now();
            entries = self.meta.list_objects(&query).await?.entries.len();
            times.push(started.elapsed());
        }
        Ok((entries, summary(times)))
    }

    async fn lists(&self, table: &mut Table) -> Result<(), Failure> {
        let keys = self.options.keys;
        let (entries, took) = self.page("big", "", false).await?;
        table.set(&format!("LIST first page, {entries} keys"), took);
        // The same folders with fewer keys in each: what a delimiter costs must not depend on the keys below.
        let thin_keys = keys.min(THIN_KEYS);
        self.meta.create_bucket(bucket("thin")).await?;
        self.fill("thin", (0..thin_keys).map(key)).await?;
        for prefix in ["", "7/"] {
            let (entries, took) = self.page("big", prefix, true).await?;
            let (same, thin) = self.page("thin", prefix, true).await?;
            if entries != same {
                return Err(format!("{entries} common prefixes, and {same} in the thin bucket").into());
            }
            let below = [keys, thin_keys].map(|keys| thousands(keys / if prefix.is_empty() { 10 } else { 1000 }));
            let name = |below: &str| format!("LIST delimiter page, {entries} prefixes of {below} keys each");
            table.set(&name(&below[0]), took);
            table.set(&name(&below[1]), thin);
        }
        self.overwritten(table).await?;
        let mut query = ListQuery { bucket: "big".into(), limit: PAGE, ..ListQuery::default() };
        let started = Instant::now();
        let mut found = 0;
        loop {
            let page = self.meta.list_objects(&query).await?;
            found += page.entries.len() as u64;
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        if found != keys {
            return Err(format!("{found} of {keys} keys were listed").into());
        }
        let took = started.elapsed();
        let rate = per_second(keys, took);
        table.set(
            &format!("LIST full walk, {} keys", thousands(keys)),
            format!("{:.2} s, {rate} keys/s", took.as_secs_f64()),
        );
        Ok(())
    }

    /// What a page costs must not depend on how often its keys were written.
    async fn overwritten(&self, table: &mut Table) -> Result<(), Failure> {
        self.meta.create_bucket(bucket("over")).await?;
        let mut written = 0;
        for times in OVERWRITES {
            while written <= times {
                self.fill("over", (0..PAGE as u64).map(key)).await?;
                written += 1;
            }
            let (entries, took) = self.page("over", "", false).await?;
            table.set(&format!("LIST of {entries} keys, each overwritten {times} times"), took);
        }
        Ok(())
    }

    async fn completes(&self, table: &mut Table) -> Result<(), Failure> {
        self.meta.create_bucket(bucket("uploads")).await?;
        let mut times = Vec::new();
        for number in 0..TIMES {
            let upload = upload("uploads", format!("upload-{number}"));
            self.meta.create_upload(upload.clone()).await?;
            let puts = (1..=self.options.parts).map(|part| {
                let (meta, request) = (self.meta.clone(), put_part(&self.group, &upload, part));
                async move { meta.put_part(request).await }
            });
            let mut parts: Vec<UploadedPart> = stream::iter(puts).buffer_unordered(FILLERS).try_collect().await?;
            parts.sort_by_key(|part| part.number);
            let request = complete(&upload, &parts);
            let started = Instant::now();
            self.meta.complete_upload(request).await?;
            times.push(started.elapsed());
        }
        let parts = thousands(self.options.parts.into());
        table.set(&format!("CompleteMultipartUpload of {parts} parts"), summary(times));
        Ok(())
    }

    async fn deletes(&self, table: &mut Table) -> Result<(), Failure> {
        self.meta.create_bucket(bucket("deletes")).await?;
        let (mut times, mut syncs) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            self.fill("deletes", (0..PAGE as u64).map(key)).await?;
            let requests = (0..PAGE as u64).map(|index| delete("deletes", key(index))).collect();
            let before = self.store.stats();
            let started = Instant::now();
            for deleted in self.meta.delete_objects(requests).await {
                deleted?;
            }
            times.push(started.elapsed());
            if let (Some(before), Some(after)) = (before, self.store.stats()) {
                syncs.push(after.syncs - before.syncs);
            }
        }
        table.set("delete of 1,000 keys in one request", summary(times));
        if let Some(most) = syncs.iter().max() {
            table.set("fsyncs of such a delete", most.to_string());
        }
        Ok(())
    }
}
