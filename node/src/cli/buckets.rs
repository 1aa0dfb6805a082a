//! `cairn admin bucket`: what buckets hold and may hold, through the admin API of the node of this machine.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::{
    api_args::ApiArgs,
    ask::{self, Page},
    limits::LimitArgs,
    or_none::OrNone,
};
use crate::{admin::BucketOrder, config::Size, failure::Failure, words::bytes};

const PAGE: Page = Page { path: "/v1/buckets", refused: Failure::BucketRefused };

#[derive(Debug, Args)]
pub(crate) struct BucketArgs {
    #[command(subcommand)]
    pub command: BucketCommand,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// List buckets with what they hold and may hold
    #[command(after_help = "Example:\n  cairn admin bucket list --after photos")]
    List {
        /// Those whose names come after this one
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
    },
    /// Show what a bucket holds, and its quota
    #[command(after_help = "Example:\n  cairn admin bucket show photos")]
    Show { name: String },
    /// Bound what a bucket holds; what is not named stays as it is
    ///
    /// All versions that are objects count (delete markers do not), with the sizes that clients sent, and parts of
    /// unfinished uploads do not. What would be too much is refused with 403 QuotaExceeded, in the transaction that
    /// would make it visible. A quota below what there is takes nothing away: nothing more comes until enough is
    /// deleted.
    #[command(after_help = "Example:\n  cairn admin bucket quota photos --bytes 500GiB --objects none")]
    Quota(QuotaArgs),
    /// Bound the requests for a bucket on each node; what is not named stays as it is
    ///
    /// What is more is refused with 503 SlowDown.
    #[command(after_help = "Example:\n  cairn admin bucket limit photos --per-second 500")]
    Limit {
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct QuotaArgs {
    pub name: String,
    #[command(flatten)]
    pub bounds: Bounds,
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Bounds {
    /// Bytes at most, or none for no bound
    #[arg(long, value_name = "SIZE")]
    pub bytes: Option<OrNone<Size>>,
    /// Versions that are objects at most, or none for no bound
    #[arg(long, value_name = "N")]
    pub objects: Option<OrNone<u64>>,
}

/// A bucket as `/v1/buckets` shows it, read leniently, so that it works across versions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BucketView {
    name: String,
    versioning: String,
    objects: u64,
    bytes: u64,
    quota: QuotaView,
    limits: LimitsView,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LimitsView {
    per_second: Option<u32>,
    concurrent: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct QuotaView {
    objects: Option<u64>,
    bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ListView {
    buckets: Vec<BucketView>,
    next: Option<String>,
}

/// Does it, and says what was found or done.
pub(crate) async fn run(args: &BucketArgs) -> Result<String, Failure> {
    let api = &args.api;
    let order = match args.command.clone() {
        BucketCommand::List { after } => BucketOrder::Buckets { after },
        BucketCommand::Show { name } => BucketOrder::Bucket { name },
        BucketCommand::Limit { name, limits } => BucketOrder::Limit { name, limits: limits.into() },
        BucketCommand::Quota(QuotaArgs { name, bounds: Bounds { bytes, objects } }) => {
            BucketOrder::Quota { name, bytes: bytes.map(OrNone::value), objects: objects.map(OrNone::value) }
        }
    };
    let change = serde_json::to_value(order).map_err(|error| Failure::Encode(error.to_string()))?;
    let answer = PAGE.ask(&api.admin, Some(change)).await?;
    if api.json {
        return Ok(String::from_utf8_lossy(&answer).into_owned());
    }
    Ok(match args.command {
        BucketCommand::List { .. } => list_in_words(&ask::read(&api.admin, &answer)?),
        BucketCommand::Show { .. } | BucketCommand::Quota { .. } | BucketCommand::Limit { .. } => {
            ask::read::<BucketView>(&api.admin, &answer)?.in_words()
        }
    })
}

fn list_in_words(list: &ListView) -> String {
    let mut text: String = list.buckets.iter().map(BucketView::in_words).collect();
    if let Some(next) = &list.next {
        let _ = writeln!(text, "there may be more: --after {next}");
    }
    text
}

impl BucketView {
    fn in_words(&self) -> String {
        let of = |used: String, share: Option<String>| match share {
            None => used,
            Some(share) => format!("{used} of {share}"),
        };
        let percent = |used: u64, limit: u64| used.saturating_mul(100).checked_div(limit).unwrap_or(100);
        let objects = self.quota.objects.map(|limit| format!("{limit} ({} %)", percent(self.objects, limit)));
        let held = self.quota.bytes.map(|limit| format!("{} ({} %)", bytes(limit), percent(self.bytes, limit)));
        let mut text = format!(
            "{}  {} objects, {}, versioning {}",
            self.name,
            of(self.objects.to_string(), objects),
            of(bytes(self.bytes), held),
            self.versioning
        );
        let limits = [(self.limits.per_second, "requests a second"), (self.limits.concurrent, "at the same time")];
        for (limit, what) in limits.into_iter().filter_map(|(limit, what)| Some((limit?, what))) {
            let _ = write!(text, ", {limit} {what}");
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_told_with_what_it_may_hold() {
        let view = |objects, bytes| BucketView {
            name: "b".to_owned(),
            versioning: "off".to_owned(),
            objects: 3,
            bytes: 2048,
            quota: QuotaView { objects, bytes },
            limits: LimitsView { per_second: bytes.map(|_| 9), concurrent: None },
        };
        assert_eq!(view(None, None).in_words(), "b  3 objects, 2.00 KiB, versioning off\n");
        let bounded = view(Some(4), Some(2048)).in_words();
        assert_eq!(
            bounded,
            "b  3 of 4 (75 %) objects, 2.00 KiB of 2.00 KiB (100 %), versioning off, 9 requests a second\n"
        );
        assert!(view(Some(0), None).in_words().contains("3 of 0 (100 %) objects"));
    }
}
