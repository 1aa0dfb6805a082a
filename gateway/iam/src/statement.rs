//! One statement of a policy.

use crate::{
    actions::ActionSet,
    conditions::{self, Condition, Effect},
    error::{Fault, PolicyError, StatementName},
    json::Json,
    principals::Principals,
    request::{Principal, Request},
    resources::{Reach, Resources},
    table::Level,
};

/// How statements of one policy are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Of a bucket's policy.
    pub(crate) bucket: Option<&'a str>,
    /// Whether the policy's version has variables.
    pub(crate) variables: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    /// None in policies that are attached to whom they are about.
    pub(crate) principals: Option<Principals>,
    pub(crate) actions: ActionSet,
    resources: Resources,
    /// It is about all but these resources.
    other_resources: bool,
    pub(crate) conditions: Vec<Condition>,
}

impl Statement {
    pub(crate) fn read(value: &Json, index: usize, rules: Rules<'_>) -> Result<Self, PolicyError> {
        let named = |sid: Option<&str>| Some(StatementName { index, sid: sid.map(str::to_owned) });
        let outside = |fault| PolicyError { fault, statement: named(None) };
        let fields = value.object("Statement").map_err(outside)?;
        let sid = match fields.iter().find(|(name, _)| name == "Sid") {
            Some((_, sid)) => Some(sid.text("Sid").map_err(outside)?).filter(|sid| !sid.is_empty()),
            None => None,
        };
        Self::read_fields(fields, sid, rules).map_err(|fault| PolicyError { fault, statement: named(sid) })
    }

    fn read_fields(fields: &[(String, Json)], sid: Option<&str>, rules: Rules<'_>) -> Result<Self, Fault> {
        const KNOWN: [&str; 9] = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        if let Some((unknown, _)) = fields.iter().find(|(name, _)| !KNOWN.contains(&&**name)) {
            return Err(Fault::UnknownField(unknown.clone()));
        }
        let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
        let one_of = |name: &'static str, not: &'static str| match (field(name), field(not)) {
            (Some(value), None) => Ok((value, name, false)),
            (None, Some(value)) => Ok((value, not, true)),
            (Some(_), Some(_)) => Err(Fault::Together(name, not)),
            (None, None) => Err(Fault::MissingField(name)),
        };
        // Users' policies are IAM's, which wants Sids to be plain.
        let plain = |sid: &str| sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if let Some(sid) = sid.filter(|sid| rules.bucket.is_none() && !plain(sid)) {
            return Err(Fault::Sid(sid.to_owned()));
        }
        let effect = match field("Effect").ok_or(Fault::MissingField("Effect"))?.text("Effect")? {
            "Allow" => Effect::Allow,
            "Deny" => Effect::Deny,
            other => return Err(Fault::Effect(other.to_owned())),
        };
        let principals = match (rules.bucket, one_of("Principal", "NotPrincipal")) {
            (None, Err(Fault::MissingField(_))) => None,
            (None, _) => return Err(Fault::PrincipalGiven),
            (Some(_), Ok((_, _, true))) if effect == Effect::Allow => return Err(Fault::NotPrincipalAllows),
            (Some(_), Ok((value, _, true))) => Some(Principals::read_not(value)?),
            (Some(_), Ok((value, _, false))) => Some(Principals::read(value)?),
            (Some(_), Err(fault)) => return Err(fault),
        };
        let (value, name, other_actions) = one_of("Action", "NotAction")?;
        let named_actions = ActionSet::read(value, name)?;
        let actions = ActionSet::of_all(&named_actions);
        let actions = if other_actions { actions.others() } else { actions };
        let (value, name, other_resources) = one_of("Resource", "NotResource")?;
        let resources = Resources::read(value, name, rules.bucket, rules.variables)?;
        let conditions = field("Condition").map(|value| conditions::read(value, rules.variables)).transpose()?;
        let statement = Self {
            sid: sid.map(str::to_owned),
            effect,
            principals,
            actions,
            resources,
            other_resources,
            conditions: conditions.unwrap_or_default(),
        };
        if let Some(bucket) = rules.bucket {
            statement.check_fit(bucket, if other_actions { &[] } else { &named_actions })?;
        }
        Ok(statement)
    }

    /// Refuses, as S3 does, actions that cannot be done to any of the resources, and conditions that no request for
    /// the actions can meet.
    fn check_fit(&self, bucket: &str, named_actions: &[(&str, ActionSet)]) -> Result<(), Fault> {
        let reach = match self.other_resources {
            true => Reach { bucket: true, objects: true },
            false => self.resources.reach(bucket),
        };
        let levels = [(reach.bucket, Level::Bucket), (reach.objects, Level::Object)];
        let levels: Vec<Level> = levels.into_iter().filter(|(reached, _)| *reached).map(|(_, level)| level).collect();
        let possible = ActionSet::at(&levels);
        if let Some((text, _)) = named_actions.iter().find(|(_, actions)| !actions.meets(possible)) {
            return Err(Fault::ActionWithoutResource((*text).to_owned()));
        }
        let unmet = self.conditions.iter().find(|condition| !self.actions.meets(ActionSet::having(condition.row)));
        match unmet {
            Some(condition) => Err(Fault::ConditionWithoutAction(condition.key.clone())),
            None => Ok(()),
        }
    }

    /// Whether the statement is about the request, which is for `action`.
    pub(crate) fn applies(&self, action: ActionSet, request: &Request<'_>) -> bool {
        self.actions.meets(action)
            && self.is_about(&request.principal)
            && self.reaches(request)
            && self.conditions.iter().all(|condition| condition.holds(self.effect, request.context))
    }

    fn is_about(&self, principal: &Principal<'_>) -> bool {
        self.principals.as_ref().is_none_or(|principals| match self.effect {
            Effect::Allow => principals.allow(principal),
            Effect::Deny => principals.deny(principal),
        })
    }

    fn reaches(&self, request: &Request<'_>) -> bool {
        match self.resources.include(request.resource, request.context) {
            Some(included) => included != self.other_resources,
            // What is left out cannot be told: too little is allowed then, and too much denied.
            None => self.other_resources && self.effect == Effect::Deny,
        }
    }

    /// The condition keys that it asks for.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.resources.keys().chain(self.conditions.iter().flat_map(Condition::keys))
    }
}
