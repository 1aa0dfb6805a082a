//! Does what a schedule says to a cluster that runs, never more at once than the scheme survives.

pub mod atlas;
pub mod cables;
pub mod disks;
pub mod event;
pub mod glut;
pub mod injector;
pub mod scene;

pub use event::{Event, Outcome};
pub use injector::Injector;
pub use scene::{Scene, Second, Shared, Taken, watch};
