//! The certificate of https, renewed while the node serves: the files are read again and again, for whoever renews them
//! only replaces them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cairn_gateway::Certificate;
use tokio_util::task::AbortOnDropHandle;

/// How soon another certificate is shown. Reading two small files costs nothing.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The two files, and what was read of them last.
pub(crate) struct Files {
    cert: PathBuf,
    key: PathBuf,
    last: Option<(String, String)>,
    /// Why what was read last cannot be used, if it cannot, and in how many looks.
    wrong: Option<(String, u32)>,
}

/// What became of the files since the last look.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Same,
    Renewed,
    /// They cannot be used. Told at the second look that finds the same: they are not replaced both at once.
    Wrong(String),
}

impl Files {
    pub(crate) fn new(cert: PathBuf, key: PathBuf) -> Self {
        Self { cert, key, last: None, wrong: None }
    }

    /// Renews the certificate whenever the files change, until it is dropped.
    pub(crate) fn follow(mut self, certificate: Certificate) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                match self.look(&certificate).await {
                    Look::Renewed => {
                        tracing::info!(path = %self.cert.display(), "another certificate is shown to clients")
                    }
                    Look::Wrong(why) => {
                        tracing::error!(
                            why,
                            "the certificate in the files cannot be used: the one before is still shown"
                        );
                    }
                    Look::Same => {}
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }))
    }

    async fn look(&mut self, certificate: &Certificate) -> Look {
        let read = futures::future::try_join(read(&self.cert), read(&self.key)).await;
        let outcome = read.and_then(|now| {
            if self.last.as_ref() == Some(&now) {
                return Ok(false);
            }
            certificate.renew(&now.0, &now.1).map_err(|error| error.to_string())?;
            // The first look finds what the gateway was started with.
            Ok(self.last.replace(now).is_some())
        });
        match outcome {
            Ok(renewed) => {
                self.wrong = None;
                if renewed { Look::Renewed } else { Look::Same }
            }
            Err(why) => {
                let looks = self.wrong.take().filter(|(before, _)| *before == why).map_or(1, |(_, looks)| looks + 1);
                self.wrong = Some((why.clone(), looks));
                if looks == 2 { Look::Wrong(why) } else { Look::Same }
            }
        }
    }
}

async fn read(path: &Path) -> Result<String, String> {
    tokio::fs::read_to_string(path).await.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::certs;

    #[tokio::test]
    async fn another_certificate_is_taken_and_what_is_none_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let folder = folder.path().join(name);
            certs::new_ca(&folder, "cluster").unwrap();
            certs::new_node(&folder, &"n1".parse().unwrap(), &folder).unwrap();
            let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
            (read("n1.pem"), read("n1.key"))
        };
        let (first, second) = (made("first"), made("second"));
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        let write = |(cert_pem, key_pem): (&str, &str)| {
            std::fs::write(&cert, cert_pem).unwrap();
            std::fs::write(&key, key_pem).unwrap();
        };
        write((&first.0, &first.1));
        let certificate = Certificate::read(&first.0, &first.1).unwrap();
        let mut files = Files::new(cert.clone(), key.clone());
        assert_eq!((files.look(&certificate).await, files.look(&certificate).await), (Look::Same, Look::Same));
        // Half way between two, which is soon over, and then not.
        write((&second.0, &first.1));
        assert_eq!(files.look(&certificate).await, Look::Same);
        write((&second.0, &second.1));
        assert_eq!((files.look(&certificate).await, files.look(&certificate).await), (Look::Renewed, Look::Same));
        std::fs::remove_file(&key).unwrap();
        assert_eq!(files.look(&certificate).await, Look::Same);
        assert!(matches!(files.look(&certificate).await, Look::Wrong(why) if why.contains("key")));
        assert_eq!(files.look(&certificate).await, Look::Same);
        write((&first.0, &first.1));
        assert_eq!(files.look(&certificate).await, Look::Renewed);
    }
}
