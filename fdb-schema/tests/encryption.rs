//! Versions whose blobs are sealed: lengths, copies, and keys that are wrapped again.
#![allow(clippy::unwrap_used)]

mod common;
use cairn_schema::{Meta, MetaError, ids::*, kv::SharedKv, record::*, verbs::*};
use common::*;

/// An object of 100,000 bytes that are sealed.
fn sealed(group: &Group, key: &str) -> CommitObject {
    let size = 100_000;
    let stored = sealed_length(size).unwrap();
    let version = NewVersion { encryption: Some(encryption(1)), ..new_version(size) };
    CommitObject { version, blob: Some(blob(group, stored)), ..put(group, "b", key, 1) }
}

async fn world(kv: SharedKv) -> (Meta, Group) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    (meta, group)
}

async fn kept(meta: &Meta, key: &str) -> Option<Encryption> {
    meta.locate("b", key, VersionSelector::Current, RangeRequest::All).await.unwrap().version.encryption
}

#[tokio::test]
async fn lengths_are_those_of_what_was_sealed() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        lengths_of_what_is_sealed(name, kv).await;
    }
}

pub(crate) async fn lengths_of_what_is_sealed(name: &str, kv: SharedKv) {
    let (meta, group) = world(kv).await;
    meta.commit_object(sealed(&group, "k")).await.unwrap();
    let located = meta.locate("b", "k", VersionSelector::Current, RangeRequest::Suffix(10)).await.unwrap();
    assert_eq!((located.range, located.version.size), (99_990..100_000, 100_000));
    assert_eq!((located.parts[0].length, located.parts[0].slices[0].length), (100_000, 100_000));
    assert_eq!(meta.usage("b").await.unwrap().bytes, 100_000);
    // A blob of another length is not of these bytes.
    for stored in [100_000, 100_016, 100_048] {
        let wrong = CommitObject { blob: Some(blob(&group, stored)), ..sealed(&group, "wrong") };
        let refused = meta.commit_object(wrong).await;
        assert!(matches!(refused, Err(MetaError::Invalid { what: "blob", .. })), "{stored}: {refused:?}");
    }
    let upload = Upload { encryption: Some(encryption(1)), ..upload("b", "mp") };
    meta.create_upload(upload.clone()).await.unwrap();
    let part = |stored| PutPart { blob: Some(blob(&group, stored)), ..put_part(&group, &upload, 1, 10) };
    assert!(matches!(meta.put_part(part(10)).await, Err(MetaError::Invalid { .. })));
    let part = meta.put_part(part(26)).await.unwrap();
    let done = meta.complete_upload(complete(&upload, &[part])).await.unwrap();
    assert_eq!((done.version.size, done.version.encryption), (10, Some(encryption(1))));
    audited(&meta, name).await;
}

#[tokio::test]
async fn copies_share_what_was_looked_at_and_take_its_key_along() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        copies_take_keys_along(name, kv).await;
    }
}

pub(crate) async fn copies_take_keys_along(name: &str, kv: SharedKv) {
    let (meta, group) = world(kv).await;
    meta.commit_object(sealed(&group, "k")).await.unwrap();
    let copied = |encryption| CopyObject { encryption, ..copy(("b", "k"), ("b", "copy")) };
    for other in [None, Some(encryption(2))] {
        assert_eq!(meta.copy_object(copied(other)).await, Err(MetaError::Stale("copy source")));
    }
    let attributes = Some(Attributes { content_type: Some("a/b".into()), ..Attributes::default() });
    let replaced = CopyObject { attributes, ..copied(Some(encryption(1))) };
    meta.copy_object(replaced).await.unwrap();
    assert_eq!(kept(&meta, "copy").await, Some(encryption(1)));
    // Parts of what is sealed, and for what is to be, are not shared: keys of blobs are of one version.
    let plain = upload("b", "plain");
    let secret = Upload { encryption: Some(encryption(1)), ..upload("b", "secret") };
    meta.commit_object(put(&group, "b", "open", 10)).await.unwrap();
    for (from, to) in [("k", &plain), ("open", &secret), ("k", &secret)] {
        meta.create_upload(to.clone()).await.unwrap();
        let request = copy_part(&meta, ("b", from), RangeRequest::All, to, 1).await;
        assert_eq!(meta.copy_part(request).await, Err(MetaError::Stale("copy source")), "{from}");
    }
    audited(&meta, name).await;
}

#[tokio::test]
async fn a_key_is_wrapped_again_only_where_it_is_what_it_was() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        keys_are_wrapped_again(name, kv).await;
    }
}

pub(crate) async fn keys_are_wrapped_again(name: &str, kv: SharedKv) {
    let (meta, group) = world(kv).await;
    let version = meta.commit_object(sealed(&group, "k")).await.unwrap().version;
    let begun = Upload { encryption: Some(encryption(1)), ..upload("b", "mp") };
    meta.create_upload(begun.clone()).await.unwrap();
    let rewrap = |key: &str, of, was, now| Rewrap {
        bucket: "b".into(),
        key: key.into(),
        of,
        was: encryption(was),
        now: encryption(now),
    };
    let of = RewrapOf::Version(version.id);
    assert!(meta.rewrap(rewrap("k", of, 1, 2)).await.unwrap());
    assert_eq!(kept(&meta, "k").await, Some(encryption(2)));
    assert!(meta.rewrap(rewrap("k", of, 1, 2)).await.unwrap(), "it is so already");
    assert!(!meta.rewrap(rewrap("k", of, 1, 3)).await.unwrap());
    assert!(!meta.rewrap(rewrap("other", of, 2, 3)).await.unwrap());
    meta.commit_object(put(&group, "b", "open", 10)).await.unwrap();
    assert!(!meta.rewrap(rewrap("open", RewrapOf::Version(VersionId::NULL), 1, 2)).await.unwrap());
    assert_eq!(kept(&meta, "open").await, None);
    let of = RewrapOf::Upload(begun.id);
    assert!(meta.rewrap(rewrap("mp", of, 1, 2)).await.unwrap());
    assert_eq!(meta.upload("b", "mp", begun.id).await.unwrap().encryption, Some(encryption(2)));
    meta.abort_upload("b", "mp", begun.id).await.unwrap();
    assert!(!meta.rewrap(rewrap("mp", of, 2, 3)).await.unwrap());
    audited(&meta, name).await;
}
