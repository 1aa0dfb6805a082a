//! `cairn admin metadata export | import | check | placement`: all metadata as one file, from and to any backend; a
//! recount; and where everything is.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use cairn_schema::transfer::Totals;
use tokio::io::AsyncWriteExt;

use crate::{
    cli::MetadataCommand,
    failure::Failure,
    files::{self, FileError},
    metadata::{Network, Opened},
    named_store::NamedStore,
    placement::{self, Print},
    process::{Stop, stopped},
};

/// Does it, and says what was done; what is too long to be gathered is printed. `Interrupted` if `stop` comes first.
pub(crate) async fn run(
    command: &MetadataCommand,
    store: &NamedStore,
    network: &Network,
    stop: Stop,
    print: Print,
) -> Result<String, Failure> {
    let mut interrupted = stop.clone();
    tokio::select! {
        done = Box::pin(transfer(command, store, network, stop, print)) => done,
        () = stopped(&mut interrupted) => Err(Failure::Interrupted),
    }
}

async fn transfer(
    command: &MetadataCommand,
    store: &NamedStore,
    network: &Network,
    mut stop: Stop,
    print: Print,
) -> Result<String, Failure> {
    match command {
        MetadataCommand::Export { out, .. } => {
            store.must_exist()?;
            files::refuse_existing(&[out])?;
            let opened = store.open(network, &mut stop).await?;
            let totals = export(&opened, out).await;
            opened.close().await;
            Ok(format!("exported {} to {}\n", in_words(&totals?), out.display()))
        }
        MetadataCommand::Import { input, .. } => {
            let file = File::open(input).map_err(|error| FileError::new("open", input, error))?;
            let opened = store.open(network, &mut stop).await?;
            let mut file = tokio::io::BufReader::new(tokio::fs::File::from_std(file));
            let totals = opened.meta().import(&mut file).await.map_err(|error| opened.failure(error));
            opened.close().await;
            Ok(format!("imported {} from {}\n", in_words(&totals?), input.display()))
        }
        MetadataCommand::Check { .. } => {
            store.must_exist()?;
            let opened = store.open(network, &mut stop).await?;
            let checked = check(&opened).await;
            opened.close().await;
            checked
        }
        MetadataCommand::Placement { .. } => {
            store.must_exist()?;
            let opened = store.open(network, &mut stop).await?;
            let told = placement::tell(&opened, print).await;
            opened.close().await;
            told.map(|()| String::new())
        }
    }
}

/// Compares everything that is counted with a recount.
async fn check(opened: &Opened) -> Result<String, Failure> {
    let audit = opened.meta().audit().await.map_err(|error| opened.failure(error))?;
    if audit.problems == 0 {
        return Ok(format!(
            "{} objects of {} bytes, {} versions, {} blobs: counters, references and indexes agree\n",
            audit.objects, audit.bytes, audit.versions, audit.blobs
        ));
    }
    let first: Vec<String> = audit.first_problems.iter().map(ToString::to_string).collect();
    Err(Failure::Miscounted { problems: audit.problems, first: first.join("; ") })
}

/// Written aside and renamed when it is whole and synced: a file of this name is a valid export.
async fn export(opened: &Opened, out: &Path) -> Result<Totals, Failure> {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    let partial = Partial(PathBuf::from(name));
    let totals = write(opened, &partial.0).await?;
    files::rename(&partial.0, out)?;
    Ok(totals)
}

/// What is left of an export that failed or was interrupted helps nobody, so it goes.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a good export it has another name already.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn write(opened: &Opened, path: &Path) -> Result<Totals, Failure> {
    let file = tokio::fs::File::from_std(files::private(path)?);
    let mut writer = tokio::io::BufWriter::new(file);
    let totals = opened.meta().export(&mut writer).await.map_err(|error| opened.failure(error))?;
    let wrong = |error: std::io::Error| FileError::new("write", path, error);
    writer.flush().await.map_err(wrong)?;
    writer.get_ref().sync_all().await.map_err(wrong)?;
    Ok(totals)
}

fn in_words(totals: &Totals) -> String {
    format!("{} rows", totals.rows)
}
