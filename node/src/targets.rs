//! The targets of events, as a configuration names them.

use cairn_actors::background::DeliveryTerms;
use cairn_gateway::{EventOptions, EventTargets, WebhookOptions};

use crate::{
    config::{NodeFile, WebhookSection},
    failure::Failure,
    files,
};

/// None if it names none.
pub(crate) fn of(file: &NodeFile) -> Result<Option<EventTargets>, Failure> {
    let events = &file.s3.events;
    if events.webhook.is_empty() {
        return Ok(None);
    }
    let webhooks = events.webhook.iter().map(webhook).collect::<Result<_, _>>()?;
    let terms =
        DeliveryTerms { dead_after: events.dead_after.0, refusals: events.refusals, ..DeliveryTerms::default() };
    let options = EventOptions { webhooks, terms, region: file.s3.region.clone() };
    EventTargets::new(options).map(Some).map_err(|error| Failure::Targets(error.to_string()))
}

fn webhook(section: &WebhookSection) -> Result<WebhookOptions, Failure> {
    let WebhookSection { name, url, ca, token_file, timeout } = section.clone();
    let ca_pem = ca.as_deref().map(files::read_text).transpose()?;
    Ok(WebhookOptions { name, url, token_file, ca_pem, timeout: timeout.0 })
}
