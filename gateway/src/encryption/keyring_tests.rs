#![allow(clippy::unwrap_used)]
use cairn_actors::sealing::Sealer;
use cairn_schema::ids::BlobId;

use super::*;

fn keyring(text: &str) -> Keyring {
    let key = |digit: &str| digit.repeat(64);
    let text = text.replace("KEY1", &key("1")).replace("KEY2", &key("2")).replace("KEY3", &key("3"));
    Keyring::of_file(KeyFile::parse(&text).unwrap())
}

fn wanted<'a>(kind: EncryptionKind, key_id: Option<&'a str>) -> Wanted<'a> {
    Wanted { kind, key_id, context: None, bucket: "b", bucket_key: false }
}

/// Whether both seal alike.
fn same(a: &VersionKey, b: &VersionKey) -> bool {
    let seal = |key: &VersionKey| {
        let mut out = Vec::new();
        key.of_blob(BlobId([1; 16])).seal(0, true, b"x", &mut out);
        out
    };
    seal(a) == seal(b)
}

#[tokio::test]
async fn keys_are_opened_after_a_new_version_and_wrapped_again_by_it() {
    let before = keyring("a/1 KEY1\nother/7 KEY3");
    let after = keyring("a/1 KEY1\na/2 KEY2");
    let (kept, key) = before.wrap(wanted(EncryptionKind::Cluster, None)).await.unwrap();
    assert_eq!((kept.key_id.as_str(), kept.key_version), ("a", 1));
    assert!(same(&after.open(&kept).await.unwrap(), &key));
    let again = after.rewrap(&kept, "b").await.unwrap().unwrap();
    assert_eq!(again.key_version, 2);
    assert!(same(&after.open(&again).await.unwrap(), &key));
    assert_eq!(after.rewrap(&again, "b").await.unwrap(), None);
    // Who has not got the new version says so, and so does who lost the old one.
    let missing = KeyError::NoSuchVersion { key: "a".into(), version: 2 };
    assert_eq!(before.open(&again).await.err(), Some(missing));
    let lost = keyring("a/2 KEY2");
    assert!(matches!(lost.open(&kept).await.err(), Some(KeyError::NoSuchVersion { version: 1, .. })));
    // Another key of the same name does not open it.
    assert_eq!(keyring("a/1 KEY3").open(&kept).await.err(), Some(KeyError::NotOpened));
    let (kept, _) = before.wrap(wanted(EncryptionKind::Kms, Some("alias/other"))).await.unwrap();
    assert_eq!((kept.key_id.as_str(), kept.key_version), ("other", 7));
    let unknown = before.wrap(wanted(EncryptionKind::Kms, Some("nobody"))).await.err();
    assert_eq!(unknown, Some(KeyError::NoSuchKey("nobody".into())));
}

#[test]
fn keys_are_named_in_the_ways_of_s3() {
    let keyring = keyring("a/1 KEY1");
    for (written, name) in [
        (None, "a"),
        (Some("b"), "b"),
        (Some("alias/b"), "b"),
        (Some("arn:aws:kms:us-east-1:000000000000:key/b"), "b"),
        (Some("arn:aws:kms:us-east-1:000000000000:alias/b"), "b"),
    ] {
        assert_eq!(keyring.key_name(written), name, "{written:?}");
    }
    assert!(!format!("{keyring:?}").contains("111"));
}
