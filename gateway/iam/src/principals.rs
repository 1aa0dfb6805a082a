//! Whom a statement of a bucket's policy is about.

use std::ops::RangeInclusive;

use crate::{error::Fault, json::Json, request::Principal};

/// Characters of the unique id of a user.
const ID_CHARS: RangeInclusive<usize> = 16..=128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Account(String),
    /// Of a user, role or session.
    Arn(String),
    Id(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Principals {
    Everyone,
    These(Vec<Name>),
    /// For statements that deny.
    AllBut(Vec<Name>),
}

impl Principals {
    /// Reads Principal.
    pub(crate) fn read(value: &Json) -> Result<Self, Fault> {
        let texts = listed(value, "Principal")?;
        if texts.contains(&"*") {
            // The others are read nevertheless: they must be right.
            names(texts.into_iter().filter(|text| *text != "*"))?;
            return Ok(Self::Everyone);
        }
        names(texts.into_iter()).map(Self::These)
    }

    /// Reads NotPrincipal.
    pub(crate) fn read_not(value: &Json) -> Result<Self, Fault> {
        names(listed(value, "NotPrincipal")?.into_iter()).map(Self::AllBut)
    }

    /// Whether it is allowed to by a statement that allows. Naming the account allows nothing to its users: it says
    /// that the account may decide, which their own policies do.
    pub(crate) fn allow(&self, principal: &Principal<'_>) -> bool {
        match self {
            Self::Everyone => true,
            Self::These(names) => names.iter().any(|name| name.is_of(principal)),
            Self::AllBut(_) => false,
        }
    }

    /// Whether a statement that denies is about it. Naming the account means all who are in it, and NotPrincipal leaves
    /// out a user only if it names the user's account, too.
    pub(crate) fn deny(&self, principal: &Principal<'_>) -> bool {
        match self {
            Self::Everyone => true,
            Self::These(names) => names.iter().any(|name| name.is_of(principal) || name.is_account_of(principal)),
            Self::AllBut(names) => {
                let itself = names.iter().any(|name| name.is_of(principal));
                let account = names.iter().any(|name| name.is_account_of(principal));
                !(itself && account)
            }
        }
    }
}

impl Name {
    fn read(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts[..] {
            [account] if is_account(account) => Some(Self::Account(account.to_owned())),
            [id] => {
                let right = ID_CHARS.contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
                right.then(|| Self::Id(id.to_owned()))
            }
            ["arn", "aws", "iam", "", account, "root"] if is_account(account) => {
                Some(Self::Account(account.to_owned()))
            }
            ["arn", "aws", service, "", account, who] if is_account(account) => {
                let (kind, name) = who.split_once('/')?;
                let known = match service {
                    "iam" => matches!(kind, "user" | "role"),
                    "sts" => matches!(kind, "assumed-role" | "federated-user"),
                    _ => false,
                };
                // Principals cannot be named by wildcards.
                let right = known && !name.is_empty() && !name.contains(['*', '?']);
                right.then(|| Self::Arn(text.to_owned()))
            }
            _ => None,
        }
    }

    fn is_of(&self, principal: &Principal<'_>) -> bool {
        match (self, principal) {
            (_, Principal::Anonymous) => false,
            (Self::Account(name), Principal::Root { account }) => name == account,
            (Self::Arn(name), Principal::User { arn, .. }) => name == arn,
            (Self::Id(name), Principal::User { id, .. }) => name == id,
            (Self::Arn(_) | Self::Id(_), Principal::Root { .. }) | (Self::Account(_), Principal::User { .. }) => false,
        }
    }

    fn is_account_of(&self, principal: &Principal<'_>) -> bool {
        match (self, principal) {
            (Self::Account(name), Principal::Root { account } | Principal::User { account, .. }) => name == account,
            _ => false,
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The texts of `"*"` or `{"AWS": …}`. Services, federations and canonical users there are none.
fn listed<'a>(value: &'a Json, field: &'static str) -> Result<Vec<&'a str>, Fault> {
    match value {
        Json::Text(text) if text == "*" => Ok(vec![text]),
        Json::Text(text) => Err(Fault::Principal(text.clone())),
        other => {
            let fields = other.object(field)?;
            if let Some((kind, _)) = fields.iter().find(|(kind, _)| kind != "AWS") {
                return Err(Fault::Principal(kind.clone()));
            }
            let (_, value) =
                fields.first().ok_or(Fault::Shape { field: field.into(), expected: "\"*\" or {\"AWS\": …}" })?;
            value.texts(field)
        }
    }
}

fn names<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Name>, Fault> {
    texts.map(|text| Name::read(text).ok_or_else(|| Fault::Principal(text.to_owned()))).collect()
}
