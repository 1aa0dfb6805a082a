//! Users, groups, policies and access keys: what refers to what, and what is refused.
#![allow(clippy::unwrap_used)]

mod common;

use cairn_schema::{Meta, MetaError, kv::SharedKv, record::*, verbs::*};
use common::*;

fn shared(name: &str) -> AttachedPolicy {
    AttachedPolicy { name: name.into(), text: None }
}

fn own(name: &str, text: &str) -> AttachedPolicy {
    AttachedPolicy { name: name.into(), text: Some(text.into()) }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, MetaError>, words: &str) {
    let why = outcome.unwrap_err().to_string();
    assert!(why.contains(words), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_all_that_a_key_is_allowed_by_on_every_backend() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_grant_has_every_policy(name, kv).await;
    }
}

pub(crate) async fn a_grant_has_every_policy(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    assert_eq!(meta.grant("key").await.unwrap(), None, "{name}");
    meta.create_user(User::new("alice", 1)).await.unwrap();
    meta.put_access_policy("p", "1").await.unwrap();
    meta.put_access_policy("q", "2").await.unwrap();
    for group in ["one", "two"] {
        meta.create_user_group(group).await.unwrap();
        meta.change_user("alice", UserChange::Join(group.into())).await.unwrap();
    }
    meta.change_user("alice", UserChange::Attach(own("mine", "3"))).await.unwrap();
    meta.change_user("alice", UserChange::Attach(shared("q"))).await.unwrap();
    meta.change_user_group("one", UserGroupChange::Attach(shared("p"))).await.unwrap();
    meta.change_user_group("two", UserGroupChange::Attach(own("theirs", "4"))).await.unwrap();
    let key = AccessKey { session_policy: Some("5".into()), ..access_key("key", "alice") };
    meta.create_access_key(key.clone(), None).await.unwrap();

    let grant = meta.grant("key").await.unwrap().unwrap();
    let texts: Vec<_> = grant.policies.iter().map(|found| (found.group.as_deref(), found.text.as_str())).collect();
    assert_eq!(texts, [(None, "3"), (None, "2"), (Some("one"), "1"), (Some("two"), "4")], "{name}");
    assert_eq!((grant.key, grant.user.access_keys), (key, vec!["key".to_owned()]), "{name}");

    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let named = meta.named_policies(&names(&["q", "none"]), &names(&["two", "none", "one"])).await.unwrap();
    let texts: Vec<_> = named.granted.iter().map(|found| (found.group.as_deref(), found.text.as_str())).collect();
    assert_eq!(texts, [(None, "2"), (Some("two"), "4"), (Some("one"), "1")], "{name}");
    assert_eq!((named.policies, named.groups), (names(&["q"]), names(&["two", "one"])), "{name}");
    assert_eq!(meta.named_policies(&[], &[]).await.unwrap(), NamedPolicies::default(), "{name}");

    meta.put_access_policy("p", "6").await.unwrap();
    meta.change_user("alice", UserChange::Leave("two".into())).await.unwrap();
    meta.change_user("alice", UserChange::Detach("q".into())).await.unwrap();
    meta.change_user("alice", UserChange::Attach(own("mine", "7"))).await.unwrap();
    meta.change_user("alice", UserChange::Enable(false)).await.unwrap();
    let grant = meta.grant("key").await.unwrap().unwrap();
    let texts: Vec<_> = grant.policies.iter().map(|found| found.text.as_str()).collect();
    assert_eq!((texts, grant.user.enabled), (vec!["7", "6"], false), "{name}");
    audited(&meta, name).await;
}

#[tokio::test]
async fn what_is_used_is_not_deleted() {
    let meta = Meta::in_memory();
    meta.create_user(User::new("u", 1)).await.unwrap();
    meta.create_user_group("g").await.unwrap();
    meta.put_access_policy("p", "{}").await.unwrap();
    meta.change_user("u", UserChange::Join("g".into())).await.unwrap();
    meta.change_user("u", UserChange::Attach(shared("p"))).await.unwrap();
    meta.create_access_key(access_key("key", "u"), None).await.unwrap();
    refused(meta.delete_user("u").await, "still used by access key key: delete its keys first");
    refused(meta.delete_user_group("g").await, "still used by user u, who is in it");
    refused(meta.delete_access_policy("p").await, "still used by user u: detach it first");
    meta.change_user_group("g", UserGroupChange::Attach(shared("p"))).await.unwrap();
    meta.delete_access_key("key").await.unwrap();
    meta.delete_user("u").await.unwrap();
    refused(meta.delete_access_policy("p").await, "user group g");
    meta.delete_user_group("g").await.unwrap();
    meta.delete_access_policy("p").await.unwrap();
    audited(&meta, "all gone").await;
    for gone in [
        meta.delete_user("u").await,
        meta.delete_user_group("g").await,
        meta.delete_access_policy("p").await,
        meta.delete_access_key("key").await,
        meta.change_user("u", UserChange::Enable(true)).await,
        meta.change_access_key("key", AccessKeyChange::Enable(true)).await,
        meta.create_access_key(access_key("key", "u"), None).await,
    ] {
        refused(gone, "does not exist");
    }
}

#[tokio::test]
async fn bnd_1_users_keys_and_policies_are_bounded_and_named_alike() {
    let meta = Meta::in_memory();
    for name in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
        refused(meta.create_user(User::new(name, 1)).await, "user name");
        refused(meta.create_user_group(name).await, "group name");
        refused(meta.put_access_policy(name, "{}").await, "policy name");
    }
    meta.create_user(User::new("u", 1)).await.unwrap();
    refused(meta.create_user(User::new("u", 2)).await, "exists already");
    refused(meta.put_access_policy("p", "").await, "empty");
    refused(meta.put_access_policy("p", &"x".repeat(ACCESS_POLICY_MAX_BYTES + 1)).await, "over its limit");
    refused(meta.change_user("u", UserChange::Attach(shared("p"))).await, "does not exist");
    refused(meta.change_user("u", UserChange::Detach("p".into())).await, "does not exist");
    refused(meta.change_user("u", UserChange::Join("g".into())).await, "does not exist");
    let half = "x".repeat(ACCESS_POLICY_MAX_BYTES / 2 + 1);
    meta.change_user("u", UserChange::Attach(own("a", &half))).await.unwrap();
    refused(meta.change_user("u", UserChange::Attach(own("b", &half))).await, "length of own policies");
    for number in 1..MAX_ATTACHED {
        meta.change_user("u", UserChange::Attach(own(&format!("p{number}"), "{}"))).await.unwrap();
    }
    refused(meta.change_user("u", UserChange::Attach(own("one", "{}"))).await, "number of attached policies");
    for number in 0..MAX_GROUPS {
        meta.create_user_group(&format!("g{number}")).await.unwrap();
        meta.change_user("u", UserChange::Join(format!("g{number}"))).await.unwrap();
    }
    meta.create_user_group("g").await.unwrap();
    refused(meta.change_user("u", UserChange::Join("g".into())).await, "number of a user's groups");
    for key in ["ab", "a/b", "a=b", "a,b", &"x".repeat(129)] {
        refused(meta.create_access_key(access_key(key, "u"), None).await, "invalid access key");
    }
    for number in 0..MAX_ACCESS_KEYS {
        meta.create_access_key(access_key(&format!("key{number}"), "u"), None).await.unwrap();
    }
    refused(meta.create_access_key(access_key("key", "u"), None).await, "number of a user's access keys");
    meta.create_user(User::new("v", 1)).await.unwrap();
    refused(meta.create_access_key(access_key("key1", "v"), None).await, "exists already");
    let others = Some(ReplacedKey { access_key: "key1".into(), expires_ms: 1 });
    refused(meta.create_access_key(access_key("key", "v"), others).await, "does not exist");
    assert_eq!(meta.access_key("key1").await.unwrap().unwrap().expires_ms, None);
    let names: Vec<_> = meta.user_groups(Some("g2"), 2).await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["g3", "g4"]);
    assert_eq!(meta.group_members("g3", None, 10).await.unwrap(), ["u"]);
    assert_eq!(meta.users(Some("u"), 10).await.unwrap().len(), 1);
    audited(&meta, "after refusals").await;
}

/// The other begins between this one's reads and its commit.
#[tokio::test]
async fn a_policy_is_not_deleted_beside_somebody_who_attaches_it() {
    for _ in 0..50 {
        let meta = Meta::in_memory();
        meta.create_user(User::new("u", 1)).await.unwrap();
        meta.put_access_policy("p", "{}").await.unwrap();
        let attach = meta.change_user("u", UserChange::Attach(shared("p")));
        let (attached, deleted) = tokio::join!(attach, meta.delete_access_policy("p"));
        assert!(attached.is_ok() != deleted.is_ok(), "{attached:?} {deleted:?}");
        audited(&meta, "after both").await;
    }
}

#[test]
fn secrets_are_not_in_debug_output() {
    let mut key = access_key("key", "u");
    key.secret = SealedSecret { key_id: [77; 16], sealed: vec![88; 9] };
    let shown = format!("{key:?} {:?}", key.secret);
    assert!(!shown.contains("77") && !shown.contains("88"), "{shown}");
}
