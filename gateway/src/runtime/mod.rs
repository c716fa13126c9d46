//! Threads and the values they share: workers, publication, drain.

pub mod clock;
pub mod drain;
pub mod publish;
pub mod worker;

pub use clock::unix_now;
pub use drain::{Drain, Drained, Phase};
pub use publish::Published;
