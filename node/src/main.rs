//! `cairn`: configuration, start-up, shutdown, the admin API and the command line.

mod admin;
mod certs;
mod cli;
mod config;
mod data_dir;
mod dev;
mod failure;
mod files;
mod give_up;
mod heap;
mod keys;
mod layout;
mod manager;
mod meta_server;
mod metadata;
mod named_store;
mod node;
mod notice;
mod placement;
mod preflight;
mod process;
mod ready_file;
mod renewal;
mod roles;
mod serve;
mod targets;
mod transfer;
mod words;

use std::{io::Write, path::Path, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::{
    cli::{
        AdminCommand, CertCommand, Cli, Command, ConfigCommand, LogArgs, MetadataCommand, SafeToStopArgs, ServeArgs,
        StatusArgs, StoreArgs, WhichDisks, status::StatusView,
    },
    config::{LogFormat, LogSection, MetaFile, NodeFile},
    failure::Failure,
    metadata::Network,
    named_store::NamedStore,
};

/// Tasks that outlive an orderly stop are abandoned after this.
const RUNTIME_GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    heap::set_up();
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("cairn: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What the process ends with.
fn run(command: Command) -> Result<u8, Failure> {
    let done = match command {
        Command::Dev(args) => {
            let log = LogSection::default();
            let format = start_log(&args.log, &log)?;
            let json = format == LogFormat::Json;
            stopped_is_fine(serve(|max_fds, stop| async move { dev::run(&args, max_fds, json, stop).await }))
        }
        Command::Node(args) => stopped_is_fine(run_node(args)),
        Command::Meta(args) => stopped_is_fine(run_meta(args)),
        Command::Status(args) => return print_status(&args).map_err(|failure| failure.told(cli::UNKNOWN)),
        Command::Config(ConfigCommand::Check { file, syntax_only }) => print(&preflight::check(&file, !syntax_only)?),
        Command::Cert(CertCommand::NewCa { dir, name }) => {
            certs::new_ca(&dir, &name)?;
            print(&format!("made ca.pem and ca.key in {}\n", dir.display()))
        }
        Command::Cert(CertCommand::NewNode { dir, id, out }) => {
            let out = out.as_ref().unwrap_or(&dir);
            certs::new_node(&dir, &id, out)?;
            print(&format!("made {id}.pem and {id}.key in {}\n", out.display()))
        }
        Command::Admin(AdminCommand::Metadata(command)) => run_transfer(&command),
        Command::Admin(AdminCommand::GiveUp { store, which }) => run_give_up(&store, &which),
        Command::Admin(AdminCommand::Policy(args)) => print(&client_runtime()?.block_on(cli::policy::run(&args))?),
        Command::Admin(AdminCommand::Rates(args)) => print(&client_runtime()?.block_on(cli::rates::run(&args))?),
        Command::Admin(AdminCommand::Bucket(args)) => print(&client_runtime()?.block_on(cli::buckets::run(&args))?),
        Command::Admin(AdminCommand::Events(args)) => print(&client_runtime()?.block_on(cli::events::run(&args))?),
        Command::Admin(AdminCommand::SafeToStop(args)) => {
            return safe_to_stop(&args).map_err(|failure| failure.told(cli::stop::UNKNOWN));
        }
        Command::Admin(AdminCommand::Maintenance(args)) => {
            print(&client_runtime()?.block_on(cli::maintenance::run(&args))?)
        }
        Command::Admin(AdminCommand::Kms(args)) => print(&client_runtime()?.block_on(cli::kms::run(&args))?),
        Command::Admin(AdminCommand::Plan(args)) => client_runtime()?.block_on(cli::jobs::plan(&args, print)),
        Command::Admin(AdminCommand::Apply(args)) => print(&client_runtime()?.block_on(cli::jobs::apply(&args))?),
        Command::Admin(AdminCommand::Jobs(args)) => print(&client_runtime()?.block_on(cli::jobs::jobs(&args))?),
        Command::Admin(AdminCommand::Remove(args)) => print(&client_runtime()?.block_on(cli::jobs::remove(&args))?),
        Command::Admin(AdminCommand::Access(args)) => print(&client_runtime()?.block_on(cli::access::run(&args))?),
        Command::Disk(command) => {
            let wrong = cli::disk::run(&command, print)?;
            wrong.map_or(Ok(()), Err)
        }
        Command::Completions { shell } => print(&cli::completions::script(shell)?),
        Command::Durability(args) => print(&cli::durability::run(&args)?),
        Command::Version => print(&cli::version::text()),
    };
    done.map(|()| 0)
}

fn run_node(args: ServeArgs) -> Result<(), Failure> {
    let loaded = config::load::<NodeFile>(&args.config)?;
    let file = &loaded.file;
    let format = start_log(&args.log, &file.log)?;
    preflight::before_node(&loaded)?;
    // Declared here so that it is dropped after the runtime has ended.
    let network = Network::start(file.metadata.kind)?;
    let network = &network;
    serve(|max_fds, stop| async move {
        node::run(file, network, args.ready_file.as_deref(), max_fds, format == LogFormat::Json, stop).await
    })
}

fn run_meta(args: ServeArgs) -> Result<(), Failure> {
    let loaded = config::load::<MetaFile>(&args.config)?;
    let file = &loaded.file;
    let format = start_log(&args.log, &file.log)?;
    preflight::before_meta(&loaded)?;
    serve(|max_fds, stop| async move {
        meta_server::run(file, args.ready_file.as_deref(), max_fds, format == LogFormat::Json, stop).await
    })
}

fn run_transfer(command: &MetadataCommand) -> Result<(), Failure> {
    process::start_log(LogFormat::Human, Some("warn")).map_err(Failure::Log)?;
    let (MetadataCommand::Export { store, .. }
    | MetadataCommand::Import { store, .. }
    | MetadataCommand::Check { store }
    | MetadataCommand::Placement { store }) = command;
    let store = NamedStore::of(store)?;
    let network = Network::start(store.kind())?;
    let network = &network;
    serve(|_, stop| async move { print(&transfer::run(command, &store, network, stop, print).await?) })
}

fn run_give_up(store: &StoreArgs, which: &WhichDisks) -> Result<(), Failure> {
    process::start_log(LogFormat::Human, Some("warn")).map_err(Failure::Log)?;
    let store = NamedStore::of(store)?;
    let network = Network::start(store.kind())?;
    let network = &network;
    serve(|_, stop| async move { print(&give_up::run(which, &store, network, stop).await?) })
}

/// The command line's format wins over the file's.
fn start_log(args: &LogArgs, section: &LogSection) -> Result<LogFormat, Failure> {
    let format = args.log_format.unwrap_or(section.format);
    process::start_log(format, section.filter.as_deref()).map_err(Failure::Log)?;
    Ok(format)
}

/// Runs something that can be told to stop.
fn serve<F, T>(body: F) -> Result<(), Failure>
where
    F: FnOnce(Option<u64>, process::Stop) -> T,
    T: Future<Output = Result<(), Failure>>,
{
    let max_fds = process::raise_file_limit();
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let stop = process::stop_on_signals().map_err(Failure::Runtime)?;
        manager::keep_telling_that_it_lives();
        Box::pin(body(max_fds, stop)).await
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    result
}

/// An operator who stops a server that is still starting gets what was asked for.
fn stopped_is_fine(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(Failure::Interrupted) => Ok(()),
        result => result,
    }
}

/// One worker thread for each core.
fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().thread_name("cairn").build().map_err(Failure::Runtime)
}

/// For one exchange.
fn client_runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)
}

fn safe_to_stop(args: &SafeToStopArgs) -> Result<u8, Failure> {
    let told = client_runtime()?.block_on(cli::stop::run(args))?;
    print(&told.text)?;
    Ok(told.code)
}

fn print_status(args: &StatusArgs) -> Result<u8, Failure> {
    let json = client_runtime()?.block_on(async {
        let (admin, limit) = (&args.admin, admin::client::DEADLINE);
        let tell = || notice::on_terminal(&format!("waiting for the admin API at {admin}, for at most {limit:?}"));
        notice::while_waiting(admin::client::get(admin, "/v1/status"), tell).await
    })?;
    let view = StatusView::read(&json).map_err(|error| admin::client::ClientError::not_json(&args.admin, &error))?;
    match args.json {
        true => print(&String::from_utf8_lossy(&json))?,
        false => print(&view.in_words())?,
    }
    Ok(view.code())
}

/// Standard output may be a closed pipe; that is no panic.
fn print(text: &str) -> Result<(), Failure> {
    let path = Path::new("standard output");
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| files::FileError::new("write", path, error).into())
}
