//! Threads and the values they share: workers, publication, drain, and what becomes of a
//! process that has a fault.

pub mod allocator;
pub mod clock;
pub mod confine;
pub mod drain;
#[cfg(debug_assertions)]
pub mod fault;
pub mod files;
pub mod memory;
pub mod panics;
pub mod place;
pub mod pressure;
pub mod progress;
pub mod publish;
pub mod room;
pub mod worker;

pub use clock::unix_now;
pub use drain::{Drain, Drained, Phase};
pub use panics::Vital;
pub use pressure::Pressure;
pub use progress::Progress;
pub use publish::Published;
pub use room::{Paced, Room};
