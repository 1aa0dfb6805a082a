//! A FoundationDB of our own: one `fdbserver` process with its data in a folder that goes with the scenario.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{cluster::free_tcp, error::ChaosError, process::Process};

/// A new database is made, or an old one recovered, in this time.
const AVAILABLE: Duration = Duration::from_secs(60);
/// What one `fdbcli` may take; it is asked again until then.
const CLI_SECONDS: &str = "5";

/// One server that can be killed and started again in the same place; it dies with this value.
pub struct FdbServer {
    binary: PathBuf,
    folder: PathBuf,
    address: String,
    process: Option<Process>,
}

impl FdbServer {
    /// Starts `binary` with its data below `folder`, and makes a database; `fdbcli` must stand beside it.
    pub fn start(binary: &Path, folder: &Path) -> Result<Self, ChaosError> {
        fs::create_dir_all(folder.join("data")).map_err(ChaosError::io("create FoundationDB's folder"))?;
        let address = free_tcp()?;
        let mut server = Self { binary: binary.into(), folder: folder.into(), address, process: None };
        let text = format!("chaos:chaos@{}\n", server.address);
        fs::write(server.cluster_file(), text).map_err(ChaosError::io("write FoundationDB's cluster file"))?;
        server.revive()?;
        server.until_available("configure new single ssd")?;
        Ok(server)
    }

    pub fn cluster_file(&self) -> PathBuf {
        self.folder.join("fdb.cluster")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again, without waiting until it serves.
    pub fn revive(&mut self) -> Result<(), ChaosError> {
        let mut command = Command::new(&self.binary);
        command.arg("-C").arg(self.cluster_file()).args(["-p", &self.address, "-l", &self.address]);
        command.arg("-d").arg(self.folder.join("data")).arg("-L").arg(&self.folder).args(["--memory", "4GiB"]);
        command.args(["--locality-machineid", "m1", "--locality-zoneid", "z1"]);
        self.process = Some(Process::start("fdbserver", command, &self.folder.join("log"))?);
        Ok(())
    }

    /// Runs a command, then waits until the database is available.
    fn until_available(&mut self, first: &str) -> Result<(), ChaosError> {
        let ends = Instant::now() + AVAILABLE;
        loop {
            let said = self.cli(&format!("{first}; status minimal"))?;
            if said.contains("The database is available") {
                return Ok(());
            }
            if let Some(process) = &mut self.process
                && let Some(status) = process.exited()
            {
                return Err(ChaosError::Exited { name: process.name.clone(), status, log: process.log_tail() });
            }
            if Instant::now() > ends {
                return Err(ChaosError::NotInTime { what: "FoundationDB to be available".into(), detail: said });
            }
        }
    }

    fn cli(&self, commands: &str) -> Result<String, ChaosError> {
        let cli = self.binary.with_file_name("fdbcli");
        let mut command = Command::new(cli);
        command.arg("-C").arg(self.cluster_file()).args(["--timeout", CLI_SECONDS, "--exec", commands]);
        let output = command.output().map_err(ChaosError::io("run fdbcli"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
