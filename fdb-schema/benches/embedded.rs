//! Figures of the embedded store: commits a second at 1, 16 and 256 writers, and what else it prints.
//! `cargo bench --ignore-rust-version -p cairn-schema --bench embedded`
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{sync::Arc, time::Instant};

use cairn_schema::{
    Meta,
    kv::embedded::{self, EmbeddedOptions},
    record::*,
    verbs::*,
};
use common::*;
use futures::{StreamExt, stream};

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(embedded::open(directory.path(), EmbeddedOptions::default()).unwrap());
    let meta = Meta::new(store.clone());
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let mut made = 0;
    for (writers, puts) in [(1, 300), (16, 3000), (256, 20_000)] {
        let before = store.stats();
        let started = Instant::now();
        let requests = (0..puts).map(|index| put(&group, "b", &format!("{:02}/k{:06}", index % 50, made + index), 5));
        let commits = requests.map(|request| {
            let meta = meta.clone();
            async move { tokio::spawn(async move { meta.commit_object(request).await }).await.unwrap().unwrap() }
        });
        stream::iter(commits).buffer_unordered(writers).for_each(|_| async {}).await;
        made += puts;
        let (after, took) = (store.stats(), started.elapsed());
        let commits = after.commits - before.commits;
        let each = commits as f64 / (after.syncs - before.syncs) as f64;
        println!("{writers} writers: {:.0} commits/s, {each:.1} a sync", commits as f64 / took.as_secs_f64());
    }
    let started = Instant::now();
    for index in 0..5000 {
        let key = format!("{:02}/k{index:06}", index % 50);
        let _ = meta.locate("b", &key, VersionSelector::Current, RangeRequest::All).await;
    }
    println!("{:.0} locates/s, one at a time", 5000.0 / started.elapsed().as_secs_f64());
    for delimiter in [None, Some("/".to_owned())] {
        let started = Instant::now();
        let mut query = ListQuery { bucket: "b".into(), limit: 1000, delimiter, ..Default::default() };
        let mut entries = 0;
        loop {
            let page = meta.list_objects(&query).await.unwrap();
            entries += page.entries.len();
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        println!("list of {made} keys, delimiter {:?}: {entries} entries in {:?}", query.delimiter, started.elapsed());
    }
    let deletes =
        (0..1000).map(|index| delete("b", &format!("{:02}/k{index:06}", index % 50), VersionSelector::Current));
    let started = Instant::now();
    assert!(meta.delete_objects(deletes.collect()).await.iter().all(Result::is_ok));
    println!("delete of 1000 keys: {:?}", started.elapsed());
}
