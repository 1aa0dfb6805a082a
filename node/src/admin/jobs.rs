//! `/v1/jobs`: what operators have asked the cluster to move, planned, begun, paused, gone on with and cancelled; and
//! disks that are taken out.

use cairn_actors::runtime::{JobAsk, JobsStatus};
use cairn_schema::record::{FailureDomain, JobId, JobKind, JobState, JobTarget, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::desk::{self, Desk, Refusal};

/// As many targets as a job may have, with names of the greatest length.
pub(super) const MAX_ORDER_BYTES: usize = NewJob::MOST_TARGETS * 2 * NewJob::LONGEST_NAME;

/// What is to be done or told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum JobOrder {
    /// Tells what it would come to.
    Plan {
        work: WorkOrder,
    },
    Start {
        work: WorkOrder,
    },
    Pause {
        job: u64,
    },
    Resume {
        job: u64,
    },
    Cancel {
        job: u64,
    },
    /// Takes disks out that were drained.
    Remove {
        targets: Vec<TargetOrder>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkOrder {
    pub kind: JobKind,
    #[serde(default)]
    pub targets: Vec<TargetOrder>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetOrder {
    pub level: FailureDomain,
    pub name: String,
}

fn targets(orders: Vec<TargetOrder>) -> Vec<JobTarget> {
    orders.into_iter().map(|TargetOrder { level, name }| JobTarget { level, name }).collect()
}

fn ask(WorkOrder { kind, targets: orders }: WorkOrder) -> JobAsk {
    JobAsk { kind, targets: targets(orders) }
}

impl Desk<'_> {
    pub(super) async fn jobs(&self) -> Result<JobsStatus, Refusal> {
        Ok(self.first()?.jobs().await?)
    }

    pub(super) async fn change_jobs(&self, body: &[u8]) -> Result<Value, Refusal> {
        let first = self.first()?;
        let set = |job: u64, state| first.set_job_state(JobId(job), state);
        let answer = match desk::change::<JobOrder>(body)? {
            JobOrder::Plan { work } => return Ok(json!({"plan": first.plan_job(ask(work)).await?})),
            JobOrder::Start { work } => json!({"job": first.start_job(ask(work)).await?}),
            JobOrder::Pause { job } => json!({"job": set(job, JobState::Paused).await?}),
            JobOrder::Resume { job } => json!({"job": set(job, JobState::Running).await?}),
            JobOrder::Cancel { job } => json!({"job": set(job, JobState::Cancelled).await?}),
            JobOrder::Remove { targets: orders } => {
                json!({"removed": first.remove_disks(targets(orders)).await?})
            }
        };
        self.tell_others().await;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn orders_are_read_and_what_is_none_is_refused() {
        let order = |text: &str| serde_json::from_str::<JobOrder>(text);
        let drain = r#"{"do":"plan","work":{"kind":"drain","targets":[{"level":"node","name":"n1"}]}}"#;
        let target = TargetOrder { level: FailureDomain::Node, name: "n1".into() };
        let work = WorkOrder { kind: JobKind::Drain, targets: vec![target] };
        assert_eq!(order(drain).unwrap(), JobOrder::Plan { work });
        assert_eq!(order(r#"{"do":"cancel","job":3}"#).unwrap(), JobOrder::Cancel { job: 3 });
        for wrong in [
            "{}",
            r#"{"do":"drain"}"#,
            r#"{"do":"start","work":{"kind":"move"}}"#,
            r#"{"do":"pause","job":"all"}"#,
            r#"{"do":"start","work":{"kind":"drain","targets":[{"level":"cage","name":"c"}]}}"#,
        ] {
            assert!(order(wrong).is_err(), "{wrong}");
        }
    }
}
