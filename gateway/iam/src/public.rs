//! What S3 calls public (the user guide's "The meaning of public", of Block Public Access). A policy is, until it is
//! shown that everything it allows is allowed to fixed principals, or by conditions of fixed values that tell who asks
//! or where from. A statement that denies makes nothing less public.

use crate::{
    conditions::{Condition, Effect},
    operators::{Comparison, Operator, Quantity},
    principals::Principals,
    statement::Statement,
};

/// The guide's keys, of those that there are, and what names a principal as exactly.
const KEYS: [&str; 5] = [
    "aws:SourceIp",
    "aws:userid",
    "aws:PrincipalArn",
    "aws:PrincipalAccount",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
];

pub(crate) fn is_public(statement: &Statement) -> bool {
    let to_anyone = matches!(statement.principals, Some(Principals::Everyone));
    statement.effect == Effect::Allow && to_anyone && !statement.conditions.iter().any(limits)
}

/// Whether no request passes but those of fixed values.
fn limits(condition: &Condition) -> bool {
    let Operator { quantity, comparison, negated, if_exists } = condition.operator;
    let compares = match comparison {
        Comparison::Text | Comparison::TextWithoutCase | Comparison::Like | Comparison::Arn => true,
        Comparison::Network => condition.row.name == "aws:SourceIp",
        _ => false,
    };
    // These let requests without the key pass.
    let passes_absent = negated || if_exists || quantity == Quantity::All;
    let of_whom = KEYS.contains(&condition.row.name);
    compares && of_whom && !passes_absent && condition.values.iter().all(|value| value.is_fixed())
}
