//! The roles of web identities, as a configuration names them.

use cairn_gateway::{WebIdentities, WebIdentityOptions};

use crate::{
    config::{NodeFile, WebIdentitySection},
    failure::Failure,
    files,
};

/// None if it names none.
pub(crate) fn of(file: &NodeFile) -> Result<Option<WebIdentities>, Failure> {
    let sections = &file.s3.web_identity;
    if sections.is_empty() {
        return Ok(None);
    }
    let options = sections.iter().map(options).collect::<Result<_, _>>()?;
    WebIdentities::new(options).map(Some).map_err(|error| Failure::Roles(error.to_string()))
}

fn options(section: &WebIdentitySection) -> Result<WebIdentityOptions, Failure> {
    let section = section.clone();
    Ok(WebIdentityOptions {
        name: section.name,
        issuer: section.issuer,
        ca_pem: section.ca.as_deref().map(files::read_text).transpose()?,
        client_ids: section.client_ids,
        policies: section.policies,
        groups: section.groups,
        policy_claim: section.policy_claim,
        group_claim: section.group_claim,
        longest: section.longest_session.0,
        keys_age: section.keys_age.0,
    })
}
