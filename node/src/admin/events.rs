//! `/v1/events`: what waits for the targets of events, and what was given up. Asked by POST and only from this machine,
//! as `/v1/access`: the keys of objects are in it.

use cairn_gateway::EventTargets;
use cairn_schema::{
    Meta, MetaError,
    record::{DeadEvent, EventCounts, EventPlace},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::desk::{self, Desk, Refusal};

/// Dead events of one answer, or taken up again by one order.
const PAGE: usize = 100;

/// What is to be done or told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum EventOrder {
    /// What there is for each target, and of which buckets.
    List,
    /// Sends a target a message, and says what it answers.
    Test { target: String },
    /// What was given up.
    Dead { target: String, after: Option<String> },
    /// Some of what was given up waits again: one, or a page of all after a place.
    Redeliver { target: String, event: Option<String>, after: Option<String> },
    /// The same, forgotten instead.
    Discard { target: String, event: Option<String>, after: Option<String> },
}

impl Desk<'_> {
    pub(super) async fn events(&self, body: &[u8]) -> Result<Value, Refusal> {
        let order: EventOrder = desk::change(body)?;
        obey(self.access.meta(), self.targets, order).await
    }
}

async fn obey(meta: &Meta, targets: Option<&EventTargets>, order: EventOrder) -> Result<Value, Refusal> {
    match order {
        EventOrder::List => list(meta, targets).await,
        EventOrder::Test { target } => {
            let unknown = || Refusal::new(StatusCode::NOT_FOUND, format!("this node has no target {target}"));
            let sent = match targets {
                Some(targets) => targets.test(&target).await,
                None => None,
            };
            match sent.ok_or_else(unknown)? {
                Ok(()) => Ok(json!({"target": target, "taken": true})),
                Err(why) => Err(Refusal::new(StatusCode::BAD_GATEWAY, format!("{target} was not told: {why}"))),
            }
        }
        EventOrder::Dead { target, after } => {
            let dead = meta.dead_events(&target, place(after)?, PAGE).await?;
            let next = dead.last().filter(|_| dead.len() == PAGE).map(|(place, _)| place.to_string());
            let dead: Vec<Value> = dead.iter().map(|(place, dead)| shown(*place, dead)).collect();
            Ok(json!({"target": target, "dead": dead, "next": next}))
        }
        EventOrder::Redeliver { target, event, after } => {
            let (places, next) = named(meta, &target, event, after).await?;
            meta.redeliver_events(&target, &places).await?;
            Ok(json!({"target": target, "events": places.len(), "next": next}))
        }
        EventOrder::Discard { target, event, after } => {
            let (places, next) = named(meta, &target, event, after).await?;
            meta.discard_events(&target, &places).await?;
            Ok(json!({"target": target, "events": places.len(), "next": next}))
        }
    }
}

fn place(text: Option<String>) -> Result<Option<EventPlace>, Refusal> {
    let read = |text: String| text.parse().map_err(|error| Refusal::wrong(format!("{error}")));
    text.map(read).transpose()
}

/// The dead events that an order means, and where the next page of all begins.
async fn named(
    meta: &Meta,
    target: &str,
    event: Option<String>,
    after: Option<String>,
) -> Result<(Vec<EventPlace>, Option<String>), Refusal> {
    if let Some(event) = place(event)? {
        if !is_dead(meta, target, event).await? {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("{target} has no dead event {event}")));
        }
        return Ok((vec![event], None));
    }
    let dead = meta.dead_events(target, place(after)?, PAGE).await?;
    let places: Vec<EventPlace> = dead.into_iter().map(|(place, _)| place).collect();
    let next = places.last().filter(|_| places.len() == PAGE).map(ToString::to_string);
    Ok((places, next))
}

/// Looked for from the place before.
async fn is_dead(meta: &Meta, target: &str, event: EventPlace) -> Result<bool, MetaError> {
    let number = u128_of(event).checked_sub(1);
    let after = number.map(|number| before(event, number));
    let dead = meta.dead_events(target, after, 1).await?;
    Ok(dead.first().is_some_and(|(place, _)| *place == event))
}

/// The last 16 bytes of a place as a number.
fn u128_of(place: EventPlace) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&place.0[1..]);
    u128::from_be_bytes(bytes)
}

fn before(place: EventPlace, number: u128) -> EventPlace {
    let mut bytes = place.0;
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    EventPlace(bytes)
}

async fn list(meta: &Meta, targets: Option<&EventTargets>) -> Result<Value, Refusal> {
    let now_ms = meta.now_ms();
    let mut counts = meta.event_counts().await?;
    let arns = targets.map(EventTargets::arns).unwrap_or_default();
    for (name, _) in &arns {
        if !counts.iter().any(|counts| counts.target == *name) {
            counts.push(EventCounts { target: name.clone(), ..EventCounts::default() });
        }
    }
    counts.sort_by(|one, other| one.target.cmp(&other.target));
    let targets: Vec<Value> = counts
        .into_iter()
        .map(|EventCounts { target, waiting, dead, lost, oldest_ms }| {
            let arn = arns.iter().find(|(name, _)| *name == target).map(|(_, arn)| arn);
            let oldest_seconds = oldest_ms.map(|oldest_ms| now_ms.saturating_sub(oldest_ms) / 1000);
            json!({
                "target": target, "arn": arn, "waiting": waiting, "dead": dead, "lost": lost,
                "oldest_seconds": oldest_seconds,
            })
        })
        .collect();
    let buckets: Vec<Value> = meta
        .bucket_events()
        .await?
        .into_iter()
        .map(|of| json!({"bucket": of.bucket, "waiting": of.waiting, "lost": of.lost}))
        .collect();
    Ok(json!({"targets": targets, "buckets": buckets}))
}

fn shown(place: EventPlace, dead: &DeadEvent) -> Value {
    let DeadEvent { event, died_ms, why } = dead;
    json!({
        "event": place.to_string(), "kind": event.kind.name(), "bucket": event.bucket, "key": event.key,
        "version": event.version.map(|version| version.to_string()), "at_ms": event.at_ms, "died_ms": died_ms,
        "why": why,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cairn_schema::record::{Bucket, EventKind, EventRule, Origin};

    use super::*;

    fn order(text: &str) -> EventOrder {
        serde_json::from_str(text).unwrap()
    }

    /// A store in which events of three configurations wait.
    async fn store() -> Meta {
        let meta = Meta::in_memory();
        let bucket = Bucket::new("b", 1);
        meta.create_bucket(bucket).await.unwrap();
        let rule = EventRule {
            id: "r".into(),
            target: "ci".into(),
            kinds: vec![EventKind::Test],
            prefix: String::new(),
            suffix: String::new(),
        };
        for _ in 0..3 {
            meta.set_notifications("b", None, vec![rule.clone()], Some(Origin::default())).await.unwrap();
        }
        meta
    }

    #[tokio::test]
    async fn dead_events_are_listed_and_taken_up_again_one_by_one_or_all() {
        let meta = store().await;
        let listed = obey(&meta, None, order(r#"{"do":"list"}"#)).await.unwrap_or_else(|_| panic!());
        assert_eq!((&listed["targets"][0]["waiting"], &listed["buckets"][0]["waiting"]), (&json!(3), &json!(3)));
        let stripe = cairn_schema::keyspace::event_stripe("b", "");
        let places: Vec<_> =
            meta.queued_events("ci", stripe, 9).await.unwrap().into_iter().map(|queued| queued.place).collect();
        meta.bury_events("ci", &places, "why").await.unwrap();
        let dead = obey(&meta, None, order(r#"{"do":"dead","target":"ci"}"#)).await.unwrap_or_else(|_| panic!());
        assert_eq!(dead["dead"].as_array().unwrap().len(), 3);
        let second = dead["dead"][1]["event"].as_str().unwrap().to_owned();
        assert_eq!((&dead["dead"][1]["kind"], &dead["dead"][1]["why"]), (&json!("TestEvent"), &json!("why")));
        let redeliver = || EventOrder::Redeliver { target: "ci".into(), event: Some(second.clone()), after: None };
        let done = obey(&meta, None, redeliver()).await.unwrap_or_else(|_| panic!());
        assert_eq!(done["events"], 1);
        let again = obey(&meta, None, redeliver()).await.unwrap_err();
        assert_eq!(again.status, StatusCode::NOT_FOUND);
        let discarded = obey(&meta, None, order(r#"{"do":"discard","target":"ci"}"#)).await;
        assert_eq!(discarded.unwrap_or_else(|_| panic!())["events"], 2);
        assert_eq!(meta.event_counts().await.unwrap()[0].waiting, 1);
        let unknown = obey(&meta, None, order(r#"{"do":"test","target":"ci"}"#)).await.unwrap_err();
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    }
}
