//! Export and import, across backends; damaged files change nothing.
#![allow(clippy::unwrap_used)]

mod common;
use std::{
    io::{Cursor, SeekFrom},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use cairn_schema::{
    Meta, MetaError,
    audit::Problem,
    codec::Stored,
    ids::*,
    kv::{
        SharedKv,
        inject::{Fault, Injecting},
    },
    record::{rows::ClusterRow, *},
    verbs::*,
};
use common::*;
use tokio::{
    io::{AsyncRead, AsyncSeek, ReadBuf},
    sync::oneshot,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

async fn filled(meta: &Meta) {
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    meta.set_bucket_document("b", BucketDocument::Cors, Some(b"<x/>".to_vec())).await.unwrap();
    meta.set_bucket_document("b", BucketDocument::Policy, Some(vec![7; 300_000])).await.unwrap();
    meta.put_access_policy("p", "{}").await.unwrap();
    meta.create_user(User::new("u", 1)).await.unwrap();
    meta.create_user_group("g").await.unwrap();
    meta.change_user("u", UserChange::Join("g".into())).await.unwrap();
    let shared = AttachedPolicy { name: "p".into(), text: None };
    meta.change_user_group("g", UserGroupChange::Attach(shared)).await.unwrap();
    meta.create_access_key(access_key("key", "u"), None).await.unwrap();
    let group = group(meta).await;
    for index in 0..1500 {
        meta.commit_object(put(&group, "b", &format!("k{index}"), index % 7)).await.unwrap();
    }
    let mut missing = put(&group, "b", "absent", 9);
    let blob = missing.blob.as_mut().unwrap();
    blob.missing = vec![FragmentName { group: group.id, blob: blob.blob.id, stripe: 0, position: 2 }];
    meta.commit_object(missing).await.unwrap();
    let upload = upload("b", "mp");
    meta.create_upload(upload.clone()).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..40 {
        parts.push(meta.put_part(put_part(&group, &upload, number, 10)).await.unwrap());
    }
    meta.complete_upload(complete(&upload, &parts)).await.unwrap();
    meta.delete_object(delete("b", "k1", VersionSelector::Current)).await.unwrap();
    meta.set_rates(0, RateOverrides { scrub_bytes: Some(64 << 20), ..RateOverrides::default() }).await.unwrap();
    let (id, rack, zone) = ("n9".parse::<NodeId>().unwrap(), "r".to_owned(), "z".to_owned());
    let address = "127.0.0.1:7000".parse().unwrap();
    meta.register_node(Node { id: id.clone(), rack, zone, address }).await.unwrap();
    let window = ClusterMaintenance::default().started(id, 60_000, 5).windows;
    meta.set_maintenance(0, window).await.unwrap();
    meta.lease("l", "h", 5).await.unwrap();
}

async fn exported(meta: &Meta) -> Vec<u8> {
    let mut file = Vec::new();
    let totals = meta.export(&mut file).await.unwrap();
    assert!(totals.rows > 1500);
    file
}

/// Without the time it was made.
fn body(file: &[u8]) -> &[u8] {
    &file[30..]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_moves_from_any_backend_to_any() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        an_export_arrives_and_leaves_again(name, kv).await;
    }
}

pub(crate) async fn an_export_arrives_and_leaves_again(name: &str, kv: SharedKv) {
    let source = Meta::in_memory();
    filled(&source).await;
    let file = exported(&source).await;
    let meta = Meta::new(kv);
    meta.import(&mut Cursor::new(&file)).await.unwrap();
    assert_eq!(meta.cluster(policy()).await.unwrap(), source.cluster(policy()).await.unwrap(), "{name}");
    assert_eq!(meta.rates().await.unwrap(), source.rates().await.unwrap(), "{name}");
    assert_eq!(meta.maintenance().await.unwrap(), source.maintenance().await.unwrap(), "{name}");
    assert_eq!(meta.usage("b").await.unwrap(), source.usage("b").await.unwrap());
    assert_eq!(meta.ledger_len().await.unwrap(), 1);
    let read = meta.locate("b", "mp", VersionSelector::Current, RangeRequest::All).await.unwrap();
    assert_eq!(read.parts.len(), 39);
    let again = exported(&meta).await;
    assert!(body(&again) == body(&file), "{name}");
    let twice = meta.import(&mut Cursor::new(&file)).await;
    assert!(matches!(twice, Err(MetaError::Invalid { what: "metadata store", .. })), "{twice:?}");
}

#[tokio::test]
async fn a_damaged_export_changes_nothing() {
    let source = Meta::in_memory();
    filled(&source).await;
    let file = exported(&source).await;
    let refused = async |file: Vec<u8>| {
        let meta = Meta::in_memory();
        let outcome = meta.import(&mut Cursor::new(&file)).await;
        assert!(matches!(outcome, Err(MetaError::Corrupt { .. })), "{outcome:?}");
        assert!(meta.list_buckets("", None, 10).await.unwrap().is_empty());
        meta.cluster(policy()).await.unwrap();
    };
    for length in [0, 1, 21, 22, 29, 30, 35, file.len() / 2, file.len() - 25, file.len() - 1] {
        refused(file[..length].to_vec()).await;
    }
    for place in [0, 20, 21, 31, 40, file.len() / 3, file.len() - 20, file.len() - 1] {
        let mut damaged = file.clone();
        damaged[place] ^= 0x40;
        refused(damaged).await;
    }
    let mut longer = file.clone();
    longer.push(0);
    refused(longer).await;
}

#[tokio::test]
async fn an_interrupted_import_is_noticed_and_started_again() {
    let source = Meta::in_memory();
    filled(&source).await;
    let file = exported(&source).await;
    let kv = mem_kv();
    let mut commits = 0;
    let failing = Injecting::new(kv.clone(), move || {
        commits += 1;
        if commits > 1 { Fault::UnknownNotApplied } else { Fault::None }
    });
    let failing = Meta::new(Arc::new(failing)).with_deadline(SHORT);
    assert!(failing.import(&mut Cursor::new(&file)).await.is_err());
    let meta = Meta::new(kv);
    let unfinished = meta.cluster(policy()).await;
    assert!(matches!(unfinished, Err(MetaError::Corrupt { what: "metadata store", .. })), "{unfinished:?}");
    assert!(meta.audit().await.unwrap().first_problems.contains(&Problem::Importing));
    meta.import(&mut Cursor::new(&file)).await.unwrap();
    assert!(body(&exported(&meta).await) == body(&file));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_backup_is_made_of_an_empty_store_or_of_an_unfinished_import() {
    let source = Meta::in_memory();
    source.cluster(policy()).await.unwrap();
    let mut file = Vec::new();
    source.export(&mut file).await.unwrap();
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        let meta = Meta::new(kv.clone());
        let empty = meta.export(&mut Vec::new()).await;
        assert!(matches!(empty, Err(MetaError::Invalid { what: "metadata store", .. })), "{name}: {empty:?}");
        assert_eq!(meta.audit().await.unwrap().problems, 0, "{name}");
        // All is written, the end is not.
        let mut commits = 0;
        let failing = Injecting::new(kv, move || {
            commits += 1;
            if commits > 2 { Fault::UnknownNotApplied } else { Fault::None }
        });
        let failing = Meta::new(Arc::new(failing)).with_deadline(SHORT);
        assert!(failing.import(&mut Cursor::new(&file)).await.is_err(), "{name}");
        let unfinished = meta.export(&mut Vec::new()).await;
        assert!(matches!(unfinished, Err(MetaError::Corrupt { what: "metadata store", .. })), "{name}: {unfinished:?}");
        assert_eq!(meta.audit().await.unwrap().first_problems, [Problem::Importing], "{name}");
    }
}

/// An export of these rows, in one block.
fn file_of(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for bytes in rows.iter().flat_map(|(key, value)| [key, value]) {
        block.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        block.extend_from_slice(bytes);
    }
    let mut file = [&b"cairn metadata export"[..], &[1], &[0; 8]].concat();
    let mut checksums = Xxh3::new();
    if !block.is_empty() {
        let checksum = xxh3_64_with_seed(&block, 0).to_be_bytes();
        file.push(1);
        file.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        file.extend_from_slice(&block);
        file.extend_from_slice(&checksum);
        checksums.update(&checksum);
    }
    file.push(2);
    for number in [rows.len() as u64, u64::from(!block.is_empty()), checksums.digest()] {
        file.extend_from_slice(&number.to_be_bytes());
    }
    file
}

#[tokio::test]
async fn a_file_without_a_cluster_is_not_imported() {
    let meta = Meta::in_memory();
    let only_bucket = (b"\x02b".to_vec(), bucket("b", Versioning::Off).encode().to_vec());
    for rows in [vec![], vec![only_bucket.clone()]] {
        let refused = meta.import(&mut Cursor::new(file_of(&rows))).await;
        assert!(
            matches!(&refused, Err(MetaError::Corrupt { why, .. }) if why.contains("no cluster")),
            "{rows:?}: {refused:?}"
        );
    }
    let cluster = ClusterRow { id: ClusterId([8; 16]), created_ms: 3 }.encode().to_vec();
    let whole = file_of(&[(vec![1], cluster), only_bucket]);
    assert_eq!(meta.import(&mut Cursor::new(whole)).await.unwrap().rows, 2);
}

/// A file that is read to its end once, and the second time only to its middle until it is let go.
struct Gated {
    file: Cursor<Vec<u8>>,
    again: bool,
    reached: Option<oneshot::Sender<()>>,
    gate: Option<oneshot::Receiver<()>>,
}

impl Gated {
    /// Also what tells that it is at its middle, and what lets it go.
    fn new(file: &[u8]) -> (Self, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached, at_middle) = oneshot::channel();
        let (let_go, gate) = oneshot::channel();
        let gated = Self { file: Cursor::new(file.to_vec()), again: false, reached: Some(reached), gate: Some(gate) };
        (gated, at_middle, let_go)
    }
}

impl AsyncRead for Gated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.again && self.file.position() > self.file.get_ref().len() as u64 / 2 {
            if let Some(reached) = self.reached.take() {
                reached.send(()).unwrap();
            }
            if let Some(gate) = &mut self.gate {
                std::task::ready!(Pin::new(gate).poll(cx)).unwrap();
                self.gate = None;
            }
        }
        Pin::new(&mut self.file).poll_read(cx, buf)
    }
}

impl AsyncSeek for Gated {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> std::io::Result<()> {
        self.again = matches!(position, SeekFrom::Start(_));
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(cx)
    }
}

#[tokio::test]
async fn of_two_imports_at_once_only_the_later_goes_on() {
    let mut files = Vec::new();
    for _ in 0..2 {
        let source = Meta::in_memory();
        source.cluster(policy()).await.unwrap();
        for name in ["a", "b", "c", "d"] {
            source.create_bucket(bucket(name, Versioning::Off)).await.unwrap();
            let document = vec![rand::random(); 1 << 20];
            source.set_bucket_document(name, BucketDocument::Policy, Some(document)).await.unwrap();
        }
        let mut file = Vec::new();
        source.export(&mut file).await.unwrap();
        files.push(file);
    }
    // The second one ends before the first goes on, or after it.
    for second_waits in [false, true] {
        let kv = mem_kv();
        let begun = |file: &[u8]| {
            let (mut file, at_middle, let_go) = Gated::new(file);
            let meta = Meta::new(kv.clone());
            (tokio::spawn(async move { meta.import(&mut file).await }), at_middle, let_go)
        };
        let (first, at_middle, first_goes) = begun(&files[0]);
        at_middle.await.unwrap();
        let (mut second, at_middle, second_goes) = begun(&files[1]);
        at_middle.await.unwrap();
        let mut second_goes = Some(second_goes);
        if !second_waits {
            second_goes.take().unwrap().send(()).unwrap();
            (&mut second).await.unwrap().unwrap();
        }
        first_goes.send(()).unwrap();
        let overtaken = first.await.unwrap();
        let says = |why: &str| why.contains("another import");
        assert!(matches!(&overtaken, Err(MetaError::Invalid { why, .. }) if says(why)), "{overtaken:?}");
        if let Some(second_goes) = second_goes {
            second_goes.send(()).unwrap();
            second.await.unwrap().unwrap();
        }
        let mut again = Vec::new();
        Meta::new(kv).export(&mut again).await.unwrap();
        assert!(body(&again) == body(&files[1]), "{second_waits}");
    }
}

#[tokio::test]
async fn an_import_whose_end_is_unknown_is_tried_again() {
    let source = Meta::in_memory();
    source.cluster(policy()).await.unwrap();
    let mut file = Vec::new();
    source.export(&mut file).await.unwrap();
    for fault in [Fault::UnknownApplied, Fault::UnknownNotApplied, Fault::Conflict] {
        for at in 1..=3 {
            let mut commits = 0;
            let faulty = Injecting::new(mem_kv(), move || {
                commits += 1;
                if commits == at { fault } else { Fault::None }
            });
            let meta = Meta::new(Arc::new(faulty));
            meta.import(&mut Cursor::new(&file)).await.unwrap();
            let mut again = Vec::new();
            meta.export(&mut again).await.unwrap();
            assert!(body(&again) == body(&file), "{fault:?} at {at}");
        }
    }
}
