#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use cairn_schema::ids::AttemptId;
use parking_lot::Mutex;

use super::*;
use crate::{
    background::test_world::{Shelves, context, furnish, group, put},
    policy::Timings,
};

/// Targets that do as they are told.
#[derive(Default)]
struct Listeners {
    /// What each took, in order: keys and sizes.
    heard: Mutex<BTreeMap<String, Vec<(String, String)>>>,
    /// How a target answers; without an entry it takes everything.
    answers: Mutex<BTreeMap<String, Undelivered>>,
    tries: Mutex<usize>,
    dead_after: Duration,
}

#[async_trait]
impl Deliver for Listeners {
    fn targets(&self) -> Vec<String> {
        vec!["t".into(), "u".into()]
    }

    fn terms(&self) -> DeliveryTerms {
        let pause = Duration::ZERO;
        DeliveryTerms { dead_after: self.dead_after, refusals: 2, first_pause: pause, longest_pause: pause }
    }

    async fn deliver(&self, target: &str, queued: &QueuedEvent) -> Result<(), Undelivered> {
        *self.tries.lock() += 1;
        if let Some(answer) = self.answers.lock().get(target) {
            return Err(answer.clone());
        }
        let what = (queued.event.key.clone(), queued.place.sequencer());
        self.heard.lock().entry(target.to_owned()).or_default().push(what);
        Ok(())
    }
}

impl Listeners {
    fn new(dead_after: Duration) -> Arc<Self> {
        Arc::new(Self { dead_after, ..Self::default() })
    }

    fn answer(&self, target: &str, answer: Option<Undelivered>) {
        match answer {
            Some(answer) => self.answers.lock().insert(target.into(), answer),
            None => self.answers.lock().remove(target),
        };
    }

    fn heard(&self, target: &str) -> Vec<(String, String)> {
        self.heard.lock().get(target).cloned().unwrap_or_default()
    }
}

async fn world() -> (Context, Group) {
    let meta = Meta::in_memory();
    furnish(&meta).await;
    let group = group(&meta).await;
    (context(meta, Arc::new(Shelves::default()), Timings::default()), group)
}

const DAY: Duration = Duration::from_secs(86_400);

/// Events of both targets in one bucket: `t` hears of what begins with a t, `u` of what begins with a u.
async fn told(ctx: &Context, group: &Group, keys: &[&str]) {
    let rule = |target: &str| EventRule {
        id: target.into(),
        target: target.into(),
        kinds: vec![EventKind::CreatedByPut],
        prefix: target.into(),
        suffix: String::new(),
    };
    ctx.meta.set_notifications("b", None, vec![rule("t"), rule("u")], None).await.unwrap();
    for key in keys {
        ctx.meta.commit_object(put(group, (*key).to_owned(), AttemptId::random())).await.unwrap();
    }
}

async fn counts(meta: &Meta, target: &str) -> (u64, u64) {
    let counts = meta.event_counts().await.unwrap().into_iter().find(|counts| counts.target == target);
    counts.map_or((0, 0), |counts| (counts.waiting, counts.dead))
}

#[tokio::test]
async fn each_target_hears_what_is_for_it_in_order_and_one_that_is_away_holds_up_no_other() {
    let (ctx, group) = world().await;
    let listeners = Listeners::new(DAY);
    listeners.answer("u", Some(Undelivered::Failed("away".into())));
    told(&ctx, &group, &["t1", "u1", "t1", "t2", "t1", "u1"]).await;
    let mut to_t = Events::new(ctx.clone(), "t".into(), listeners.clone());
    let mut to_u = Events::new(ctx.clone(), "u".into(), listeners.clone());
    assert_eq!(to_u.step().await.unwrap(), Step::Idle);
    assert_eq!(to_t.step().await.unwrap(), Step::Worked { bytes: 0 });
    let heard = listeners.heard("t");
    assert_eq!(heard.len(), 4);
    let first: Vec<_> = heard.iter().filter(|(key, _)| key == "t1").map(|(_, sequencer)| sequencer).collect();
    assert!(first.len() == 3 && first.is_sorted());
    assert_eq!((counts(&ctx.meta, "t").await, counts(&ctx.meta, "u").await), ((0, 0), (2, 0)));
    // It is back: nothing was lost, and what it hears is in order.
    listeners.answer("u", None);
    to_u.step().await.unwrap();
    let heard = listeners.heard("u");
    assert!(heard.len() == 2 && heard.is_sorted_by_key(|(_, sequencer)| sequencer.clone()));
    assert_eq!(counts(&ctx.meta, "u").await, (0, 0));
    assert_eq!(to_t.step().await.unwrap(), Step::Idle);
}

#[tokio::test]
async fn what_is_refused_or_too_old_is_given_up_and_can_be_delivered_later() {
    let (ctx, group) = world().await;
    let listeners = Listeners::new(DAY);
    listeners.answer("t", Some(Undelivered::Refused("no".into())));
    told(&ctx, &group, &["t1"]).await;
    let mut worker = Events::new(ctx.clone(), "t".into(), listeners.clone());
    worker.step().await.unwrap();
    assert_eq!(counts(&ctx.meta, "t").await, (1, 0), "it is refused once");
    worker.step().await.unwrap();
    assert_eq!(counts(&ctx.meta, "t").await, (0, 1), "and once more");
    let dead = ctx.meta.dead_events("t", None, 10).await.unwrap();
    assert_eq!(dead[0].1.why, "refused: no");
    listeners.answer("t", None);
    ctx.meta.redeliver_events("t", &[dead[0].0]).await.unwrap();
    worker.step().await.unwrap();
    assert_eq!((listeners.heard("t").len(), counts(&ctx.meta, "t").await), (1, (0, 0)));
    // Of what is too old nothing is tried but the first.
    let old = Listeners::new(Duration::ZERO);
    old.answer("u", Some(Undelivered::Failed("away".into())));
    told(&ctx, &group, &["u1", "u1", "u1"]).await;
    Events::new(ctx.clone(), "u".into(), old.clone()).step().await.unwrap();
    let tries = *old.tries.lock();
    assert_eq!((tries, counts(&ctx.meta, "u").await), (1, (0, 3)));
}

#[tokio::test]
async fn one_node_at_a_time_delivers_to_a_target() {
    let (ctx, group) = world().await;
    let (first, second) = (Listeners::new(DAY), Listeners::new(DAY));
    told(&ctx, &group, &["t1"]).await;
    Events::new(ctx.clone(), "t".into(), first.clone()).step().await.unwrap();
    told(&ctx, &group, &["t2"]).await;
    let other = Context { node: "other".parse().unwrap(), ..ctx.clone() };
    assert_eq!(Events::new(other, "t".into(), second.clone()).step().await.unwrap(), Step::Idle);
    assert_eq!((first.heard("t").len(), second.heard("t").len()), (1, 0));
}
