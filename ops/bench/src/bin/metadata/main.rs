//! Figures of the metadata backends, as one table: a row for each measure, a column for each backend.
//!
//! Every backend is used through the verbs, as a node uses it. The embedded and the remote store are made in a
//! temporary folder, so that every commit is synced to the disk below `--folder`; FoundationDB is used under a prefix
//! of its own, which is cleared afterwards.

mod measures;
mod options;
mod requests;
mod stores;
mod table;

use std::process::ExitCode;

use clap::Parser;

use options::{Failure, Options};
use table::Table;

fn main() -> ExitCode {
    let options = Options::parse();
    match measured(&options) {
        Ok(table) => {
            table.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measured(options: &Options) -> Result<Table, Failure> {
    // Declared first, so dropped last: after the runtime and all that uses it.
    let network = stores::Network::start(&options.backend)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut table = Table::default();
    runtime.block_on(async {
        for kind in &options.backend {
            let store = stores::open(*kind, options, &network).await?;
            eprintln!("{}", store.name);
            table.column(store.name);
            let result = measures::run(&store, options, &mut table).await;
            store.close().await?;
            result?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(table)
}
