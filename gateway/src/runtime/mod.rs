//! Threads and the values they share: workers, publication, drain.

pub mod publish;

pub use publish::Published;
