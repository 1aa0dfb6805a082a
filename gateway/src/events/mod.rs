//! Whom events are told to, and how.
//!
//! Targets are named by operators, in the configuration of the nodes: a bucket's user chooses among these, and can make
//! nobody here connect to an address. Each kind of target is a file that implements `target::Target`.

mod message;
mod target;
mod webhook;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use cairn_actors::background::{Deliver, DeliveryTerms, Undelivered};
use cairn_schema::record::QueuedEvent;

pub use target::TIMEOUTS;
use target::Target;
pub use webhook::{WebhookError, WebhookOptions};

/// Targets of a node, each with a worker.
const MAX_TARGETS: usize = 16;
const MAX_NAME_BYTES: usize = 32;

/// What a node is told of targets.
#[derive(Clone, Debug, Default)]
pub struct EventOptions {
    pub webhooks: Vec<WebhookOptions>,
    pub terms: DeliveryTerms,
    /// The region that events name.
    pub region: String,
}

/// Why targets cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("there are {0} targets, and may be {MAX_TARGETS}")]
    TooMany(usize),
    #[error("\"{0}\" is no name of a target: want 1 to {MAX_NAME_BYTES} lower-case letters, digits, '-' and '_'")]
    Name(String),
    #[error("two targets are called {0}")]
    SameName(String),
    #[error("target {name}: {error}")]
    Webhook { name: String, error: WebhookError },
}

/// The targets of a node. Cheap to clone.
#[derive(Clone)]
pub struct EventTargets(Arc<Targets>);

struct Targets {
    by_name: BTreeMap<String, Box<dyn Target>>,
    terms: DeliveryTerms,
    region: String,
}

impl EventTargets {
    /// # Errors
    /// For names and options of which no target can be made.
    pub fn new(options: EventOptions) -> Result<Self, TargetError> {
        let EventOptions { webhooks, terms, region } = options;
        if webhooks.len() > MAX_TARGETS {
            return Err(TargetError::TooMany(webhooks.len()));
        }
        let mut by_name = BTreeMap::<String, Box<dyn Target>>::new();
        for webhook in webhooks {
            let name = webhook.name.clone();
            if !is_name(&name) {
                return Err(TargetError::Name(name));
            }
            let made = webhook::Webhook::new(webhook);
            let made = made.map_err(|error| TargetError::Webhook { name: name.clone(), error })?;
            if by_name.insert(name.clone(), Box::new(made)).is_some() {
                return Err(TargetError::SameName(name));
            }
        }
        Ok(Self(Arc::new(Targets { by_name, terms, region })))
    }

    /// The target that an ARN names, of a queue (`sqs`) or a topic (`sns`): `arn:cairn:sqs::NAME:webhook`.
    pub(crate) fn named(&self, service: &str, arn: &str) -> Option<&str> {
        let rest = arn.strip_prefix("arn:cairn:")?.strip_prefix(service)?.strip_prefix("::")?;
        let (name, kind) = rest.rsplit_once(':')?;
        let (name, target) = self.0.by_name.get_key_value(name)?;
        (target.kind() == kind).then_some(name.as_str())
    }

    /// Sends a target something that says that somebody wants to know whether it arrives.
    ///
    /// # Errors
    /// What the target or the way to it says; None if there is no such target.
    pub async fn test(&self, name: &str) -> Option<Result<(), Undelivered>> {
        let target = self.0.by_name.get(name)?;
        Some(target.send(message::operators_test(cairn_schema::clock::now_ms())).await)
    }

    /// The ARN of each target, as buckets' configurations name it.
    pub fn arns(&self) -> Vec<(String, String)> {
        let targets = self.0.by_name.iter();
        targets.map(|(name, target)| (name.clone(), format!("arn:cairn:sqs::{name}:{}", target.kind()))).collect()
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

#[async_trait]
impl Deliver for EventTargets {
    fn targets(&self) -> Vec<String> {
        self.0.by_name.keys().cloned().collect()
    }

    fn terms(&self) -> DeliveryTerms {
        self.0.terms
    }

    async fn deliver(&self, target: &str, event: &QueuedEvent) -> Result<(), Undelivered> {
        match self.0.by_name.get(target) {
            Some(target) => target.send(message::of(event, &self.0.region)).await,
            None => Err(Undelivered::Failed("this node has no such target".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn webhook(name: &str) -> WebhookOptions {
        WebhookOptions {
            name: name.into(),
            url: "http://127.0.0.1:1/hook".into(),
            token_file: None,
            ca_pem: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn targets(names: &[&str]) -> Result<EventTargets, TargetError> {
        let webhooks = names.iter().map(|name| webhook(name)).collect();
        EventTargets::new(EventOptions { webhooks, ..EventOptions::default() })
    }

    #[test]
    fn targets_are_found_by_their_arns_only() {
        let targets = targets(&["ci", "ci-2"]).unwrap();
        assert_eq!(targets.arns()[1], ("ci-2".into(), "arn:cairn:sqs::ci-2:webhook".into()));
        for (service, arn, name) in [
            ("sqs", "arn:cairn:sqs::ci:webhook", Some("ci")),
            ("sns", "arn:cairn:sns::ci-2:webhook", Some("ci-2")),
            ("sqs", "arn:cairn:sns::ci:webhook", None),
            ("sqs", "arn:cairn:sqs::other:webhook", None),
            ("sqs", "arn:cairn:sqs::ci:kafka", None),
            ("sqs", "arn:aws:sqs:us-east-1:000000000000:ci", None),
            ("sqs", "http://127.0.0.1/", None),
        ] {
            assert_eq!(targets.named(service, arn), name, "{arn}");
        }
    }

    #[test]
    fn names_are_short_and_of_one_target_each() {
        for name in ["", "a b", "A", "a:b", &"a".repeat(33)] {
            assert_eq!(targets(&[name]).err(), Some(TargetError::Name(name.into())));
        }
        assert_eq!(targets(&["a", "a"]).err(), Some(TargetError::SameName("a".into())));
        assert_eq!(targets(&["a"; 17]).err(), Some(TargetError::TooMany(17)));
    }
}
