//! How often a store elsewhere is asked for one request: each time costs a way there and back, and the store's time.
#![allow(clippy::unwrap_used)]

mod common;
use std::sync::Arc;

use cairn_schema::{
    Meta,
    kv::{SharedKv, inject::Injecting},
    record::*,
    verbs::*,
};
use common::*;

#[tokio::test]
async fn each_request_asks_the_store_no_oftener_than_it_must() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        exchanges_are_few(name, kv).await;
    }
}

/// Fewer are better: then the bounds here go down.
pub(crate) async fn exchanges_are_few(name: &str, kv: SharedKv) {
    let counted = Arc::new(Injecting::script(kv, []));
    let meta = Meta::new(counted.clone());
    meta.cluster(policy()).await.unwrap();
    let group = group(&meta).await;
    for (bucket_name, quota, told) in [("plain", None, false), ("bounded", Some(1 << 40), false), ("told", None, true)]
    {
        meta.create_bucket(bucket(bucket_name, Versioning::Off)).await.unwrap();
        if quota.is_some() {
            meta.set_quota(bucket_name, Quota { bytes: quota, objects: None }).await.unwrap();
            meta.commit_object(put(&group, bucket_name, "first", 5)).await.unwrap();
        }
        let rules = EventRule {
            id: "r".into(),
            target: "t".into(),
            kinds: vec![EventKind::CreatedByPut],
            prefix: String::new(),
            suffix: String::new(),
        };
        if told {
            meta.set_notifications(bucket_name, Some(b"<x/>".to_vec()), vec![rules], None).await.unwrap();
        }
        let put = |size| {
            let mut put = put(&group, bucket_name, "k", size);
            put.blob.as_mut().unwrap().policy = Some(1);
            put
        };
        // The version that is read at, one read of all rows that are known beforehand, the commit.
        let made = asked(&counted, meta.commit_object(put(5))).await;
        // That no policy is looked at makes it no cheaper.
        let mut by_none = put(5);
        by_none.key = "by none".into();
        by_none.blob.as_mut().unwrap().policy = None;
        assert_eq!(asked(&counted, meta.commit_object(by_none)).await, made, "{name}, {bucket_name}");
        // Also the version that goes, then what else has its blob.
        let replaced = asked(&counted, meta.commit_object(put(6))).await;
        let current = VersionSelector::Current;
        let read = asked(&counted, meta.locate(bucket_name, "k", current, RangeRequest::All)).await;
        let looked_at = asked(&counted, meta.locate(bucket_name, "k", current, RangeRequest::Nothing)).await;
        let query = ListQuery { bucket: bucket_name.into(), limit: 1000, ..ListQuery::default() };
        let listed = asked(&counted, meta.list_objects(&query)).await;
        let deleted = asked(&counted, meta.delete_object(delete(bucket_name, "k", current))).await;
        let all = [made, replaced, read, looked_at, listed, deleted];
        println!("{name}, {bucket_name}: {all:?}");
        // A quota has counters read, and so have events.
        let wanted = match bucket_name {
            "bounded" => [4, 6, 2, 2, 3, 5],
            "told" => [4, 6, 2, 2, 3, 5],
            _ => [3, 5, 2, 2, 3, 5],
        };
        assert_eq!(all, wanted, "{name}, {bucket_name}: made, replaced, read, looked at, listed, deleted");
    }
}

async fn asked<T: std::fmt::Debug>(counted: &Injecting, verb: Verb<'_, T>) -> usize {
    let before = counted.reads().exchanges;
    verb.await.unwrap();
    counted.reads().exchanges - before
}
