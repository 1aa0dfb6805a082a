//! What a target is told: S3's event messages.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use bytes::Bytes;
use cairn_schema::record::{EventKind, QueuedEvent};
use serde_json::{Map, Value, json};

use crate::{percent::url_encode, shown::iso_time};

/// Who acts, and from where, when the cluster does something by itself: what S3 says of its own.
const ITSELF: &str = "s3.amazonaws.com";
/// As ListBuckets names whom everything belongs to.
const OWNER: &str = "root";

/// The message of an event.
pub(super) fn of(queued: &QueuedEvent, region: &str) -> Bytes {
    let event = &queued.event;
    let by = |said: &str| if said.is_empty() { ITSELF.to_owned() } else { said.to_owned() };
    if event.kind == EventKind::Test {
        return written(&json!({
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": iso_time(event.at_ms),
            "Bucket": event.bucket,
            "RequestId": event.origin.request,
            "HostId": "cairn",
        }));
    }
    let mut object = Map::new();
    object.insert("key".into(), form_encode(&event.key).into());
    if let Some(told) = event.object {
        object.insert("size".into(), told.size.into());
        object.insert("eTag".into(), told.etag.to_string().into());
    }
    if let Some(version) = event.version {
        object.insert("versionId".into(), version.to_string().into());
    }
    object.insert("sequencer".into(), queued.place.sequencer().into());
    let record = json!({
        "eventVersion": version_of(event.kind),
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": iso_time(event.at_ms),
        "eventName": event.kind.name(),
        "userIdentity": { "principalId": by(&event.origin.principal) },
        "requestParameters": { "sourceIPAddress": by(&event.origin.address) },
        "responseElements": { "x-amz-request-id": event.origin.request, "x-amz-id-2": "cairn" },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": event.rule,
            "bucket": {
                "name": event.bucket,
                "ownerIdentity": { "principalId": OWNER },
                "arn": format!("arn:aws:s3:::{}", event.bucket),
            },
            "object": object,
        },
    });
    written(&json!({ "Records": [record] }))
}

/// What an operator has sent, of no bucket.
pub(super) fn operators_test(now_ms: u64) -> Bytes {
    let test = json!({ "Service": "Cairn", "Event": "s3:TestEvent", "Time": iso_time(now_ms) });
    written(&test)
}

fn written(message: &Value) -> Bytes {
    message.to_string().into()
}

/// Since when S3 has had events of a kind.
fn version_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Expired | EventKind::ExpiredByMarker | EventKind::TagsPut | EventKind::TagsDeleted => "2.3",
        _ => "2.1",
    }
}

/// Keys come as forms have them: a space is a plus sign.
fn form_encode(key: &str) -> String {
    url_encode(key).replace("%20", "+")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cairn_schema::{
        ids::VersionId,
        record::{Etag, Event, EventObject, EventPlace, Origin},
    };

    use super::*;

    fn queued(kind: EventKind) -> QueuedEvent {
        let event = Event {
            kind,
            bucket: "b".into(),
            key: "a b/ü+1".into(),
            version: Some(VersionId([1; 16])),
            object: Some(EventObject { etag: Etag { md5: [2; 16], parts: Some(3) }, size: 7 }),
            at_ms: 1_700_000_000_123,
            queued_ms: 0,
            rule: "r".into(),
            origin: Origin { principal: "AWS:u".into(), address: "192.0.2.1".into(), request: "Q".into() },
        };
        QueuedEvent { place: EventPlace([0xab; 17]), event }
    }

    fn read(message: &Bytes) -> Value {
        serde_json::from_slice(message).unwrap()
    }

    #[test]
    fn events_are_told_as_s3_tells_them() {
        let message = read(&of(&queued(EventKind::CreatedByUpload), "eu-1"));
        let record = &message["Records"][0];
        assert_eq!(record["eventName"], "ObjectCreated:CompleteMultipartUpload");
        assert_eq!((&record["eventVersion"], &record["awsRegion"]), (&json!("2.1"), &json!("eu-1")));
        assert_eq!(record["eventTime"], "2023-11-14T22:13:20.123Z");
        assert_eq!(record["userIdentity"]["principalId"], "AWS:u");
        assert_eq!(record["requestParameters"]["sourceIPAddress"], "192.0.2.1");
        assert_eq!(record["responseElements"]["x-amz-request-id"], "Q");
        let s3 = &record["s3"];
        assert_eq!((&s3["configurationId"], &s3["bucket"]["arn"]), (&json!("r"), &json!("arn:aws:s3:::b")));
        let object = json!({
            "key": "a+b/%C3%BC%2B1",
            "size": 7,
            "eTag": format!("{}-3", "02".repeat(16)),
            "versionId": "01".repeat(16),
            "sequencer": "AB".repeat(16),
        });
        assert_eq!(s3["object"], object);
    }

    #[test]
    fn what_the_cluster_does_by_itself_and_tests_are_told_apart() {
        let mut expired = queued(EventKind::Expired);
        expired.event.origin = Origin::default();
        expired.event.object = None;
        let message = read(&of(&expired, "r"));
        let record = &message["Records"][0];
        assert_eq!((&record["eventVersion"], &record["userIdentity"]["principalId"]), (&json!("2.3"), &json!(ITSELF)));
        assert!(record["s3"]["object"].get("size").is_none());
        let message = read(&of(&queued(EventKind::Test), "r"));
        assert_eq!((&message["Event"], &message["Bucket"]), (&json!("s3:TestEvent"), &json!("b")));
        assert!(message.get("Records").is_none());
    }
}
