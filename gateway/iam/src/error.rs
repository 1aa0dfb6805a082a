//! What can be wrong with a policy's text. S3 and IAM call all of it MalformedPolicy; the first words are theirs where
//! they have some, and what was wrong follows.

use std::fmt;

/// Why a text is no policy. Its `Display` is what a client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    pub fault: Fault,
    /// None if the fault lies outside of the statements.
    pub statement: Option<StatementName>,
}

/// Which statement of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementName {
    /// From 0.
    pub index: usize,
    pub sid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("Policies must be valid JSON and the first byte must be '{{': {0}")]
    NotJson(String),
    #[error("The policy has {bytes} bytes, more than the {most} that it may have")]
    TooLarge { bytes: usize, most: usize },
    #[error("The field {0} is given twice")]
    DuplicateField(String),
    #[error("Unknown field {0}")]
    UnknownField(String),
    #[error("Missing required field {0}")]
    MissingField(&'static str),
    #[error("{field} must be {expected}")]
    Shape { field: String, expected: &'static str },
    #[error("{0} and {1} cannot be given together")]
    Together(&'static str, &'static str),
    #[error("The policy must contain a valid version string, not {0}")]
    Version(String),
    #[error("Invalid effect: {0}")]
    Effect(String),
    #[error("Invalid Sid: {0}")]
    Sid(String),
    #[error("Statement IDs (Sid) in a single policy must be unique: {0}")]
    DuplicateSid(String),
    #[error("Policy has invalid action: {0}")]
    Action(String),
    #[error("Policy has invalid resource: {0}")]
    Resource(String),
    #[error("Invalid principal in policy: {0}")]
    Principal(String),
    #[error("Policy document should not specify a principal")]
    PrincipalGiven,
    #[error("NotPrincipal cannot be used to allow")]
    NotPrincipalAllows,
    #[error("Invalid Condition type: {0}")]
    Operator(String),
    #[error("Policy has an invalid condition key: {0}")]
    ConditionKey(String),
    #[error("Invalid value for {operator} of {key}: {value}")]
    ConditionValue { operator: String, key: String, value: String },
    #[error("Invalid policy variable: {0}")]
    Variable(String),
    #[error("Action does not apply to any resource(s) in statement: {0}")]
    ActionWithoutResource(String),
    #[error("Conditions do not apply to combination of actions and resources in statement: {0}")]
    ConditionWithoutAction(String),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)?;
        match &self.statement {
            Some(statement) => write!(f, " ({statement})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StatementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}", self.index + 1)?;
        match &self.sid {
            Some(sid) => write!(f, ", Sid {sid:?}"),
            None => Ok(()),
        }
    }
}
