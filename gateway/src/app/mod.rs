//! The composition root: builds snapshots, runs the control loop, owns the life cycle.

mod admin_sockets;
mod build;
mod check;
mod control;
mod deny;
mod estate;
mod facts;
mod kernel;
mod lifecycle;
mod service_manager;
mod upgrade;
mod workers;

pub use check::{Checked, check};
pub use lifecycle::run;
