//! What lifecycles end: just what was judged.
#![allow(clippy::unwrap_used)]

mod common;
use cairn_schema::{Meta, ids::*, kv::SharedKv, record::*, verbs::*};
use common::*;

async fn end(meta: &Meta, version: &Version, ending: Ending) -> bool {
    let (bucket, key, version) = ("b".to_owned(), "k".to_owned(), version.clone());
    meta.end_version(EndVersion { attempt: AttemptId::random(), bucket, key, version, ending }).await.unwrap()
}

async fn versions(meta: &Meta) -> Vec<Version> {
    let query = ListVersionsQuery { bucket: "b".into(), limit: 100, ..Default::default() };
    let entries = meta.list_versions(&query).await.unwrap().entries.into_iter();
    let version = |entry| match entry {
        ListVersionsEntry::Version { version, .. } => version,
        ListVersionsEntry::CommonPrefix(_) => unreachable!(),
    };
    entries.map(version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_ends_only_as_it_was_judged() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_version_ends_as_it_was_judged(name, kv).await;
    }
}

pub(crate) async fn a_version_ends_as_it_was_judged(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    let group = group(&meta).await;
    let first = meta.commit_object(put(&group, "b", "k", 5)).await.unwrap().version;
    let second = meta.commit_object(put(&group, "b", "k", 6)).await.unwrap().version;
    assert!(!end(&meta, &first, Ending::Current).await, "{name}: it is not current any more");
    assert!(!end(&meta, &second, Ending::Noncurrent).await, "{name}: it is current");
    assert!(!end(&meta, &second, Ending::LoneMarker).await, "{name}: it is an object");
    meta.set_tags("b", "k", VersionSelector::Id(first.id), vec![("t".into(), "1".into())], Cause::default())
        .await
        .unwrap();
    assert!(!end(&meta, &first, Ending::Noncurrent).await, "{name}: it has other tags now");
    assert_eq!(versions(&meta).await.len(), 2, "{name}");

    assert!(end(&meta, &second, Ending::Current).await, "{name}");
    let [marker, _, tagged] = &versions(&meta).await[..] else { panic!("{name}: a marker and two objects") };
    assert_eq!(marker.kind, VersionKind::DeleteMarker, "{name}");
    assert!(!end(&meta, marker, Ending::LoneMarker).await, "{name}: it hides something");
    assert!(end(&meta, tagged, Ending::Noncurrent).await, "{name}");
    assert!(end(&meta, &second, Ending::Noncurrent).await, "{name}");
    assert!(end(&meta, marker, Ending::LoneMarker).await, "{name}");
    assert!(!end(&meta, marker, Ending::LoneMarker).await, "{name}: it is gone");
    assert_eq!(versions(&meta).await, [], "{name}");
    audited(&meta, name).await;
}
