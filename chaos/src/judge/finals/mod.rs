//! What is looked at when the load has ended and everything is whole: every key through every node, listings, versions,
//! counters, and the disks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

use super::verdict::{FINAL_CLIENT, Verdict};
use crate::{
    cluster::Cluster,
    error::ChaosError,
    s3::{S3, elements, escaped},
    script::Workload,
    traffic::{
        Book, Client, Endpoints,
        client::{PLAIN, VERSIONED},
        record::{Key, Version},
    },
};

/// Read at once.
const AT_ONCE: usize = 6;
/// How long a read is tried again before an object counts as lost.
const READABLE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(200);
/// Of the versions that were acknowledged so many, drawn by the seed, are read at the end; all are looked for in the
/// listing.
const VERSIONS_READ: usize = 400;

/// What was seen at the end.
pub struct Finals {
    /// Reads that nobody answered.
    pub unread: Vec<String>,
    pub verdicts: Vec<Verdict>,
}

pub async fn look(
    cluster: &Cluster,
    endpoints: &Endpoints,
    book: &Book,
    workload: &Workload,
    seed: u64,
) -> Result<Finals, ChaosError> {
    let readers = Readers { endpoints: endpoints.clone(), book: book.clone(), workload: Arc::new(workload.clone()) };
    let (holds, mut unread) = readers.every_key().await;
    unread.extend(readers.versions(seed).await);
    let mut verdicts = vec![listing(endpoints, &holds).await?];
    let (versions, counted) = versions(endpoints, book).await?;
    verdicts.push(versions);
    verdicts.push(accounting(cluster, &counted));
    Ok(Finals { unread, verdicts })
}

struct Readers {
    endpoints: Endpoints,
    book: Book,
    workload: Arc<Workload>,
}

impl Readers {
    fn client(&self, node: usize, number: usize) -> Client {
        let (endpoints, book) = (self.endpoints.clone(), self.book.clone());
        Client::new(FINAL_CLIENT + number, endpoints, book, (*self.workload).clone(), 0).of_node(node)
    }

    /// Which keys hold something, and which reads nobody answered. Keys that many wrote are read through every node.
    async fn every_key(&self) -> (BTreeSet<Key>, Vec<String>) {
        let keys: Vec<Key> = self.book.pages().histories.keys().cloned().collect();
        let nodes = self.endpoints.len();
        let reads = keys.iter().enumerate().flat_map(|(index, key)| {
            let through: Vec<usize> =
                if key.1.starts_with("once/") { vec![index % nodes] } else { (0..nodes).collect() };
            through.into_iter().map(move |node| (key.clone(), node))
        });
        let reads = reads.enumerate().map(|(number, (key, node))| async move {
            let mut client = self.client(node, number);
            let ends = Instant::now() + READABLE;
            loop {
                match client.get(&key).await {
                    Ok(state) => return Ok((key, state.is_some())),
                    Err(_) if Instant::now() < ends => tokio::time::sleep(AGAIN).await,
                    Err(_) => {
                        return Err(format!(
                            "DUR-1: {}/{} could not be read at the end by node {}",
                            key.0,
                            key.1,
                            node + 1
                        ));
                    }
                }
            }
        });
        let reads: Vec<_> = reads.collect();
        let all: Vec<Result<(Key, bool), String>> =
            futures::stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
        let (mut holds, mut unread) = (BTreeSet::new(), Vec::new());
        for read in all {
            match read {
                Ok((key, true)) => drop(holds.insert(key)),
                Ok(_) => {}
                Err(why) => unread.push(why),
            }
        }
        (holds, unread)
    }

    async fn versions(&self, seed: u64) -> Vec<String> {
        let mut versions: Vec<Version> = self.book.pages().versions.clone();
        versions.retain(|version| version.label.is_some());
        versions.shuffle(&mut StdRng::seed_from_u64(seed));
        versions.truncate(VERSIONS_READ);
        let nodes = self.endpoints.len();
        let reads = versions.into_iter().enumerate().map(|(number, version)| async move {
            let mut client = self.client(number % nodes, number);
            let ends = Instant::now() + READABLE;
            loop {
                match client.get_version(&version).await {
                    Ok(()) => return None,
                    Err(_) if Instant::now() < ends => tokio::time::sleep(AGAIN).await,
                    Err(_) => {
                        return Some(format!("DUR-1: version {} of {} could not be read", version.id, version.key.1));
                    }
                }
            }
        });
        let reads: Vec<_> = reads.collect();
        futures::stream::iter(reads).buffer_unordered(AT_ONCE).filter_map(async |unread| unread).collect().await
    }
}

/// Quiet now, so each node lists just the keys that can be read.
async fn listing(endpoints: &Endpoints, holds: &BTreeSet<Key>) -> Result<Verdict, ChaosError> {
    let mut faults = Vec::new();
    for node in 0..endpoints.len() {
        for bucket in [PLAIN, VERSIONED] {
            let listed = keys(endpoints.s3(node), bucket).await?;
            let read: BTreeSet<&str> = holds.iter().filter(|key| key.0 == bucket).map(|key| &*key.1).collect();
            let of = |text: &str| format!("{bucket}/{text}, by node {}", node + 1);
            faults.extend(
                read.iter()
                    .filter(|key| !listed.contains(**key))
                    .map(|key| format!("{} is read and not listed", of(key))),
            );
            faults.extend(
                listed
                    .iter()
                    .filter(|key| !read.contains(&***key))
                    .map(|key| format!("{} is listed and not read", of(key))),
            );
        }
    }
    let must = "when all is quiet each node lists just the keys that can be read";
    let looked = format!("{} keys, listed by each of {} nodes", holds.len(), endpoints.len());
    Ok(Verdict::of("listing (CON-1)", must, faults, looked))
}

async fn keys(s3: &S3, bucket: &str) -> Result<BTreeSet<String>, ChaosError> {
    let (mut all, mut after) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("/{bucket}?list-type=2&start-after={}", escaped(&after));
        let (_, page) = s3.exchange(Method::GET, &path, Bytes::new(), &[]).await?;
        let page = String::from_utf8_lossy(&page).into_owned();
        all.extend(elements(&page, "Key").map(str::to_owned));
        match (elements(&page, "IsTruncated").next(), all.last()) {
            (Some("true"), Some(last)) if *last != after => after = last.clone(),
            _ => return Ok(all),
        }
    }
}

/// What a listing of versions adds up to.
#[derive(Default)]
struct Counted {
    objects: u64,
    bytes: u64,
}

/// Every version that was acknowledged is listed once; besides them only what nobody was told of.
async fn versions(
    endpoints: &Endpoints,
    book: &Book,
) -> Result<(Verdict, BTreeMap<&'static str, Counted>), ChaosError> {
    let mut counted: BTreeMap<&'static str, Counted> = BTreeMap::new();
    let mut listed: BTreeMap<(String, String), usize> = BTreeMap::new();
    for bucket in [PLAIN, VERSIONED] {
        let total = counted.entry(bucket).or_default();
        let mut marker = String::new();
        loop {
            let path = format!("/{bucket}?{marker}versions=");
            let (_, page) = endpoints.s3(0).exchange(Method::GET, &path, Bytes::new(), &[]).await?;
            let page = String::from_utf8_lossy(&page).into_owned();
            let first = |xml: &str, name: &str| elements(xml, name).next().unwrap_or_default().to_owned();
            for (name, is_object) in [("Version", true), ("DeleteMarker", false)] {
                for version in elements(&page, name) {
                    total.objects += u64::from(is_object);
                    total.bytes += first(version, "Size").parse::<u64>().unwrap_or(0);
                    if bucket == VERSIONED {
                        *listed.entry((first(version, "Key"), first(version, "VersionId"))).or_default() += 1;
                    }
                }
            }
            if first(&page, "IsTruncated") != "true" {
                break;
            }
            let (key, id) = (first(&page, "NextKeyMarker"), first(&page, "NextVersionIdMarker"));
            marker = format!("key-marker={}&version-id-marker={}&", escaped(&key), escaped(&id));
        }
    }
    let (acknowledged, histories) = {
        let pages = book.pages();
        (pages.versions.clone(), pages.histories.clone())
    };
    let mut faults = Vec::new();
    for version in &acknowledged {
        let (key, id) = (&version.key.1, &version.id);
        match listed.get(&(key.clone(), id.clone())) {
            Some(1) => {}
            times => faults
                .push(format!("version {id} of {key} was acknowledged and is listed {} times", times.unwrap_or(&0))),
        }
    }
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    acknowledged.iter().for_each(|version| *told.entry(&version.key.1).or_default() += 1);
    let mut there: BTreeMap<&str, usize> = BTreeMap::new();
    listed.keys().for_each(|(key, _)| *there.entry(key).or_default() += 1);
    for (key, count) in there {
        let unknown = histories
            .get(&(VERSIONED, key.to_owned()))
            .map_or(0, |ops| ops.iter().filter(|op| op.ended.is_none() && op.writes.is_some()).count());
        let told = told.get(key).copied().unwrap_or(0);
        if count > told + unknown {
            faults.push(format!("{key} has {count} versions; {told} were acknowledged, and of {unknown} nobody knows"));
        }
    }
    let must = "every acknowledged version and delete marker is listed once, and nothing that nobody wrote";
    let looked = format!("{} versions acknowledged, {} listed", acknowledged.len(), listed.len());
    Ok((Verdict::of("versions (DUR-1, CON-1)", must, faults, looked), counted))
}

/// The counters of the buckets against what the listings add up to.
fn accounting(cluster: &Cluster, counted: &BTreeMap<&'static str, Counted>) -> Verdict {
    let mut faults = Vec::new();
    let mut said = Vec::new();
    for (bucket, Counted { objects, bytes }) in counted {
        let shown = tokio::task::block_in_place(|| cluster.cairn_at(0, &["admin", "bucket", "show", bucket, "--json"]));
        let shown: Value = match shown.map(|text| serde_json::from_str(&text)) {
            Ok(Ok(shown)) => shown,
            Ok(Err(error)) => {
                faults.push(format!("{bucket}: what is shown of it is not as expected: {error}"));
                continue;
            }
            Err(error) => {
                faults.push(format!("{bucket}: {error}"));
                continue;
            }
        };
        if shown["objects"] != *objects || shown["bytes"] != *bytes {
            let (counts, counted) = (&shown["objects"], &shown["bytes"]);
            faults
                .push(format!("{bucket} counts {counts} objects of {counted} bytes; listed are {objects} of {bytes}"));
        }
        said.push(format!("{bucket}: {objects} objects of {bytes} bytes"));
    }
    let must = "the counters of each bucket equal what its versions add up to";
    Verdict::of("accounting", must, faults, said.join("; "))
}

#[cfg(test)]
mod tests;
