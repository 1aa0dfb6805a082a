//! What most scenarios run against: `cairn dev`, or a few node processes with their metadata in FoundationDB when one
//! is given.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    admin,
    cluster::{ACCESS_KEY, Cluster, Metadata, SECRET_KEY, Spec},
    dev::DevCluster,
    error::ChaosError,
    s3::{Account, S3},
    setting::Setting,
};

const READY: &str = "ready";
const WRITABLE: Duration = Duration::from_secs(60);

pub enum Target {
    /// None while it is dead.
    Dev {
        cluster: Option<DevCluster>,
        binary: PathBuf,
        folder: PathBuf,
    },
    Nodes(Box<Cluster>),
}

impl Target {
    pub fn start(setting: &Setting, folder: &Path) -> Result<Self, ChaosError> {
        if let Some(cluster_file) = &setting.fdb {
            // As `cairn dev`: two fragments of every stripe may be damaged at a time.
            let spec = Spec::six_racks(Metadata::fdb(cluster_file));
            return Ok(Self::Nodes(Box::new(Cluster::start(&setting.binary, folder, &spec)?)));
        }
        let cluster = DevCluster::start(&setting.binary, folder, &[])?;
        Ok(Self::Dev { cluster: Some(cluster), binary: setting.binary.clone(), folder: folder.into() })
    }

    fn place(&self) -> Result<(&str, &str), ChaosError> {
        let dead = || ChaosError::Workload("the cluster is dead".into());
        match self {
            Self::Dev { cluster, .. } => {
                let cluster = cluster.as_ref().ok_or_else(dead)?;
                Ok((&cluster.endpoint, &cluster.admin))
            }
            Self::Nodes(cluster) => {
                let node = cluster.nodes.first().ok_or_else(dead)?;
                Ok((&node.s3, &node.admin))
            }
        }
    }

    /// One S3 endpoint.
    pub fn endpoint(&self) -> Result<&str, ChaosError> {
        Ok(self.place()?.0)
    }

    /// The admin port of the same process.
    pub fn admin(&self) -> Result<&str, ChaosError> {
        Ok(self.place()?.1)
    }

    pub fn s3(&self) -> Result<S3, ChaosError> {
        let endpoint = self.endpoint()?.to_owned();
        Ok(S3::new(Account { endpoint, access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() }))
    }

    /// Waits until an erasure-coded object can be written and is gone again: nodes that are processes of their own must
    /// first find each other.
    pub async fn until_writable(&self) -> Result<(), ChaosError> {
        let s3 = self.s3()?;
        s3.create_bucket(READY).await?;
        let put = async || Ok(s3.put(READY, "object", Bytes::from(vec![7; 1 << 20])).await?);
        admin::until("an object to be written", WRITABLE, put, |()| true).await?;
        s3.delete(READY, "object").await?;
        Ok(s3.delete_bucket(READY).await?)
    }

    /// The folder with every disk of every node.
    pub fn data(&self) -> PathBuf {
        match self {
            Self::Dev { folder, .. } => folder.join("data"),
            Self::Nodes(cluster) => cluster.folder().to_owned(),
        }
    }

    /// SIGKILL of every process, as a power cut of the whole machine but for its page cache.
    pub fn kill(&mut self) {
        match self {
            Self::Dev { cluster, .. } => {
                if let Some(cluster) = cluster.take() {
                    cluster.kill();
                }
            }
            Self::Nodes(cluster) => cluster.kill_all(),
        }
    }

    /// After [`Target::kill`], in the same place.
    pub fn revive(&mut self) -> Result<(), ChaosError> {
        match self {
            Self::Dev { cluster, binary, folder } => {
                *cluster = Some(DevCluster::start(binary, folder, &[])?);
                Ok(())
            }
            Self::Nodes(cluster) => cluster.revive(),
        }
    }

    /// As an operator would; every process must end well.
    pub fn stop(self) -> Result<(), ChaosError> {
        match self {
            Self::Dev { cluster, .. } => cluster.map_or(Ok(()), DevCluster::stop),
            Self::Nodes(cluster) => cluster.stop(),
        }
    }
}
