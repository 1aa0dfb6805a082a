//! The document of a bucket's notifications: into rules, and out again as it was put.

use bytes::Bytes;
use cairn_schema::record::{EventKind, EventRule};
use s3s::{S3Error, S3Result, s3_error};

use crate::{
    error::invalid_argument,
    events::EventTargets,
    xml::{Element, Writer},
};

const RULES_MAX: usize = 100;
const ID_MAX_CHARS: usize = 255;
const VALUE_MAX_BYTES: usize = 1024;

/// Events that S3 has and nothing here ever comes to.
const NEVER: [&str; 6] = [
    "s3:ReducedRedundancyLostObject",
    "s3:ObjectRestore:",
    "s3:Replication:",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
    "s3:ObjectAcl:Put",
];
const FAMILIES: [&str; 4] = ["ObjectCreated:", "ObjectRemoved:", "LifecycleExpiration:", "ObjectTagging:"];

/// What a configuration names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Topic,
    Queue,
}

impl Service {
    fn element(self) -> &'static str {
        match self {
            Self::Topic => "TopicConfiguration",
            Self::Queue => "QueueConfiguration",
        }
    }

    /// The element that has the ARN.
    fn arn(self) -> &'static str {
        match self {
            Self::Topic => "Topic",
            Self::Queue => "Queue",
        }
    }

    fn in_arns(self) -> &'static str {
        match self {
            Self::Topic => "sns",
            Self::Queue => "sqs",
        }
    }
}

/// A rule, and how it was put.
pub(super) struct Put {
    pub(super) rule: EventRule,
    service: Service,
    arn: String,
    events: Vec<String>,
    /// The filter's rules: names and values.
    filter: Option<Vec<(String, String)>>,
}

/// # Errors
/// S3's, and NotImplemented for what would never be told.
pub(super) fn read(root: &Element, targets: Option<&EventTargets>) -> S3Result<Vec<Put>> {
    let listed = ["TopicConfiguration", "QueueConfiguration", "CloudFunctionConfiguration"];
    let ([bridge], [topics, queues, functions]) = root.fields_and_lists(["EventBridgeConfiguration"], listed)?;
    if bridge.is_some() {
        return Err(s3_error!(NotImplemented, "Notifications by EventBridge are not implemented."));
    }
    if !functions.is_empty() {
        return Err(s3_error!(NotImplemented, "Notifications of functions are not implemented."));
    }
    let found = topics.into_iter().map(|element| (Service::Topic, element));
    let found: Vec<_> = found.chain(queues.into_iter().map(|element| (Service::Queue, element))).collect();
    if found.len() > RULES_MAX {
        let message = format!("A bucket may have {RULES_MAX} notification configurations.");
        return Err(invalid_argument("NotificationConfiguration", &found.len().to_string(), message));
    }
    let mut put: Vec<Put> = Vec::with_capacity(found.len());
    for (service, element) in found {
        let new = read_one(service, element, targets)?;
        if put.iter().any(|other| other.rule.id == new.rule.id) {
            let message = "Same ID used for multiple configurations. IDs must be unique";
            return Err(invalid_argument("Id", &new.rule.id, message));
        }
        if put.iter().any(|other| other.rule.overlaps(&new.rule)) {
            let message = "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are overlapping for the same event type.";
            return Err(invalid_argument(service.element(), &new.rule.id, message));
        }
        put.push(new);
    }
    Ok(put)
}

fn read_one(service: Service, element: &Element, targets: Option<&EventTargets>) -> S3Result<Put> {
    let ([id, arn, filter], events) = element.fields_and_some(["Id", service.arn(), "Filter"], "Event", 64)?;
    let id = match id.map(Element::value).transpose()?.filter(|id| !id.is_empty()) {
        Some(id) if id.chars().count() > ID_MAX_CHARS => {
            return Err(invalid_argument("Id", id, "ID length should not exceed allowed limit of 255"));
        }
        Some(id) => id.to_owned(),
        None => hex::encode(rand::random::<[u8; 16]>()),
    };
    let arn = element.required(arn, service.arn())?.word()?.to_owned();
    let events: Vec<String> =
        events.into_iter().map(|event| event.word().map(ToOwned::to_owned)).collect::<Result<_, _>>()?;
    let mut kinds = Vec::new();
    for event in &events {
        kinds.extend(meant(event)?);
    }
    kinds.sort_unstable();
    kinds.dedup();
    let filter = filter.map(read_filter).transpose()?;
    let (prefix, suffix) = predicates(filter.as_deref().unwrap_or_default())?;
    let target = targets.and_then(|targets| targets.named(service.in_arns(), &arn));
    let target = target.ok_or_else(|| unknown_target(service, &arn))?.to_owned();
    let rule = EventRule { id, target, kinds, prefix, suffix };
    Ok(Put { rule, service, arn, events, filter })
}

fn unknown_target(service: Service, arn: &str) -> S3Error {
    let message = "Unable to validate the following destination configurations";
    invalid_argument(service.arn(), arn, message)
}

/// The kinds of events that a name means.
fn meant(event: &str) -> S3Result<Vec<EventKind>> {
    if NEVER.iter().any(|never| event.starts_with(never)) {
        return Err(s3_error!(NotImplemented, "Events of type {event} are not implemented."));
    }
    let name = event.strip_prefix("s3:").unwrap_or_default();
    let family = name.strip_suffix('*').filter(|family| FAMILIES.contains(family));
    let named = EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Test);
    let kinds: Vec<EventKind> = named
        .filter(|kind| kind.name() == name || family.is_some_and(|family| kind.name().starts_with(family)))
        .collect();
    if kinds.is_empty() {
        return Err(invalid_argument("Event", event, "The event is not supported for notifications"));
    }
    Ok(kinds)
}

fn read_filter(filter: &Element) -> S3Result<Vec<(String, String)>> {
    let [key] = filter.fields(["S3Key"])?;
    let Some(key) = key else { return Ok(Vec::new()) };
    let ([], rules) = key.fields_and_list([], Some("FilterRule"))?;
    let read = |rule: &Element| -> S3Result<(String, String)> {
        let [name, value] = rule.fields(["Name", "Value"])?;
        let name = rule.required(name, "Name")?.word()?.to_owned();
        Ok((name, rule.required(value, "Value")?.value()?.to_owned()))
    };
    rules.into_iter().map(read).collect()
}

fn predicates(rules: &[(String, String)]) -> S3Result<(String, String)> {
    let (mut prefix, mut suffix) = (None, None);
    for (name, value) in rules {
        let field = match name.to_ascii_lowercase().as_str() {
            "prefix" => &mut prefix,
            "suffix" => &mut suffix,
            _ => {
                let message = "filter rule name must be either prefix or suffix";
                return Err(invalid_argument("FilterRule.Name", name, message));
            }
        };
        if value.len() > VALUE_MAX_BYTES {
            let message = "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation";
            return Err(invalid_argument("FilterRule.Value", value, message));
        }
        if field.replace(value.clone()).is_some() {
            let message = format!("Cannot specify more than one {} rule in a filter.", name.to_ascii_lowercase());
            return Err(invalid_argument("FilterRule.Name", name, message));
        }
    }
    Ok((prefix.unwrap_or_default(), suffix.unwrap_or_default()))
}

pub(super) fn write(put: &[Put]) -> Bytes {
    Writer::document("NotificationConfiguration", |xml| {
        for put in put {
            xml.element(put.service.element(), |xml| put.write(xml));
        }
    })
}

impl Put {
    fn write(&self, xml: &mut Writer) {
        xml.text("Id", &self.rule.id);
        xml.text(self.service.arn(), &self.arn);
        for event in &self.events {
            xml.text("Event", event);
        }
        let Some(rules) = &self.filter else { return };
        xml.element("Filter", |xml| {
            xml.element("S3Key", |xml| {
                for (name, value) in rules {
                    xml.element("FilterRule", |xml| {
                        xml.text("Name", name);
                        xml.text("Value", value);
                    });
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::{
        events::{EventOptions, WebhookOptions},
        xml::parse,
    };

    fn targets() -> EventTargets {
        let webhook = WebhookOptions {
            name: "ci".into(),
            url: "http://127.0.0.1/".into(),
            token_file: None,
            ca_pem: None,
            timeout: Duration::from_secs(1),
        };
        EventTargets::new(EventOptions { webhooks: vec![webhook], ..EventOptions::default() }).unwrap()
    }

    fn configuration(inner: &str) -> S3Result<Vec<Put>> {
        let document = format!("<NotificationConfiguration>{inner}</NotificationConfiguration>");
        read(&parse(document.as_bytes()).unwrap(), Some(&targets()))
    }

    fn queue(id: &str, rest: &str) -> String {
        format!("<QueueConfiguration><Id>{id}</Id><Queue>arn:cairn:sqs::ci:webhook</Queue>{rest}</QueueConfiguration>")
    }

    fn filter(rules: &[(&str, &str)]) -> String {
        let rule = |(name, value): &(&str, &str)| {
            format!("<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>")
        };
        format!("<Filter><S3Key>{}</S3Key></Filter>", rules.iter().map(rule).collect::<String>())
    }

    const CREATED: &str = "<Event>s3:ObjectCreated:*</Event>";

    #[test]
    fn rules_come_back_as_they_were_put() {
        let topic = "<TopicConfiguration><Id>t</Id><Topic>arn:cairn:sns::ci:webhook</Topic>\
            <Event>s3:ObjectRemoved:Delete</Event></TopicConfiguration>";
        let two = format!("{CREATED}<Event>s3:ObjectTagging:Put</Event>");
        let filtered = queue("q &amp; r", &(two + &filter(&[("Suffix", ".jpg"), ("prefix", " a/")])));
        let put = configuration(&(topic.to_owned() + &filtered)).unwrap();
        let written = String::from_utf8(write(&put).to_vec()).unwrap();
        assert!(written.contains(&(topic.to_owned() + &filtered)), "{written}");
        let rule = &put[1].rule;
        assert_eq!((rule.target.as_str(), rule.prefix.as_str(), rule.suffix.as_str()), ("ci", " a/", ".jpg"));
        assert_eq!(rule.kinds.len(), 5);
        assert_eq!(configuration("").unwrap().len(), 0);
        let unnamed = configuration(&queue("", CREATED)).unwrap();
        assert_eq!(unnamed[0].rule.id.len(), 32, "it is given a name");
    }

    #[test]
    fn names_mean_the_kinds_of_their_family() {
        for (event, kinds) in [
            ("s3:ObjectCreated:*", 4),
            ("s3:ObjectRemoved:*", 2),
            ("s3:LifecycleExpiration:*", 2),
            ("s3:ObjectTagging:*", 2),
            ("s3:ObjectCreated:Put", 1),
        ] {
            assert_eq!(meant(event).unwrap().len(), kinds, "{event}");
        }
    }

    #[test]
    fn what_s3_does_not_take_or_nobody_would_be_told_is_refused() {
        let code = |inner: &str| match configuration(inner) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code().as_str().to_owned(),
        };
        let event = |event: &str| queue("q", &format!("<Event>{event}</Event>"));
        let filtered = |rules: &[(&str, &str)]| queue("q", &(CREATED.to_owned() + &filter(rules)));
        let long = "a".repeat(1025);
        for (inner, outcome) in [
            (queue("q", CREATED), "ok"),
            (queue("q", ""), "MalformedXML"),
            (queue("q", CREATED).replace("sqs", "sns"), "InvalidArgument"),
            (queue("q", CREATED).replace(":ci:", ":other:"), "InvalidArgument"),
            (queue("q", CREATED).replace("arn:cairn:sqs::ci:webhook", "http://169.254.169.254/"), "InvalidArgument"),
            (queue("q", CREATED) + &queue("q", "<Event>s3:ObjectRemoved:*</Event>"), "InvalidArgument"),
            (queue("q", CREATED) + &queue("r", CREATED), "InvalidArgument"),
            (queue("q", CREATED) + &queue("r", "<Event>s3:ObjectRemoved:*</Event>"), "ok"),
            (queue(&"q".repeat(256), CREATED), "InvalidArgument"),
            (event("s3:ObjectCreated"), "InvalidArgument"),
            (event("s3:*"), "InvalidArgument"),
            (event("s3:TestEvent"), "InvalidArgument"),
            (event("ObjectCreated:*"), "InvalidArgument"),
            (event("s3:ObjectRestore:*"), "NotImplemented"),
            (event("s3:Replication:*"), "NotImplemented"),
            (event("s3:LifecycleTransition"), "NotImplemented"),
            (event("s3:ObjectAcl:Put"), "NotImplemented"),
            (filtered(&[("prefix", "a"), ("suffix", "b")]), "ok"),
            (filtered(&[("prefix", "a"), ("Prefix", "b")]), "InvalidArgument"),
            (filtered(&[("middle", "a")]), "InvalidArgument"),
            (filtered(&[("prefix", &long)]), "InvalidArgument"),
            ("<EventBridgeConfiguration/>".into(), "NotImplemented"),
            ("<CloudFunctionConfiguration/>".into(), "NotImplemented"),
            ("<Other/>".into(), "MalformedXML"),
        ] {
            assert_eq!(code(&inner), outcome, "{inner}");
        }
        let many: String = (0..101).map(|id| queue(&id.to_string(), CREATED)).collect();
        assert_eq!(code(&many), "InvalidArgument");
    }
}
