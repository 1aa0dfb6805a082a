#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use cairn_fragment::{BLOCK_BYTES, DiskError, NameDigest, PARTS, Priority, TransportError};
use cairn_schema::ids::{BlobId, DiskId, FragmentName, GroupId, NodeId};
use proptest::prelude::*;

use super::{
    header::{MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, PREFIX_BYTES, decode, encode, header_length},
    message::{MAX_LISTED, MAX_NAMES, WireDigest, WireInfo, WireStatus},
    *,
};

const NAME: FragmentName = FragmentName { group: GroupId(5), blob: BlobId([0xb1; 16]), stripe: 70_000, position: 3 };
const DISK: DiskId = DiskId([1; 16]);

fn head<H: serde::Serialize>(header: &H) -> String {
    hex::encode(Frame::encode(header, Bytes::new()).unwrap().head)
}

fn ask(request: Request) -> String {
    head(&RequestHeader { deadline_ms: 2500, payload: PayloadHeader::default(), request, priority: Priority::Client })
}

/// Nodes of different builds talk to each other: within version 1 these bytes may never change.
#[test]
fn frames_keep_their_bytes() {
    assert_eq!(ALPN, b"cairn-fragments/1");
    let golden = include_str!("golden_v1.txt");
    let payload = PayloadHeader { length: 70_000, checksums: vec![0x0102_0304_0506_0708, 7] };
    let put = RequestHeader {
        deadline_ms: 2500,
        payload: payload.clone(),
        request: Request::Put { disk: DISK, name: NAME },
        priority: Priority::Client,
    };
    let waits = RequestHeader { priority: Priority::Background, ..put.clone() };
    let reply = |reply| head(&ReplyHeader { payload: PayloadHeader::default(), reply });
    let frames = [
        ("put", head(&put)),
        ("put_background", head(&waits)),
        ("get", ask(Request::Get { disk: DISK, name: NAME, start: 1, end: 300 })),
        ("info", ask(Request::Info { disk: DISK, name: NAME })),
        ("delete", ask(Request::Delete { disk: DISK })),
        ("list", ask(Request::List { disk: DISK, group: Some(GroupId(5)), after: None, limit: 9 })),
        ("digests", ask(Request::Digests { disk: DISK, group: GroupId(5), position: 3, depth: 2, bits: 0x1ff })),
        ("verify", ask(Request::Verify { disk: DISK, name: NAME })),
        ("disk_status", ask(Request::DiskStatus { disk: DISK })),
        ("probe", ask(Request::Probe)),
        ("probe_through", ask(Request::ProbeThrough { target: "n2".parse().unwrap() })),
        ("meta", ask(Request::Meta)),
        ("done", reply(Ok(Reply::Done))),
        ("bytes", head(&ReplyHeader { payload, reply: Ok(Reply::Bytes) })),
        ("digests_reply", reply(Ok(Reply::Digests))),
        ("info_reply", reply(Ok(Reply::Info(WireInfo { name: NAME, length: 9, written_ms: 1_700_000_000_000 })))),
        ("status_reply", reply(Ok(Reply::Status(WireStatus { capacity_bytes: 1, ..WireStatus::default() })))),
        ("reached", reply(Ok(Reply::Reached(true)))),
        ("not_found", reply(Err(RemoteError::NotFound(NAME)))),
        ("full", reply(Err(RemoteError::Full { free: 1, reserved: 2 }))),
        ("unsupported", reply(Err(RemoteError::Unsupported("why".into())))),
    ];
    let written: String = frames.iter().map(|(kind, bytes)| format!("{kind} {bytes}\n")).collect();
    assert_eq!(written, golden);
}

#[test]
fn what_is_not_version_1_is_refused() {
    for version in (0..=255).filter(|version| *version != 1) {
        assert_eq!(header_length(&[version, 0, 0, 0, 1]), Err(FrameError::Version(version)));
    }
    assert_eq!(header_length(&[1, 0, 0, 1, 2]), Ok(258));
    assert_eq!(header_length(&[1, 0xff, 0, 0, 0]), Err(FrameError::HeaderTooLarge(0xff00_0000)));
}

#[test]
fn the_largest_payload_and_tables_fit() {
    let blocks = (MAX_PAYLOAD_BYTES as usize).div_ceil(BLOCK_BYTES);
    let payload = PayloadHeader { length: MAX_PAYLOAD_BYTES, checksums: vec![u64::MAX; blocks] };
    payload.check(MAX_PAYLOAD_BYTES).unwrap();
    let put = RequestHeader {
        deadline_ms: u32::MAX,
        payload,
        request: Request::Put { disk: DISK, name: NAME },
        priority: Priority::Background,
    };
    assert!(Frame::encode(&put, Bytes::new()).unwrap().head.len() < MAX_HEADER_BYTES);
    let name = FragmentName { group: GroupId(u32::MAX), blob: BlobId([255; 16]), stripe: u32::MAX, position: 255 };
    let names = encode(&vec![name; MAX_NAMES]).unwrap();
    assert!(names.len() <= Request::Delete { disk: DISK }.max_payload() as usize);
    let list = Request::List { disk: DISK, group: None, after: None, limit: MAX_LISTED as u32 };
    let listed = encode(&vec![WireInfo { name, length: u32::MAX, written_ms: u64::MAX }; MAX_LISTED]).unwrap();
    assert!(listed.len() <= list.max_reply_payload() as usize);
    assert!(listed.len() <= list.expected_reply_bytes() as usize);
    let digest = NameDigest { fragments: u64::MAX, sum: u128::MAX };
    let digests = encode(&vec![WireDigest::from(digest); PARTS]).unwrap();
    let ask = Request::Digests { disk: DISK, group: GroupId(1), position: 0, depth: 0, bits: 0 };
    assert!(digests.len() <= ask.max_reply_payload() as usize);
    assert_eq!(decode::<Vec<WireDigest>>(&digests).unwrap().into_iter().map(NameDigest::from).next(), Some(digest));
}

#[test]
fn errors_come_back_as_they_were() {
    let node: NodeId = "n1".parse().unwrap();
    let errors = [
        DiskError::NotFound(NAME),
        DiskError::Corrupt { name: NAME, what: "block 3".into() },
        DiskError::OutOfRange { name: NAME, start: 1, end: 2, length: 1 },
        DiskError::Conflict(NAME),
        DiskError::BadChecksum,
        DiskError::Full { free: 1, reserved: 2 },
        DiskError::ReadOnly("why".into()),
        DiskError::Busy,
        DiskError::Gone("why".into()),
        DiskError::Refused { path: "/d".into(), why: "why".into() },
    ];
    for error in errors {
        let sent = encode(&RemoteError::from(error.clone())).unwrap();
        let came: RemoteError = decode(&sent).unwrap();
        let TransportError::Disk(came) = came.into_transport(&node) else { panic!("{error}") };
        assert_eq!(came.to_string(), error.to_string());
    }
    let io = RemoteError::from(DiskError::Io { operation: "fsync", why: "EIO".into() }).into_transport(&node);
    assert_eq!(io.to_string(), "disk operation failed: fsync: EIO");
    let long = RemoteError::from(DiskError::Gone("x".repeat(1 << 20)));
    assert!(encode(&long).unwrap().len() < 1000, "a peer's text is bounded");
    assert!(matches!(RemoteError::Busy.into_transport(&node), TransportError::Busy(n) if n == node));
    assert!(matches!(RemoteError::Deadline.into_transport(&node), TransportError::Deadline(n) if n == node));
}

proptest! {
    /// Any bytes at all are answered with a value or an error.
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode::<RequestHeader>(&bytes);
        let _ = decode::<ReplyHeader>(&bytes);
        let _ = decode::<Vec<FragmentName>>(&bytes);
        if let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() {
            let _ = header_length(prefix);
        }
    }

    /// One changed byte of a header makes a header that can be sent on or an error, and never one with other bytes
    /// behind it. It may be another spelling of the same header (MessagePack has several for bytes): damage on the way
    /// is QUIC's to find, not this format's.
    #[test]
    fn damaged_headers_never_panic(position in 0usize..60, with in 1u8..=255) {
        let header = RequestHeader {
            deadline_ms: 1, payload: PayloadHeader::default(), request: Request::Info { disk: DISK, name: NAME },
            priority: Priority::Background,
        };
        let mut bytes = encode(&header).unwrap().to_vec();
        let position = position % bytes.len();
        bytes[position] ^= with;
        if let Ok(damaged) = decode::<RequestHeader>(&bytes) {
            prop_assert_eq!(decode::<RequestHeader>(&encode(&damaged).unwrap()).unwrap(), damaged);
            bytes.push(0);
            prop_assert!(decode::<RequestHeader>(&bytes).is_err());
        }
    }
}
