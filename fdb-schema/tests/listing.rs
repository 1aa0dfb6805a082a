//! Listings against a model: sorted keys, listed one by one.
#![allow(clippy::unwrap_used)]

mod common;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cairn_schema::{Meta, ids::*, kv::inject::Injecting, record::*, verbs::*};
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Key(String),
    Common(String),
}

fn common_prefix(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter?;
    let at = key[prefix.len()..].find(delimiter)?;
    Some(key[..prefix.len() + at + delimiter.len()].to_owned())
}

/// What should be listed, without limits.
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>, after: Option<&str>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let (name, entry) = match common_prefix(key, prefix, delimiter) {
            Some(common) => (common.clone(), Entry::Common(common)),
            None => (key.clone(), Entry::Key(key.clone())),
        };
        if after.is_none_or(|after| &*name > after) && entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
    entries
}

fn key() -> impl Strategy<Value = String> {
    // Few letters, so that prefixes are shared; with those that need escaping or sort oddly.
    proptest::collection::vec(
        proptest::sample::select(vec!["a", "b", "/", "//", "\0", "\u{1}", "é", "\u{10ffff}", "-"]),
        1..6,
    )
    .prop_map(|parts| parts.concat())
}

fn prefix() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), key(), Just("a".into()), Just("a/".into())]
}

fn delimiter() -> impl Strategy<Value = Option<String>> {
    prop_oneof![Just(None), Just(Some("/".to_owned())), Just(Some("//".to_owned())), Just(Some("a".to_owned()))]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn filled(keys: &BTreeMap<String, bool>, versioning: Versioning) -> Meta {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", versioning)).await.unwrap();
    meta.create_bucket(bucket("b0", versioning)).await.unwrap();
    let group = group(&meta).await;
    meta.commit_object(put(&group, "b0", "neighbour", 0)).await.unwrap();
    for (key, deleted) in keys {
        meta.commit_object(put(&group, "b", key, 0)).await.unwrap();
        if *deleted {
            meta.delete_object(delete("b", key, VersionSelector::Current)).await.unwrap();
        }
    }
    meta
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn objects_are_listed_as_a_sorted_set_would_be(
        keys in proptest::collection::btree_map(key(), proptest::bool::weighted(0.2), 0..40),
        versioned in any::<bool>(),
        queries in proptest::collection::vec((prefix(), delimiter(), proptest::option::of(key()), 1usize..6), 1..6),
    ) {
        runtime().block_on(async {
            let versioning = if versioned { Versioning::Enabled } else { Versioning::Off };
            let meta = filled(&keys, versioning).await;
            let live: BTreeSet<String> = keys.iter().filter(|(_, deleted)| !**deleted).map(|(k, _)| k.clone()).collect();
            for (prefix, delimiter, after, limit) in queries {
                let wanted = model(&live, &prefix, delimiter.as_deref(), after.as_deref());
                let mut query = ListQuery { bucket: "b".into(), prefix, delimiter, after, limit };
                let mut found = Vec::new();
                loop {
                    let page = meta.list_objects(&query).await.unwrap();
                    assert!(page.entries.len() <= limit);
                    found.extend(page.entries.into_iter().map(|entry| match entry {
                        ListEntry::Object(object) => Entry::Key(object.key),
                        ListEntry::CommonPrefix(prefix) => Entry::Common(prefix),
                    }));
                    match page.next {
                        Some(next) => query.after = Some(next),
                        None => break,
                    }
                }
                assert_eq!(found, wanted, "{query:?}");
            }
        });
    }

    #[test]
    fn versions_are_listed_newest_first_page_by_page(
        writes in proptest::collection::vec((key(), 0u8..4), 0..40),
        (prefix, delimiter, limit) in (prefix(), delimiter(), 1usize..5),
    ) {
        runtime().block_on(async {
            let meta = Meta::in_memory();
            meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
            let group = group(&meta).await;
            // Newest first: the id, whether it is a delete marker.
            let mut model: BTreeMap<String, Vec<(VersionId, bool)>> = BTreeMap::new();
            for (key, action) in writes {
                let versioning = if action == 3 { Versioning::Suspended } else { Versioning::Enabled };
                meta.set_versioning("b", versioning).await.unwrap();
                let (id, marker) = if action == 1 {
                    let made = meta.delete_object(delete("b", &key, VersionSelector::Current)).await.unwrap();
                    (made.version.unwrap(), true)
                } else {
                    (meta.commit_object(put(&group, "b", &key, 0)).await.unwrap().version.id, false)
                };
                let versions = model.entry(key).or_default();
                if id.is_null() {
                    versions.retain(|(id, _)| !id.is_null());
                }
                versions.insert(0, (id, marker));
            }
            type Listed = (String, Option<(VersionId, bool, bool)>);
            let mut wanted: Vec<Listed> = Vec::new();
            for (key, versions) in model.iter().filter(|(key, _)| key.starts_with(&prefix)) {
                if let Some(common) = common_prefix(key, &prefix, delimiter.as_deref()) {
                    if wanted.last().is_none_or(|last| *last != (common.clone(), None)) {
                        wanted.push((common, None));
                    }
                    continue;
                }
                for (index, (id, marker)) in versions.iter().enumerate() {
                    wanted.push((key.clone(), Some((*id, *marker, index == 0))));
                }
            }
            let mut query = ListVersionsQuery { bucket: "b".into(), prefix, delimiter, limit, ..Default::default() };
            let mut found = Vec::new();
            loop {
                let page = meta.list_versions(&query).await.unwrap();
                assert!(page.entries.len() <= limit);
                found.extend(page.entries.into_iter().map(|entry| match entry {
                    ListVersionsEntry::Version { key, version, latest } => {
                        (key, Some((version.id, version.kind == VersionKind::DeleteMarker, latest)))
                    }
                    ListVersionsEntry::CommonPrefix(common) => (common, None),
                }));
                match page.next {
                    Some((key, version)) => (query.key_marker, query.version_marker) = (Some(key), version),
                    None => break,
                }
            }
            assert_eq!(found, wanted);
        });
    }

    #[test]
    fn uploads_are_listed_by_key_and_id(
        keys in proptest::collection::vec(key(), 0..20),
        (prefix, delimiter, limit) in (prefix(), delimiter(), 1usize..4),
    ) {
        runtime().block_on(async {
            let meta = Meta::in_memory();
            meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
            let mut model = BTreeSet::new();
            for key in keys {
                let upload = upload("b", &key);
                meta.create_upload(upload.clone()).await.unwrap();
                model.insert((key, upload.id));
            }
            let (mut uploads, mut commons) = (Vec::new(), BTreeSet::new());
            for (key, id) in model.into_iter().filter(|(key, _)| key.starts_with(&prefix)) {
                match common_prefix(&key, &prefix, delimiter.as_deref()) {
                    Some(common) => { commons.insert(common); }
                    None => uploads.push((key, id)),
                }
            }
            let mut query = ListUploadsQuery { bucket: "b".into(), prefix, delimiter, limit, ..Default::default() };
            let (mut found, mut found_commons) = (Vec::new(), Vec::new());
            loop {
                let page = meta.list_uploads(&query).await.unwrap();
                assert!(page.uploads.len() + page.common_prefixes.len() <= limit);
                found.extend(page.uploads.into_iter().map(|upload| (upload.key, upload.id)));
                found_commons.extend(page.common_prefixes);
                match page.next {
                    Some((key, id)) => (query.key_marker, query.upload_marker) = (Some(key), id),
                    None => break,
                }
            }
            assert_eq!(found, uploads);
            assert_eq!(found_commons, commons.into_iter().collect::<Vec<_>>());
        });
    }
}

#[tokio::test]
async fn buckets_are_listed_by_name() {
    let meta = Meta::in_memory();
    for name in ["b", "a", "ab", "abc", "c"] {
        meta.create_bucket(bucket(name, Versioning::Off)).await.unwrap();
    }
    let names = async |prefix, after, limit| -> Vec<String> {
        let found = meta.list_buckets(prefix, after, limit).await.unwrap();
        found.into_iter().map(|bucket| bucket.name).collect()
    };
    assert_eq!(names("", None, 10).await, ["a", "ab", "abc", "b", "c"]);
    assert_eq!(names("a", Some("a"), 10).await, ["ab", "abc"]);
    assert_eq!(names("", Some("ab"), 2).await, ["abc", "b"]);
    assert_eq!(names("b", Some("c"), 2).await, Vec::<String>::new());
}

/// The reads that a page takes grow with what is on it, not with the keys below its common prefixes.
#[tokio::test]
async fn a_delimiter_jumps_over_what_it_hides() {
    let mut taken = Vec::new();
    for below in [50usize, 1500] {
        let kv = mem_kv();
        let meta = Meta::new(kv.clone());
        meta.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
        let group = group(&meta).await;
        for directory in 0..6 {
            for file in 0..below {
                let key = format!("d{directory}/{file:05}");
                meta.commit_object(put(&group, "b", &key, 0)).await.unwrap();
                meta.create_upload(upload("b", &key)).await.unwrap();
            }
        }
        meta.commit_object(put(&group, "b", "z", 0)).await.unwrap();
        let watched = Arc::new(Injecting::script(kv, []));
        let meta = Meta::new(watched.clone());
        let delimiter = Some("/".to_owned());
        let mut reads = Vec::new();
        let mut before = watched.reads();
        let mut measured = |what: &str, entries: usize| {
            let now = watched.reads();
            assert_eq!(entries, if what == "uploads" { 6 } else { 7 }, "{what}");
            reads.push((now.gets - before.gets, now.ranges - before.ranges, now.rows - before.rows));
            before = now;
        };
        let query = ListQuery { bucket: "b".into(), delimiter: delimiter.clone(), limit: 1000, ..Default::default() };
        measured("objects", meta.list_objects(&query).await.unwrap().entries.len());
        let query =
            ListVersionsQuery { bucket: "b".into(), delimiter: delimiter.clone(), limit: 1000, ..Default::default() };
        measured("versions", meta.list_versions(&query).await.unwrap().entries.len());
        let query = ListUploadsQuery { bucket: "b".into(), delimiter, limit: 1000, ..Default::default() };
        measured("uploads", meta.list_uploads(&query).await.unwrap().common_prefixes.len());
        // In pages of one entry each.
        let mut query = ListVersionsQuery { limit: 1, delimiter: Some("/".into()), ..query_of("b") };
        let mut entries = 0;
        loop {
            let page = meta.list_versions(&query).await.unwrap();
            entries += page.entries.len();
            match page.next {
                Some((key, version)) => (query.key_marker, query.version_marker) = (Some(key), version),
                None => break,
            }
        }
        measured("versions in pages", entries);
        println!("{below} keys below each prefix: (gets, ranges, rows) {reads:?}");
        assert!(reads.iter().all(|(gets, ranges, rows)| *gets < 50 && *ranges < 30 && *rows < 500), "{reads:?}");
        taken.push(reads);
    }
    // Thirty times the keys, and at most what one page more would take.
    for (few, many) in taken[0].iter().zip(&taken[1]) {
        assert!(many.2 <= few.2 + 64 && many.1 <= few.1 + 1, "{taken:?}");
    }
}

fn query_of(bucket: &str) -> ListVersionsQuery {
    ListVersionsQuery { bucket: bucket.into(), ..Default::default() }
}

#[tokio::test]
async fn bnd_1_a_page_of_versions_with_very_much_metadata_ends_early() {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    let group = group(&meta).await;
    let mut made = Vec::new();
    for index in 0..300 {
        let mut request = put(&group, "b", &format!("k{:03}", index / 3), 1);
        request.version.attributes.user_metadata = vec![("n".into(), "v".repeat(80_000))];
        made.push(meta.commit_object(request).await.unwrap().version.id);
    }
    let mut query = ListVersionsQuery { bucket: "b".into(), limit: 1000, ..ListVersionsQuery::default() };
    let (mut pages, mut listed) = (0, Vec::new());
    loop {
        let page = meta.list_versions(&query).await.unwrap();
        assert!(page.entries.len() <= 110, "{} at once", page.entries.len());
        for entry in page.entries {
            if let ListVersionsEntry::Version { version, .. } = entry {
                listed.push(version.id);
            }
        }
        pages += 1;
        let Some((key, version)) = page.next else { break };
        (query.key_marker, query.version_marker) = (Some(key), version);
    }
    assert_eq!(pages, 3);
    // Of each key the newest first.
    made.chunks_mut(3).for_each(<[VersionId]>::reverse);
    assert!(listed == made);
}
