//! The stored bytes of every record. A change here is a change of format: it needs a new version and a migration, not a
//! new golden.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bytes::Bytes;
use cairn_schema::{
    MetaError,
    codec::{CodecError, Stored},
    ids::*,
    keyspace,
    record::{document, rows::*, *},
};

/// Records that have been checked.
#[derive(Default)]
struct Goldens(BTreeSet<&'static str>);

impl Goldens {
    fn check<R: Stored + PartialEq + std::fmt::Debug>(&mut self, record: R, golden: &str) {
        self.0.insert(R::WHAT);
        assert_eq!(hex::encode(record.encode()), golden, "{record:?}");
        assert_eq!(R::decode(&hex::decode(golden).unwrap()).unwrap(), record);
        let whole = record.encode();
        for unknown in [0, R::VERSION + 1, 0xff] {
            let mut other = whole.to_vec();
            other[0] = unknown;
            assert_eq!(R::decode(&other), Err(CodecError::UnknownVersion { found: unknown, known: R::VERSION }));
            // A verb's error says which row it was.
            match R::read(b"\x02row", &other) {
                Err(MetaError::Corrupt { what, why }) => {
                    assert_eq!(what, R::WHAT);
                    assert!(why.contains(r"\x02row") && why.contains(&format!("version {unknown}")), "{why}");
                }
                read => panic!("{read:?}"),
            }
        }
        assert_eq!(R::decode(&[]), Err(CodecError::Empty));
        // Cut short anywhere it is an error, never a guess.
        for cut in 1..whole.len() {
            assert!(R::decode(&whole[..cut]).is_err(), "{record:?} cut to {cut}");
        }
    }
}

fn blob() -> Blob {
    Blob {
        id: BlobId([1; 16]),
        scheme: Scheme::Rs { data: 4, parity: 2, code: ErasureCode::Gf256 },
        length: 70_000,
        stripe_bytes: 4 << 20,
        runs: vec![StripeRun { group: GroupId(3), stripes: 1 }],
        checksum: 0x0102_0304_0506_0708,
    }
}

fn attributes() -> Attributes {
    Attributes {
        content_type: Some("a/b".into()),
        user_metadata: vec![("n".into(), "v".into())],
        tags: vec![("t".into(), "w".into())],
        storage_class: "STANDARD".into(),
        lock: Lock {
            retention: Some(Retention { mode: RetentionMode::Compliance, until_ms: 9 }),
            legal_hold: Some(false),
        },
        ..Attributes::default()
    }
}

fn checksum() -> StoredChecksum {
    StoredChecksum { algorithm: ChecksumAlgorithm::Crc32, kind: ChecksumKind::FullObject, value: vec![1, 2, 3, 255] }
}

fn encryption() -> Encryption {
    Encryption {
        kind: EncryptionKind::Kms,
        key_id: "m".into(),
        key_version: 3,
        context: Some("e30=".into()),
        bucket_key: true,
        wrapped: vec![1, 2, 255],
    }
}

fn version() -> Version {
    Version {
        id: VersionId([2; 16]),
        kind: VersionKind::Object,
        etag: Etag { md5: [9; 16], parts: Some(2) },
        size: 10,
        modified_ms: 1_700_000_000_000,
        owner: "o".into(),
        attributes: attributes(),
        checksum: Some(checksum()),
        part_count: Some(2),
        encryption: Some(encryption()),
    }
}

fn part() -> PartRow {
    PartRow {
        number: 1,
        length: 10,
        md5: [9; 16],
        checksum: Some(checksum()),
        modified_ms: 7,
        blob_offset: 0,
        blob: Some(BlobRef::Inline(blob())),
    }
}

#[test]
fn records_have_their_golden_bytes() {
    let mut goldens = Goldens::default();
    // bucket
    goldens.check(
        Bucket {
            name: "b".into(),
            created_ms: 1,
            owner: "o".into(),
            region: String::new(),
            versioning: Versioning::Enabled,
            object_lock: Some(ObjectLock {
                default_retention: Some(DefaultRetention {
                    mode: RetentionMode::Governance,
                    period: RetentionPeriod::Years(3),
                }),
            }),
            quota: Some(BucketQuota { quota: Quota { bytes: Some(5), objects: None }, shared: true }),
            limits: RequestLimits { per_second: None, concurrent: Some(7) },
            event_rules: vec![EventRule {
                id: "r".into(),
                target: "hook".into(),
                kinds: vec![EventKind::CreatedByPut, EventKind::Marked],
                prefix: "a/".into(),
                suffix: String::new(),
            }],
        },
        "0499a16201a16fa0a7456e61626c65649192aa476f7665726e616e636581a5596561727303929205c0c392c0079195a172a4686f6f6b92ac437265617465644279507574a64d61726b6564a2612fa0",
    );
    // blob
    goldens.check(
        blob(),
        "0196c4100101010101010101010101010101010181a25273930402a54766323536ce00011170ce0040000091920301cf0102030405060708",
    );
    // upload
    goldens.check(
        Upload {
            id: UploadId([4; 16]),
            bucket: "b".into(),
            key: "k".into(),
            created_ms: 5,
            owner: "o".into(),
            attributes: attributes(),
            checksum: Some((ChecksumAlgorithm::Sha256, ChecksumKind::Composite)),
            encryption: Some(encryption()),
        },
        "0398c41004040404040404040404040404040404a162a16b05a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c292a6536861323536a9436f6d706f7369746596a34b6d73a16d03a46533303dc3c4030102ff",
    );
    // node
    goldens.check(
        Node {
            id: "n1".parse().unwrap(),
            rack: "r".into(),
            zone: "z".into(),
            address: "127.0.0.1:7000".parse().unwrap(),
        },
        "0194a26e31a172a17a81a2563492947f000001cd1b58",
    );
    // disk
    goldens.check(
        Disk {
            id: DiskId([6; 16]),
            node: "n1".parse().unwrap(),
            rack: "r".into(),
            zone: "z".into(),
            capacity_bytes: 1 << 40,
            state: DiskState::Draining,
            since_ms: 8,
        },
        "0197c41006060606060606060606060606060606a26e31a172a17acf0000010000000000a8647261696e696e6708",
    );
    // group
    goldens.check(
        Group {
            id: GroupId(3),
            scheme: Scheme::Replicated { copies: 2 },
            members: vec![DiskId([6; 16]), DiskId([7; 16])],
            epoch: 4,
            state: GroupState::Sealed,
        },
        "01950381aa5265706c696361746564910292c41006060606060606060606060606060606c4100707070707070707070707070707070704a67365616c6564",
    );
    // policy
    goldens.check(
        ClusterPolicy {
            generation: 3,
            policy: Policy::new(
                Scheme::Rs { data: 4, parity: 2, code: ErasureCode::Gf256 },
                Scheme::Replicated { copies: 3 },
                FailureDomain::Rack,
            ),
        },
        "0192039681a25273930402a5476632353681aa5265706c6963617465649103ce00020000a47261636b01ce00100000",
    );
    // rates
    goldens.check(
        ClusterRates {
            generation: 3,
            rates: RateOverrides { scrub_bytes: None, repair_bytes: Some(512 << 20), background_percent: Some(35) },
        },
        "01920393c0ce2000000023",
    );
    // job
    goldens.check(
        Job {
            id: JobId(3),
            kind: JobKind::Drain,
            targets: vec![JobTarget { level: FailureDomain::Rack, name: "z/r".into() }],
            by: "n1".into(),
            created_ms: 5,
            state: JobState::Paused,
            state_ms: 6,
            blocked: Some("g".into()),
            planned: Moved { positions: 9, bytes: 10 },
            moved: Moved { positions: 7, bytes: 8 },
            ran_ms: 11,
            moved_before: Moved { positions: 1, bytes: 2 },
            attempt: AttemptId([4; 16]),
        },
        "019d03a5647261696e9192a47261636ba37a2f72a26e3105a670617573656406a16792090a9207080b920102c41004040404040404040404040404040404",
    );
    // group_move
    goldens.check(
        GroupMove {
            group: GroupId(7),
            id: AttemptId([9; 16]),
            job: JobId(3),
            epoch: 2,
            since_ms: 5,
            was_open: true,
            positions: vec![PositionMove { position: 1, from: DiskId([6; 16]), to: DiskId([7; 16]), up_since_ms: 4 }],
            cursor: Some(BlobId([8; 16])),
            walked: false,
            bytes: 300,
        },
        "019a07c41009090909090909090909090909090909030205c3919401c41006060606060606060606060606060606c4100707070707070707070707070707070704c41008080808080808080808080808080808c2cd012c",
    );
    // maintenance
    goldens.check(
        ClusterMaintenance {
            serial: 3,
            windows: vec![MaintenanceWindow {
                node: "n1".parse().unwrap(),
                serial: 2,
                started_ms: 1_700_000_000_000,
                for_ms: 1_800_000,
            }],
        },
        "0192039194a26e3102cf0000018bcfe56800ce001b7740",
    );
    // access_key
    goldens.check(
        AccessKey {
            access_key: "a".into(),
            secret: SealedSecret { key_id: [3; 16], sealed: vec![1, 255] },
            user: "u".into(),
            enabled: true,
            created_ms: 1,
            expires_ms: Some(300),
            session_policy: Some("{}".into()),
        },
        "0297a16192c41003030303030303030303030303030303c40201ffa175c301cd012ca27b7d",
    );
    // Its first version had secrets in clear. Nothing ever wrote one but tests.
    let first = AccessKey::decode(&hex::decode("0195a161a173a175c301").unwrap());
    assert_eq!(first, Err(CodecError::UnknownVersion { found: 1, known: 2 }));
    // user
    let shared = AttachedPolicy { name: "p".into(), text: None };
    let own = AttachedPolicy { name: "q".into(), text: Some("{}".into()) };
    goldens.check(
        User {
            id: UserId([5; 16]),
            enabled: false,
            policies: vec![shared.clone(), own],
            groups: vec!["g".into()],
            access_keys: vec!["a".into()],
            limits: RequestLimits { per_second: Some(5), concurrent: None },
            ..User::new("u", 1)
        },
        "0298a175c41005050505050505050505050505050505c2019292a170c092a171a27b7d91a16791a1619205c0",
    );
    // user_group
    goldens.check(UserGroup { name: "g".into(), created_ms: 2, policies: vec![shared] }, "0193a167029192a170c0");
    // access_policy
    goldens.check(
        AccessPolicy { name: "p".into(), created_ms: 1, changed_ms: 2, text: "{}".into() },
        "0194a1700102a27b7d",
    );
    // lease
    let lease = Lease { name: "l".into(), holder: "h".into(), ttl_ms: 9, term: 2, renewal: 3 };
    goldens.check(lease, "0295a16ca168090203");
    // cluster
    goldens.check(ClusterRow { id: ClusterId([8; 16]), created_ms: 3 }, "0192c4100808080808080808080808080808080803");
    // head
    goldens.check(
        HeadRow {
            row: VersionId([2; 16]),
            id: VersionId::NULL,
            kind: VersionKind::DeleteMarker,
            etag: Etag { md5: [9; 16], parts: None },
            size: 10,
            modified_ms: 5,
            owner: "o".into(),
            storage_class: "STANDARD".into(),
            checksum: Some((ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject)),
            null_row: Some(VersionId([2; 16])),
        },
        "019ac41002020202020202020202020202020202c410ffffffffffffffffffffffffffffffffac44656c6574654d61726b657292c41009090909090909090909090909090909c00a05a16fa85354414e4441524492a943726336344e766d65aa46756c6c4f626a656374c41002020202020202020202020202020202",
    );
    // version_inline
    goldens.check(
        VersionRow { version: version(), parts: PartList::Inline(vec![part()]) },
        "04929ac41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c293a54372633332aa46756c6c4f626a656374c404010203ff0296a34b6d73a16d03a46533303dc3c4030102ff81a6496e6c696e659197010ac4100909090909090909090909090909090993a54372633332aa46756c6c4f626a656374c404010203ff070081a6496e6c696e6596c4100101010101010101010101010101010181a25273930402a54766323536ce00011170ce0040000091920301cf0102030405060708",
    );
    // version_listed
    goldens.check(
        VersionRow {
            version: version(),
            parts: PartList::Listed {
                list: UploadId([4; 16]),
                runs: vec![PartRun { first: 1, count: 9999, length: 5 << 20 }],
            },
        },
        "04929ac41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c293a54372633332aa46756c6c4f626a656374c404010203ff0296a34b6d73a16d03a46533303dc3c4030102ff81a64c697374656492c41004040404040404040404040404040404c4068280800a8f4e",
    );
    // part_by_row
    goldens.check(
        PartRow { blob: Some(BlobRef::Row(BlobId([1; 16]))), checksum: None, ..part() },
        "0197010ac41009090909090909090909090909090909c0070081a3526f77c41001010101010101010101010101010101",
    );
    // part_of_slices
    let slice = |blob_offset| SliceName { blob: BlobId([1; 16]), blob_offset, length: 5 };
    goldens.check(PartRow { blob: Some(BlobRef::Slices(vec![slice(0), slice(300)])), checksum: None, ..part() }, "0197010ac41009090909090909090909090909090909c0070081a6536c696365739293c41001010101010101010101010101010101000593c41001010101010101010101010101010101cd012c05");
    // group_blob
    goldens.check(GroupBlobRow { epoch: 3, stripes: 300 }, "019203cd012c");
    assert_eq!(GroupBlobRow::noted(b"key", b"").unwrap(), None, "of before it was noted");
    // group_repair
    let position = |start| PositionRepair {
        position: 4,
        epoch: 2,
        cause: MissingCause::DiskLost,
        since_ms: 5,
        from: DiskId([6; 16]),
        start,
        wrapped: false,
        missing: 300,
    };
    goldens.check(
        GroupRepair {
            group: GroupId(3),
            cursor: Some(BlobId([1; 16])),
            positions: vec![position(None), position(Some(BlobId([2; 16])))],
        },
        "019303c4100101010101010101010101010101010192980402a86469736b6c6f737405c41006060606060606060606060606060606c0c2cd012c980402a86469736b6c6f737405c41006060606060606060606060606060606c41002020202020202020202020202020202c2cd012c",
    );
    // ledger
    goldens.check(LedgerRow { cause: MissingCause::Corrupt, since_ms: 4 }, "0192a7636f727275707404");
    // reclaim_blob
    goldens.check(ReclaimRow::Blob, "01a4426c6f62");
    // reclaim_list
    goldens.check(ReclaimRow::List, "01a44c697374");
    // attempt_committed
    goldens.check(
        AttemptRow::Committed { version: Box::new(version()), versioned: true },
        "0381a9436f6d6d6974746564929ac41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c293a54372633332aa46756c6c4f626a656374c404010203ff0296a34b6d73a16d03a46533303dc3c4030102ffc3",
    );
    // attempt_deleted
    goldens.check(
        AttemptRow::Deleted { version: Some(VersionId::NULL), delete_marker: true },
        "0381a744656c6574656492c410ffffffffffffffffffffffffffffffffc3",
    );
    // attempt_part
    goldens.check(
        AttemptRow::Part(part()),
        "0381a45061727497010ac4100909090909090909090909090909090993a54372633332aa46756c6c4f626a656374c404010203ff070081a6496e6c696e6596c4100101010101010101010101010101010181a25273930402a54766323536ce00011170ce0040000091920301cf0102030405060708",
    );
    // completed
    goldens.check(
        CompletedRow { bucket: "b".into(), key: "k".into(), completed_ms: 6, version: version(), versioned: false },
        "0395a162a16b069ac41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c293a54372633332aa46756c6c4f626a656374c404010203ff0296a34b6d73a16d03a46533303dc3c4030102ffc2",
    );
    // attempt_group
    goldens.check(
        AttemptRow::Group(Group {
            id: GroupId(3),
            scheme: Scheme::Rs { data: 1, parity: 1, code: ErasureCode::Novelpoly },
            members: vec![DiskId([6; 16]), DiskId([7; 16])],
            epoch: 1,
            state: GroupState::Open,
        }),
        "0381a547726f7570950381a25273930101a94e6f76656c706f6c7992c41006060606060606060606060606060606c4100707070707070707070707070707070701a46f70656e",
    );
    // attempt_disk
    goldens.check(
        AttemptRow::Disk(Disk {
            id: DiskId([6; 16]),
            node: "n1".parse().unwrap(),
            rack: "r".into(),
            zone: "z".into(),
            capacity_bytes: 1,
            state: DiskState::Down,
            since_ms: 8,
        }),
        "0381a44469736b97c41006060606060606060606060606060606a26e31a172a17a01a4646f776e08",
    );
    // attempt_tagged
    goldens.check(AttemptRow::Tagged(VersionId([2; 16])), "0381a6546167676564c41002020202020202020202020202020202");
    // attempt_locked
    goldens.check(AttemptRow::Locked(VersionId([2; 16])), "0381a64c6f636b6564c41002020202020202020202020202020202");
    // attempt_done
    goldens.check(AttemptRow::Done, "03a4446f6e65");
    // lifecycle
    let rule = LifecycleRule {
        id: "r".into(),
        enabled: true,
        filter: LifecycleFilter {
            prefix: "p".into(),
            tags: vec![("t".into(), "w".into())],
            larger_than: Some(5),
            smaller_than: None,
        },
        expiration: Some(Expiration::Days(3)),
        noncurrent: Some(NoncurrentExpiration { days: 2, keep_newer: 1 }),
        abort_uploads_days: Some(7),
    };
    let others = [Expiration::Date(9), Expiration::LoneMarkers]
        .map(|expiration| LifecycleRule { expiration: Some(expiration), ..LifecycleRule::default() });
    goldens.check(
        Lifecycle {
            document: "<x/>".into(),
            minimum_size: "m".into(),
            rules: [&[rule], &others[..]].concat(),
        },
        "0193a43c782f3ea16d9396a172c394a1709192a174a17705c081a444617973039202010796a0c294a090c0c081a44461746509c0c096a0c294a090c0c0ab4c6f6e654d61726b657273c0c0",
    );
    // event
    let event = Event {
        kind: EventKind::CreatedByUpload,
        bucket: "b".into(),
        key: "k".into(),
        version: Some(VersionId([2; 16])),
        object: Some(EventObject { etag: Etag { md5: [3; 16], parts: Some(2) }, size: 70_000 }),
        at_ms: 5,
        queued_ms: 300,
        rule: "r".into(),
        origin: Origin { principal: "p".into(), address: "192.0.2.1".into(), request: "q".into() },
    };
    goldens.check(event.clone(), "0199af43726561746564427955706c6f6164a162a16bc410020202020202020202020202020202029292c4100303030303030303030303030303030302ce0001117005cd012ca17293a170a93139322e302e322e31a171");
    // dead_event
    goldens.check(DeadEvent { event, died_ms: 9, why: "w".into() }, "019399af43726561746564427955706c6f6164a162a16bc410020202020202020202020202020202029292c4100303030303030303030303030303030302ce0001117005cd012ca17293a170a93139322e302e322e31a17109a177");
    // document_head
    goldens.check(
        DocumentHead { length: 70_000, chunks: 2, checksum: 0x0102_0304_0506_0708 },
        "0293ce0001117002cf0102030405060708",
    );
    // number
    goldens.check(300u64, "01cd012c");
    let all: BTreeSet<&str> = RECORDS.iter().copied().collect();
    assert_eq!(goldens.0, all, "every record has its bytes pinned here");
}

#[test]
fn bucket_documents_have_their_golden_rows() {
    let short = document::rows(b"<x/>").unwrap();
    assert_eq!(short.iter().map(hex::encode).collect::<Vec<_>>(), ["013c782f3e"]);
    let long = vec![7; document::CHUNK_BYTES + 3];
    let rows = document::rows(&long).unwrap();
    assert_eq!(hex::encode(&rows[0]), "0293ce0001000302cfea6b15f5c07be4dc");
    assert_eq!(rows[1], [&[1][..], &long[3..]].concat());
    assert_eq!(hex::encode(&rows[2]), "01070707");
    assert_eq!(rows.len(), 3);
    let key = keyspace::document("b", BucketDocument::Cors);
    assert_eq!(hex::encode(&key), "03620002");
    let chunk = keyspace::document_chunk("b", BucketDocument::Cors, 2);
    assert_eq!(hex::encode(&chunk), "036200020002");
    assert!(keyspace::is_document_chunk(&chunk) && !keyspace::is_document_chunk(&key));
    for unknown in [&[][..], &[0], &[3, 1], &[2, 0xc1]] {
        let read = document::First::read(&key, &Bytes::copy_from_slice(unknown));
        assert!(matches!(&read, Err(MetaError::Corrupt { why, .. }) if why.contains(r"\x03b\x00\x02")), "{read:?}");
    }
    let read = document::chunk(&chunk, &Bytes::from_static(&[2, 1]));
    assert!(matches!(&read, Err(MetaError::Corrupt { why, .. }) if why.contains(r"\x02\x00\x02")), "{read:?}");
}

/// Its rows told when a lease ends by its holder's clock: 0 for one that was given back.
#[test]
fn leases_of_the_first_version_are_read() {
    let read = |row: &str| Lease::decode(&hex::decode(row).unwrap());
    let lease = |ttl_ms| Lease { name: "l".into(), holder: "h".into(), ttl_ms, term: 2, renewal: 0 };
    assert_eq!(read("0194a16ca1680902"), Ok(lease(60_000)));
    assert_eq!(read("0194a16ca1680002"), Ok(lease(0)));
    assert!(matches!(read("0193a16ca16809"), Err(CodecError::Garbled(_))));
}

/// Rows of before object lock, quotas and limits: nothing is locked or bounded by them.
#[test]
fn rows_of_before_locks_and_limits_are_read() {
    fn read<R: Stored>(row: &str) -> R {
        R::decode(&hex::decode(row).unwrap()).unwrap()
    }
    let attributes = Attributes { lock: Lock::default(), ..attributes() };
    let version = Version { attributes: attributes.clone(), encryption: None, ..version() };
    let bucket: Bucket = read("0195a16201a16fa0a7456e61626c6564");
    assert_eq!((bucket.versioning, bucket.object_lock, bucket.quota), (Versioning::Enabled, None, None));
    let user: User = read("0197a175c41005050505050505050505050505050505c2019292a170c092a171a27b7d91a16791a161");
    assert_eq!((user.access_keys, user.limits), (vec!["a".into()], RequestLimits::default()));
    // Of before quotas.
    let bucket: Bucket = read("0296a16201a16fa0a7456e61626c65649192aa476f7665726e616e636581a5596561727303");
    assert_eq!((bucket.object_lock.is_some(), bucket.quota), (true, None));
    // Of before events.
    let bucket: Bucket =
        read("0398a16201a16fa0a7456e61626c65649192aa476f7665726e616e636581a5596561727303929205c0c392c007");
    assert_eq!((bucket.limits.concurrent, bucket.event_rules), (Some(7), Vec::new()));
    let upload: Upload = read(
        "0197c41004040404040404040404040404040404a162a16b05a16f9aa3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e4441524492a6536861323536a9436f6d706f73697465",
    );
    assert_eq!(upload.attributes, attributes);
    let listed: VersionRow = read(
        "029299c41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9aa3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e4441524493a54372633332aa46756c6c4f626a656374c404010203ff0281a64c697374656492c41004040404040404040404040404040404c4068280800a8f4e",
    );
    assert_eq!(listed.version, version);
    let committed: AttemptRow = read(
        "0181a9436f6d6d69747465649299c41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9aa3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e4441524493a54372633332aa46756c6c4f626a656374c404010203ff02c3",
    );
    assert_eq!(committed, AttemptRow::Committed { version: Box::new(version.clone()), versioned: true });
    let completed: CompletedRow = read(
        "0195a162a16b0699c41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9aa3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e4441524493a54372633332aa46756c6c4f626a656374c404010203ff02c2",
    );
    assert_eq!(completed.version, version);
}

/// Rows of when versions could be locked, and not sealed.
#[test]
fn rows_of_before_encryption_are_read() {
    fn read<R: Stored>(row: &str) -> R {
        R::decode(&hex::decode(row).unwrap()).unwrap()
    }
    let version = Version { encryption: None, ..version() };
    let upload: Upload = read(
        "0297c41004040404040404040404040404040404a162a16b05a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c292a6536861323536a9436f6d706f73697465",
    );
    assert_eq!((upload.attributes, upload.encryption), (attributes(), None));
    let row: VersionRow = read(
        "039299c41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c293a54372633332aa46756c6c4f626a656374c404010203ff0281a6496e6c696e659197010ac4100909090909090909090909090909090993a54372633332aa46756c6c4f626a656374c404010203ff070081a6496e6c696e6596c4100101010101010101010101010101010181a25273930402a54766323536ce00011170ce0040000091920301cf0102030405060708",
    );
    assert_eq!(row.version, version);
    let committed: AttemptRow = read(
        "0281a9436f6d6d69747465649299c41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c293a54372633332aa46756c6c4f626a656374c404010203ff02c3",
    );
    assert_eq!(committed, AttemptRow::Committed { version: Box::new(version.clone()), versioned: true });
    let completed: CompletedRow = read(
        "0295a162a16b0699c41002020202020202020202020202020202a64f626a65637492c41009090909090909090909090909090909020acf0000018bcfe56800a16f9ba3612f62c0c0c0c0c0c09192a16ea1769192a174a177a85354414e444152449292aa436f6d706c69616e636509c293a54372633332aa46756c6c4f626a656374c404010203ff02c2",
    );
    assert_eq!(completed.version, version);
}
