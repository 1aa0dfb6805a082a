//! Real S3 clients against a cluster: a check script of `ops/clients` is run and its verdict taken.

use std::process::Command;

use crate::{
    ChaosError,
    cluster::{ACCESS_KEY, SECRET_KEY},
    setting::Setting,
    target::Target,
};

/// The scripts, in the order in which they run.
pub const SCRIPTS: [&str; 5] = ["semantics.py", "answers.py", "bad_input.py", "wire.py", "round_trip.py"];

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let cluster = Target::start(setting, folder.path())?;
    cluster.until_writable().await?;
    for script in SCRIPTS {
        println!("-- {script}");
        let status = Command::new(&setting.python)
            .arg(setting.clients.join(script))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PATH", setting.path())
            .env("CAIRN_ENDPOINT", cluster.endpoint()?)
            .env("CAIRN_ADMIN", cluster.admin()?)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .status()
            .map_err(ChaosError::io(format!("run {script}")))?;
        if !status.success() {
            return Err(ChaosError::Workload(format!("{script} found failures")));
        }
    }
    cluster.stop()
}
