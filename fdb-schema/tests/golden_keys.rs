//! The bytes of keys. A change here is a change of format.

use cairn_schema::{ids::*, keyspace, record::EventPlace};

#[test]
fn keys_are_as_the_table_says_and_read_back() {
    assert_eq!(
        hex::encode(keyspace::version("b", "a\0", VersionId([5; 16]))),
        format!("0662006100ff0001{}", "05".repeat(16))
    );
    let key = keyspace::version("bucket", "a\0\u{1}\0", VersionId([5; 16]));
    assert_eq!(keyspace::split_keyed("bucket", &key), Some(("a\0\u{1}\0".into(), [5; 16])));
    assert_eq!(hex::encode(keyspace::head("b", "k")), "0562006b");
    assert_eq!(keyspace::head_object_key("b", &keyspace::head("b", "k\0é")), Some("k\0é"));
    let fragment = FragmentName { group: GroupId(1), blob: BlobId([2; 16]), stripe: 3, position: 4 };
    assert_eq!(keyspace::ledger_fragment(&keyspace::ledger(fragment)), Some(fragment));
    let queued = keyspace::reclaim(keyspace::ReclaimKind::List, 77, [0x21; 16]);
    assert_eq!(hex::encode(&queued), format!("0d01000000000000004d02{}", "21".repeat(16)));
    assert_eq!(hex::encode(keyspace::cluster()), "01");
    assert_eq!(hex::encode(keyspace::policy()), "0101");
    assert_eq!(hex::encode(keyspace::rates()), "0102");
    assert_eq!(hex::encode(keyspace::maintenance()), "0103");
    assert_eq!(hex::encode(keyspace::proof("n1")), "1b6e31");
    assert_eq!(hex::encode(keyspace::stripes_are_counted()), "1c");
    assert_eq!(hex::encode(keyspace::group_stripes(GroupId(7))), "1c00000007");
    assert_eq!(hex::encode(keyspace::group_repair(GroupId(7))), "1e00000007");
    assert_eq!(hex::encode(keyspace::ledger_group(GroupId(7))), "0e00000007");
    assert_eq!(keyspace::group_of_stripes(&keyspace::group_stripes(GroupId(7))), Some(GroupId(7)));
    assert_eq!(keyspace::group_of_stripes(&keyspace::stripes_are_counted()), None);
    assert_eq!(hex::encode(keyspace::access_key("a")), "1661");
    assert_eq!(hex::encode(keyspace::user("u")), "1f75");
    assert_eq!(hex::encode(keyspace::user_group("g")), "2067");
    assert_eq!(hex::encode(keyspace::access_policy("p")), "2170");
    let link = keyspace::link(keyspace::LinkKind::MemberOfGroup, "g", "u");
    assert_eq!(hex::encode(&link), "2203670075");
    assert_eq!(keyspace::split_link(&link), Some((keyspace::LinkKind::MemberOfGroup, "g", "u")));
    assert_eq!(keyspace::split_reclaim(&queued), Some((77, keyspace::ReclaimKind::List, [0x21; 16])));
    let place = EventPlace([5; 17]);
    let event = keyspace::event("t", place);
    assert_eq!(hex::encode(&event), format!("307400{}", "05".repeat(17)));
    assert_eq!(keyspace::split_event(&event), Some(("t", place)));
    assert_eq!(hex::encode(keyspace::dead_event("t", place)), format!("317400{}", "05".repeat(17)));
    let (before, after) = keyspace::new_event("t", 3, 7, 9);
    assert_eq!((hex::encode(before), hex::encode(after)), ("3074000300000007".into(), "0009".into()));
    let count = keyspace::event_count(keyspace::EventField::Lost, "t");
    assert_eq!(hex::encode(&count), "320574");
    assert_eq!(keyspace::split_event_count(&count), Some((keyspace::EventField::Lost, "t")));
    assert_eq!(hex::encode(keyspace::event_era()), "33");
    // Events of a key must be found in the queue in which those before them are.
    assert_eq!(["a", "photos/2"].map(|key| keyspace::event_stripe("b", key)), [6, 7]);
}

proptest::proptest! {
    #[test]
    fn object_keys_sort_by_their_bytes(a in "\\PC{0,6}|[\0\u{1}a]{0,6}", b in "\\PC{0,6}|[\0\u{1}a]{0,6}", ids: ([u8; 16], [u8; 16])) {
        let key = |key: &str, id| keyspace::version("b", key, VersionId(id));
        let order = key(&a, ids.0).cmp(&key(&b, ids.1));
        proptest::prop_assert_eq!(order, (a.as_bytes(), ids.0).cmp(&(b.as_bytes(), ids.1)));
        let heads = keyspace::head("b", &a).cmp(&keyspace::head("b", &b));
        proptest::prop_assert_eq!(heads, a.as_bytes().cmp(b.as_bytes()));
    }
}
