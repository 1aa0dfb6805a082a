//! The cluster file: where a FoundationDB is. Checked before the client library sees it, because the library answers a
//! file that it cannot use with an error that names nothing, or by waiting for ever.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::text::Shown;

/// No real one is nearly as long.
const MAX_BYTES: u64 = 64 << 10;

/// The file that the client library takes: the one given, or the one of the environment, of the working directory, of
/// the system.
pub fn locate(given: Option<&Path>) -> PathBuf {
    if let Some(file) = given {
        return file.to_owned();
    }
    if let Some(file) = std::env::var_os("FDB_CLUSTER_FILE") {
        return file.into();
    }
    let here = Path::new("fdb.cluster");
    if here.exists() { here.to_owned() } else { foundationdb::default_config_path().into() }
}

/// Why the library could not use it.
pub fn check(file: &Path) -> Result<(), String> {
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| error.to_string())?;
    opened.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
    check_text(&text)
}

/// `description:id@coordinator,…`, with comments and white space between.
fn check_text(text: &str) -> Result<(), String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let line: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let Some((key, coordinators)) = line.split_once('@') else {
        return Err("not a cluster file: want description:id@address:port,…".into());
    };
    match key.split_once(':') {
        Some((description, id)) if !id.is_empty() && plain(description) && plain(id) => {}
        _ => return Err(format!("{} is not description:id in letters, digits and underscores", Shown(key))),
    }
    coordinators.split(',').try_for_each(check_coordinator)
}

/// `address:port`, `[address]:port` or `name:port`, perhaps with `:tls` behind.
fn check_coordinator(text: &str) -> Result<(), String> {
    let place = text.strip_suffix(":tls").unwrap_or(text);
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    match place.rsplit_once(':') {
        Some((host, number)) if !host.is_empty() && port(number) => Ok(()),
        _ => Err(format!("coordinator {} is not address:port", Shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_library_takes() {
        let good = [
            "test:test@127.0.0.1:4500",
            "# a comment\n\n a_b:c9@10.0.0.1:4500:tls,[::1]:4501,fdb-1.example.net:4500:tls # another\n",
            "d:i@\n127.0.0.1:1,\n127.0.0.2:1\n",
        ];
        for text in good {
            assert_eq!(check_text(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_the_library_would_wait_for() {
        let bad = [
            "",
            "# nothing",
            "test@127.0.0.1:4500",
            "t:@127.0.0.1:4500",
            "t-t:t@127.0.0.1:4500",
            "t:t@",
            "t:t@127.0.0.1",
        ];
        let worse = ["t:t@127.0.0.1:0", "t:t@127.0.0.1:70000", "t:t@127.0.0.1:4500,", "t:t@:4500", "\u{0}@:"];
        for text in bad.into_iter().chain(worse) {
            assert!(check_text(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_no_more_than_a_cluster_file() {
        assert!(check(Path::new("/dev/zero")).is_err());
        assert!(check(Path::new("/")).is_err());
    }
}
