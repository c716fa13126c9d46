//! The composition root: builds snapshots, runs the control loop, owns the life cycle.

mod build;
mod check;
mod control;
mod facts;
mod lifecycle;
mod service_manager;
mod workers;

pub use check::{Checked, check};
pub use lifecycle::run;
