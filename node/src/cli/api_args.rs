//! Options that all commands to the admin API have.

use clap::Args;

/// Which node is asked, and how it is told.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// The admin API of any node
    #[arg(long, global = true, value_name = "URL", env = "CAIRN_ADMIN", default_value = "http://127.0.0.1:9001")]
    pub admin: String,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}
