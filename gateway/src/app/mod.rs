//! The composition root: builds snapshots, runs the control loop, owns the life cycle.

mod build;
mod control;
mod lifecycle;
mod service_manager;
mod workers;

pub use lifecycle::run;
