//! The command line of `cairn admin access`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{api_args::ApiArgs, limits::LimitArgs};
use crate::config::Period;

#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    #[command(subcommand)]
    pub command: AccessCommand,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Create users, and say what they may do
    #[command(subcommand)]
    User(UserCommand),
    /// Groups of users who have policies in common
    #[command(subcommand)]
    Group(GroupCommand),
    /// Policies that users and groups share by their names
    #[command(subcommand)]
    Policy(SharedPolicyCommand),
    /// Access keys of users; their secrets are shown once, when they are made
    #[command(subcommand)]
    Key(KeyCommand),
    /// Say whether a user may do something, and by which statement
    #[command(after_help = "Example:\n  cairn admin access explain --user alice --action s3:GetObject --resource \
        arn:aws:s3:::photos/cat.jpg --with aws:SourceIp=192.0.2.1")]
    Explain {
        #[arg(long)]
        user: String,
        /// Such as s3:GetObject
        #[arg(long)]
        action: String,
        /// Such as arn:aws:s3:::bucket/key
        #[arg(long, value_name = "ARN")]
        resource: String,
        /// A condition key of the request and its value; may be given several times
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        with: Vec<(String, String)>,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Bound the requests of a user on each node; what is not named stays as it is
    ///
    /// What is more is refused with 503 SlowDown. Without limits no user has more than three quarters of all requests
    /// that a node answers at the same time, less the more others have.
    #[command(after_help = "Example:\n  cairn admin access user limit alice --per-second 100 --concurrent none")]
    Limit {
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Create a user whom nothing is allowed so far
    #[command(after_help = "Example:\n  cairn admin access user create alice")]
    Create { name: String },
    /// List the names of users
    #[command(after_help = "Example:\n  cairn admin access user list --after alice")]
    List {
        /// Those whose names come after this one
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
    },
    /// Show a user's policies, groups and keys, without secrets
    #[command(after_help = "Example:\n  cairn admin access user show alice")]
    Show { name: String },
    /// Let the keys of a user work again
    #[command(after_help = "Example:\n  cairn admin access user enable alice")]
    Enable { name: String },
    /// Let no key of a user work, within 3 seconds
    #[command(after_help = "Example:\n  cairn admin access user disable alice")]
    Disable { name: String },
    /// Give a user a shared policy, or one of its own from a file
    #[command(after_help = "Example:\n  cairn admin access user attach alice photos\n  \
        cairn admin access user attach alice own --file policy.json")]
    Attach {
        name: String,
        policy: String,
        /// The policy itself, for this user only
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Take a policy from a user
    #[command(after_help = "Example:\n  cairn admin access user detach alice photos")]
    Detach { name: String, policy: String },
    /// Put a user into a group
    #[command(after_help = "Example:\n  cairn admin access user join alice readers")]
    Join { name: String, group: String },
    /// Take a user out of a group
    #[command(after_help = "Example:\n  cairn admin access user leave alice readers")]
    Leave { name: String, group: String },
    /// Delete a user who has no access keys any more
    #[command(after_help = "Example:\n  cairn admin access user delete alice")]
    Delete { name: String },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Create a group
    #[command(after_help = "Example:\n  cairn admin access group create readers")]
    Create { name: String },
    /// List the names of groups
    #[command(after_help = "Example:\n  cairn admin access group list")]
    List {
        /// Those whose names come after this one
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
    },
    /// Show a group's policies and its first thousand members
    #[command(after_help = "Example:\n  cairn admin access group show readers")]
    Show { name: String },
    /// Give a group a shared policy, or one of its own from a file
    #[command(after_help = "Example:\n  cairn admin access group attach readers photos")]
    Attach {
        name: String,
        policy: String,
        /// The policy itself, for this group only
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Take a policy from a group
    #[command(after_help = "Example:\n  cairn admin access group detach readers photos")]
    Detach { name: String, policy: String },
    /// Delete a group that has no members any more
    #[command(after_help = "Example:\n  cairn admin access group delete readers")]
    Delete { name: String },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SharedPolicyCommand {
    /// Create or replace a policy; it holds within 3 seconds for all who have it
    #[command(after_help = "Example:\n  cairn admin access policy put photos --file policy.json")]
    Put {
        name: String,
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List the names of policies
    #[command(after_help = "Example:\n  cairn admin access policy list")]
    List {
        /// Those whose names come after this one
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
    },
    /// Print a policy as it was put
    #[command(after_help = "Example:\n  cairn admin access policy show photos")]
    Show { name: String },
    /// Delete a policy that nobody has any more
    #[command(after_help = "Example:\n  cairn admin access policy delete photos")]
    Delete { name: String },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key for a user; this is the only time that its secret is shown
    #[command(after_help = "Example:\n  cairn admin access key create alice --expires-in 90d\n  \
        cairn admin access key create alice --session-policy backup.json")]
    Create {
        user: String,
        /// When it stops to work [default: never]
        #[arg(long, value_name = "PERIOD")]
        expires_in: Option<Period>,
        /// A policy that limits this key, whatever else its user may do
        #[arg(long, value_name = "FILE")]
        session_policy: Option<PathBuf>,
    },
    /// Make a key in the place of another, which works on for a while
    #[command(after_help = "Example:\n  cairn admin access key rotate AKIAEXAMPLE --grace 7d")]
    Rotate {
        access_key: String,
        /// How long the old one works
        #[arg(long, value_name = "PERIOD", default_value = "1d")]
        grace: Period,
    },
    /// Let a key work again
    #[command(after_help = "Example:\n  cairn admin access key enable AKIAEXAMPLE")]
    Enable { access_key: String },
    /// Let a key not work, within 3 seconds
    #[command(after_help = "Example:\n  cairn admin access key disable AKIAEXAMPLE")]
    Disable { access_key: String },
    /// Set when a key stops to work
    #[command(after_help = "Example:\n  cairn admin access key expire AKIAEXAMPLE --after 1h")]
    Expire {
        access_key: String,
        /// From now on [default: never]
        #[arg(long, value_name = "PERIOD")]
        after: Option<Period>,
    },
    /// Delete a key
    #[command(after_help = "Example:\n  cairn admin access key delete AKIAEXAMPLE")]
    Delete { access_key: String },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "want KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
