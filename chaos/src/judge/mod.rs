//! Whether what was promised held: judged from what clients were answered, from what is read at the end through every
//! node, and from the disks. What a cluster says of itself is compared, not believed.

pub mod finals;
pub mod verdict;

pub use finals::{Finals, look};
pub use verdict::{Held, Verdict, answers, figures, histories, silence};
