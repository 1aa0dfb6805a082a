//! `cairn dev` as a process: the cluster a newcomer starts.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    cluster::{ACCESS_KEY, SECRET_KEY, free_tcp, wait_for_file},
    error::ChaosError,
    process::Process,
    s3::{Account, S3},
};

/// A running `cairn dev`, which dies with this value.
pub struct DevCluster {
    pub endpoint: String,
    pub admin: String,
    process: Process,
    data: PathBuf,
}

impl DevCluster {
    /// Starts `cairn dev` with its data below `folder` and waits until it serves. Started twice in one folder, it finds
    /// its data again.
    pub fn start(binary: &Path, folder: &Path, arguments: &[&str]) -> Result<Self, ChaosError> {
        let (s3, admin) = (free_tcp()?, free_tcp()?);
        let (data, ready) = (folder.join("data"), folder.join("ready.json"));
        let _ = std::fs::remove_file(&ready);
        let mut command = Command::new(binary);
        command
            .arg("dev")
            .arg("--data")
            .arg(&data)
            .args(["--s3", &s3, "--admin", &admin])
            .arg("--ready-file")
            .arg(&ready);
        command.args(arguments).env("CAIRN_ROOT_ACCESS_KEY", ACCESS_KEY).env("CAIRN_ROOT_SECRET_KEY", SECRET_KEY);
        let mut process = Process::start("cairn dev", command, &folder.join("log"))?;
        wait_for_file(&ready, &mut process)?;
        Ok(Self { endpoint: format!("http://{s3}"), admin: format!("http://{admin}"), process, data })
    }

    pub fn account(&self) -> Account {
        Account { endpoint: self.endpoint.clone(), access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() }
    }

    pub fn s3(&self) -> S3 {
        S3::new(self.account())
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The folder with every disk of every node.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// SIGKILL, as a power cut of the whole machine but for its page cache.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Ctrl-C by other means: it must end well.
    pub fn stop(mut self) -> Result<(), ChaosError> {
        self.process.terminate(Duration::from_secs(60))
    }
}
