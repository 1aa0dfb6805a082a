//! Does what a schedule says to a cluster that runs, never more at once than the scheme survives.

pub mod atlas;
pub mod cables;
pub mod glut;
pub mod injector;
pub mod scene;

pub use injector::{Event, Injector, Outcome};
pub use scene::{Scene, Second, Shared, Taken, watch};
