//! `cairn admin events`: what waits for the targets of events, through the admin API of the node of this machine.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    api_args::ApiArgs,
    ask::{self, Page},
};
use crate::{admin::EventOrder, failure::Failure, words::duration};

const PAGE: Page = Page { path: "/v1/events", refused: Failure::EventsRefused };

#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    #[command(subcommand)]
    pub command: EventCommand,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List targets with what waits for them, what was given up and what was lost, and of which buckets
    #[command(after_help = "Example:\n  cairn admin events list")]
    List,
    /// Send a target a message now, and say what it answers
    #[command(after_help = "Example:\n  cairn admin events test ci")]
    Test { target: String },
    /// List what was given up of a target, and why
    #[command(after_help = "Example:\n  cairn admin events dead ci")]
    Dead {
        target: String,
        /// What comes after this one
        #[arg(long, value_name = "EVENT")]
        after: Option<String>,
    },
    /// Have what was given up tried again: one event, or all
    ///
    /// They are told where they stood, before all that waits. Later events of their keys may have been told before
    /// them: the sequencer in an event says which is the later one.
    #[command(after_help = "Example:\n  cairn admin events redeliver ci --all")]
    Redeliver(WhichEvents),
    /// Forget what was given up: one event, or all
    #[command(after_help = "Example:\n  cairn admin events discard ci --all")]
    Discard(WhichEvents),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WhichEvents {
    pub target: String,
    /// One, as `dead` names it
    #[arg(long, value_name = "EVENT", conflicts_with = "all", required_unless_present = "all")]
    pub event: Option<String>,
    /// All of the target
    #[arg(long)]
    pub all: bool,
}

/// Pages of `/v1/events`, read leniently, so that they work across versions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListView {
    targets: Vec<TargetView>,
    buckets: Vec<BucketView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TargetView {
    target: String,
    arn: Option<String>,
    waiting: u64,
    dead: u64,
    lost: u64,
    oldest_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BucketView {
    bucket: String,
    waiting: u64,
    lost: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeadListView {
    dead: Vec<DeadView>,
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeadView {
    event: String,
    kind: String,
    bucket: String,
    key: String,
    why: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DoneView {
    events: u64,
    next: Option<String>,
}

/// Does it, and says what was found or done.
pub(crate) async fn run(args: &EventArgs) -> Result<String, Failure> {
    let api = &args.api;
    let order = match args.command.clone() {
        EventCommand::List => EventOrder::List,
        EventCommand::Test { target } => EventOrder::Test { target },
        EventCommand::Dead { target, after } => EventOrder::Dead { target, after },
        EventCommand::Redeliver(which) => return all_of(api, &which, "waits again", redeliver).await,
        EventCommand::Discard(which) => return all_of(api, &which, "is forgotten", discard).await,
    };
    let answer = ask_for(api, order).await?;
    if api.json {
        return Ok(String::from_utf8_lossy(&answer).into_owned());
    }
    Ok(match &args.command {
        EventCommand::Test { target } => format!("{target} took it\n"),
        EventCommand::Dead { .. } => ask::read::<DeadListView>(&api.admin, &answer)?.in_words(),
        _ => ask::read::<ListView>(&api.admin, &answer)?.in_words(),
    })
}

async fn ask_for(api: &ApiArgs, order: EventOrder) -> Result<bytes::Bytes, Failure> {
    let change = serde_json::to_value(order).map_err(|error| Failure::Encode(error.to_string()))?;
    PAGE.ask(&api.admin, Some(change)).await
}

type ToOrder = fn(String, Option<String>, Option<String>) -> EventOrder;

fn redeliver(target: String, event: Option<String>, after: Option<String>) -> EventOrder {
    EventOrder::Redeliver { target, event, after }
}

fn discard(target: String, event: Option<String>, after: Option<String>) -> EventOrder {
    EventOrder::Discard { target, event, after }
}

/// Page by page, until nothing is left of what there was.
async fn all_of(api: &ApiArgs, which: &WhichEvents, what: &str, order: ToOrder) -> Result<String, Failure> {
    let (mut events, mut after) = (0, None);
    loop {
        let answer = ask_for(api, order(which.target.clone(), which.event.clone(), after)).await?;
        let done: DoneView = ask::read(&api.admin, &answer)?;
        events += done.events;
        after = done.next;
        if after.is_none() {
            break;
        }
    }
    if api.json {
        return Ok(format!("{}\n", json!({"target": which.target, "events": events})));
    }
    Ok(format!("of {}: {events} {what}\n", which.target))
}

impl ListView {
    fn in_words(&self) -> String {
        if self.targets.is_empty() {
            return "no targets: name some in s3.events of each node\n".to_owned();
        }
        let mut text = String::new();
        for TargetView { target, arn, waiting, dead, lost, oldest_seconds } in &self.targets {
            let oldest = oldest_seconds.map(|seconds| format!(", the first for {}", duration(seconds)));
            let arn = arn.as_deref().unwrap_or("this node has no such target: nobody is told here");
            let _ = writeln!(
                text,
                "{target}  {waiting} waiting{}, {dead} dead, {lost} lost  ({arn})",
                oldest.unwrap_or_default()
            );
        }
        for BucketView { bucket, waiting, lost } in &self.buckets {
            let _ = writeln!(text, "  bucket {bucket}: {waiting} waiting, {lost} lost");
        }
        text
    }
}

impl DeadListView {
    fn in_words(&self) -> String {
        let mut text = String::new();
        for DeadView { event, kind, bucket, key, why } in &self.dead {
            let _ = writeln!(text, "{event}  {kind}  {bucket}/{}  {why}", key.escape_debug());
        }
        if let Some(next) = &self.next {
            let _ = writeln!(text, "there may be more: --after {next}");
        }
        if text.is_empty() {
            text.push_str("none\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_and_dead_events_are_told_in_words() {
        let page = r#"{"targets":[{"target":"ci","arn":"arn:cairn:sqs::ci:webhook","waiting":3,"dead":1,"lost":2,
            "oldest_seconds":61},{"target":"old","waiting":1}],"buckets":[{"bucket":"b","waiting":4,"lost":2}]}"#;
        let words = serde_json::from_str::<ListView>(page).unwrap().in_words();
        assert!(words.contains("ci  3 waiting, the first for "), "{words}");
        assert!(words.contains("1 dead, 2 lost  (arn:cairn:sqs::ci:webhook)"), "{words}");
        assert!(words.contains("old  1 waiting, 0 dead, 0 lost  (this node has no such target"), "{words}");
        assert!(words.contains("  bucket b: 4 waiting, 2 lost\n"), "{words}");
        let page =
            r#"{"dead":[{"event":"00","kind":"ObjectCreated:Put","bucket":"b","key":"a\nb","why":"w"}],"next":"00"}"#;
        let words = serde_json::from_str::<DeadListView>(page).unwrap().in_words();
        assert_eq!(words, "00  ObjectCreated:Put  b/a\\nb  w\nthere may be more: --after 00\n");
        assert_eq!(DeadListView::default().in_words(), "none\n");
    }
}
