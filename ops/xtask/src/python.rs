//! The Python with the S3 clients: a virtual environment under the target folder, made anew when the pinned list
//! or its own place changes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::workspace::{root, target};

/// The environment's `bin` folder.
pub(crate) fn environment() -> Result<PathBuf, String> {
    let list = root().join("ops/clients/requirements.txt");
    let listed = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let folder = target().join("clients-venv");
    // Its scripts name their own folder: in a clone that was moved or copied they start nothing.
    let wanted = format!("{}\n{listed}", folder.display());
    let (bin, mark) = (folder.join("bin"), folder.join("installed.txt"));
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(bin);
    }
    let _ = fs::remove_dir_all(&folder);
    run(Command::new("python3").arg("-m").arg("venv").arg(&folder))?;
    run(Command::new(bin.join("python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&list))?;
    fs::write(&mark, wanted).map_err(|error| error.to_string())?;
    Ok(bin)
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = Path::new(command.get_program()).display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
