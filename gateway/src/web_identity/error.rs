//! What is wrong with a token, or with whoever could say.

/// Why a token gets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WebIdentityError {
    /// It is none of the provider's, or not for us.
    Invalid(String),
    Expired,
    /// The provider's keys are not known and cannot be fetched.
    Away(String),
    /// It says more than is looked at.
    Rejected(String),
}
