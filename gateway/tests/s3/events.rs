//! Notifications of buckets, from a configuration to what a webhook hears.

use std::collections::BTreeSet;

use cairn_schema::record::EventKind;
use serde_json::Value;

use crate::{
    request::Request,
    webhook::{State, Webhook, targets},
    world::World,
};

fn configuration(target: &str, events: &[&str], prefix: &str) -> String {
    let events: String = events.iter().map(|event| format!("<Event>{event}</Event>")).collect();
    format!(
        "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><QueueConfiguration><Id>{target} {prefix}</Id>\
         <Queue>arn:cairn:sqs::{target}:webhook</Queue>{events}<Filter><S3Key><FilterRule><Name>prefix</Name><Value>{prefix}</Value>\
         </FilterRule></S3Key></Filter></QueueConfiguration></NotificationConfiguration>"
    )
}

fn put(bucket: &str, document: String) -> Request {
    Request::put(&format!("/{bucket}")).query("notification", "").body(document)
}

const ALL: [&str; 4] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*", "s3:LifecycleExpiration:*"];

fn told(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(event, key)| ((*event).to_owned(), (*key).to_owned())).collect()
}

#[tokio::test]
async fn a_webhook_hears_what_a_configuration_asks_for_in_order() {
    let hook = Webhook::start().await;
    let known = targets(vec![hook.options("ci")], 5);
    let world = World::start_with(|options| options.targets = Some(known)).await;
    world.ok(Request::put("/bkt")).await;
    let document = configuration("ci", &ALL, "in/");
    world.ok(put("bkt", document.clone())).await;
    hook.until("a test event", |state| state.heard.len() == 1).await;
    let test = hook.state.lock().heard[0].clone();
    assert_eq!((&test["Event"], &test["Bucket"]), (&"s3:TestEvent".into(), &"bkt".into()));
    let read = world.ok(Request::get("/bkt").query("notification", "")).await.text();
    assert!(read.ends_with(&document), "{read}");

    let answer = world.ok(Request::put("/bkt/in/a%20b").body("12345")).await;
    world.ok(Request::put("/bkt/out/a").body("12345")).await;
    world.ok(Request::put("/bkt/in/copy").header("x-amz-copy-source", "/bkt/out/a")).await;
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    world.ok(Request::put("/bkt/in/copy").query("tagging", "").body(tags)).await;
    world.ok(Request::delete("/bkt/in/copy").query("tagging", "")).await;
    world.ok(Request::delete("/bkt/in/copy")).await;
    world.ok(Request::delete("/bkt/in/none")).await;
    world
        .refused(Request::put("/bkt/in/a%20b").header("if-none-match", "*").body("1"), 412, "PreconditionFailed")
        .await;
    hook.until("all events", |state| state.heard.len() == 6).await;
    let of = |key: &str| hook.told().into_iter().filter(|(_, of)| of == key).collect::<Vec<_>>();
    assert_eq!(of("in/a+b"), told(&[("ObjectCreated:Put", "in/a+b")]));
    let copy = [
        ("ObjectCreated:Copy", "in/copy"),
        ("ObjectTagging:Put", "in/copy"),
        ("ObjectTagging:Delete", "in/copy"),
        ("ObjectRemoved:Delete", "in/copy"),
    ];
    assert_eq!(of("in/copy"), told(&copy));
    let messages = hook.state.lock().heard.clone();
    let record =
        messages.iter().map(|message| &message["Records"][0]).find(|record| record["s3"]["object"]["key"] == "in/a+b");
    let record = record.unwrap();
    assert_eq!(record["responseElements"]["x-amz-request-id"], answer.header("x-amz-request-id").unwrap());
    assert_eq!(record["userIdentity"]["principalId"], "AWS:cairntest");
    assert_eq!(record["requestParameters"]["sourceIPAddress"], "127.0.0.1");
    assert_eq!(record["s3"]["object"]["size"], 5);
    assert_eq!(format!("\"{}\"", record["s3"]["object"]["eTag"].as_str().unwrap()), answer.header("etag").unwrap());

    world.ok(put("bkt", "<NotificationConfiguration/>".into())).await;
    let read = world.ok(Request::get("/bkt").query("notification", "")).await.text();
    assert!(read.ends_with("></NotificationConfiguration>"), "{read}");
    assert_eq!(world.meta.bucket("bkt").await.unwrap().event_rules, []);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_delivered_waits_and_none_is_lost_or_out_of_order() {
    let (hook, other) = (Webhook::start().await, Webhook::start().await);
    hook.change(|state| state.hangs = true);
    let known = targets(vec![hook.options("slow"), other.options("quick")], 5);
    let world = World::start_with(|options| options.targets = Some(known)).await;
    for (bucket, target) in [("one", "slow"), ("two", "quick")] {
        world.ok(Request::put(&format!("/{bucket}"))).await;
        let skip = "x-amz-skip-destination-validation";
        world.ok(put(bucket, configuration(target, &["s3:ObjectCreated:*"], "")).header(skip, "true")).await;
    }
    for _ in 0..3 {
        for key in ["a", "b"] {
            world.ok(Request::put(&format!("/one/{key}")).body("x")).await;
            world.ok(Request::put(&format!("/two/{key}")).body("x")).await;
        }
    }
    // The one that hangs holds up nothing of the other.
    other.until("events of the other", |state| state.heard.len() == 6).await;
    assert_eq!(hook.told(), []);
    hook.until("a message that hangs", |state| state.asked > 0).await;
    hook.change(|state| (state.hangs, state.stutters) = (false, true));
    let sequencer =
        |message: &Value| message["Records"][0]["s3"]["object"]["sequencer"].as_str().map(ToOwned::to_owned);
    let distinct = move |state: &State| state.heard.iter().filter_map(sequencer).collect::<BTreeSet<_>>().len();
    hook.until("all events", move |state| distinct(state) == 6).await;
    // At least once: one that was taken when its answer did not come is told again.
    let messages = hook.state.lock().heard.clone();
    for key in ["a", "b"] {
        let objects = messages.iter().map(|message| &message["Records"][0]["s3"]["object"]);
        let of_key = objects.filter(|object| object["key"] == key);
        let sequencers: Vec<_> = of_key.map(|object| object["sequencer"].as_str().unwrap().to_owned()).collect();
        assert!(sequencers.is_sorted(), "{key}: {sequencers:?}");
        let distinct: BTreeSet<_> = sequencers.into_iter().collect();
        assert_eq!(distinct.len(), 3, "{key}");
    }
    let counts = world.meta.event_counts().await.unwrap();
    assert!(counts.iter().all(|counts| counts.dead == 0 && counts.lost == 0), "{counts:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_a_target_refuses_is_kept_apart_and_what_comes_after_is_told() {
    let hook = Webhook::start().await;
    hook.change(|state| state.answers = Some(400));
    let known = targets(vec![hook.options("ci")], 2);
    let world = World::start_with(|options| options.targets = Some(known.clone())).await;
    world.ok(Request::put("/bkt")).await;
    let skip = "x-amz-skip-destination-validation";
    world.ok(put("bkt", configuration("ci", &["s3:ObjectCreated:*"], "")).header(skip, "true")).await;
    world.ok(Request::put("/bkt/k").body("x")).await;
    hook.until("two refusals", |state| state.asked >= 2).await;
    hook.change(|state| state.answers = None);
    world.ok(Request::put("/bkt/k").body("xy")).await;
    hook.until("what came after", |state| state.heard.len() == 1).await;
    assert_eq!(hook.state.lock().heard[0]["Records"][0]["s3"]["object"]["size"], 2);
    let dead = world.meta.dead_events("ci", None, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].1.event.kind), (1, EventKind::CreatedByPut));
    assert!(dead[0].1.why.contains("400"), "{}", dead[0].1.why);
    world.meta.redeliver_events("ci", &[dead[0].0]).await.unwrap();
    hook.until("what was refused", |state| state.heard.len() == 2).await;
    assert_eq!(hook.state.lock().heard[1]["Records"][0]["s3"]["object"]["size"], 1);
    // An operator's test comes at once, and says what the target says.
    known.test("ci").await.unwrap().unwrap();
    hook.change(|state| state.answers = Some(500));
    assert!(known.test("ci").await.unwrap().unwrap_err().to_string().contains("500"));
    assert!(known.test("none").await.is_none());
    world.stop().await;
}

#[tokio::test]
async fn configurations_that_would_not_be_delivered_are_refused_and_change_nothing() {
    let hook = Webhook::start().await;
    let known = targets(vec![hook.options("ci")], 5);
    let world = World::start_with(|options| options.targets = Some(known)).await;
    world.ok(Request::put("/bkt")).await;
    let unknown = configuration("other", &ALL, "");
    let answer = world.refused(put("bkt", unknown), 400, "InvalidArgument").await;
    let message = "Unable to validate the following destination configurations";
    assert_eq!(
        (answer.xml("Message").as_str(), answer.xml("ArgumentValue").as_str()),
        (message, "arn:cairn:sqs::other:webhook")
    );
    let never = configuration("ci", &["s3:ObjectRestore:*"], "");
    world.refused(put("bkt", never), 501, "NotImplemented").await;
    let skip = put("bkt", configuration("ci", &ALL, "")).header("x-amz-skip-destination-validation", "maybe");
    world.refused(skip, 400, "InvalidArgument").await;
    world.refused(put("none", configuration("ci", &ALL, "")), 404, "NoSuchBucket").await;
    assert_eq!(world.meta.bucket("bkt").await.unwrap().event_rules, []);
    world.stop().await;
    // A node without targets knows none.
    let world = World::with_bucket("bkt").await;
    world.refused(put("bkt", configuration("ci", &ALL, "")), 400, "InvalidArgument").await;
    world.stop().await;
}
