//! Drives real Cairn processes from outside: starts clusters, breaks them, loads them and checks what they promised.
//! It knows the command line, the configuration, S3 and the admin port; never the code inside.

pub mod admin;
pub mod audit;
pub mod campaign;
pub mod cluster;
pub mod dev;
pub mod disk_files;
pub mod error;
pub mod fdb;
pub mod history;
pub mod inject;
pub mod inspect;
pub mod judge;
pub mod lab;
pub mod load;
pub mod process;
pub mod prometheus;
pub mod registers;
pub mod report;
pub mod run;
pub mod s3;
pub mod scenario;
pub mod script;
pub mod setting;
pub mod strace;
pub mod target;
pub mod traffic;

pub use error::ChaosError;
