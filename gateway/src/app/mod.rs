//! The composition root: builds snapshots, runs the control loop, owns the life cycle.

use crate::settings::Settings;

/// Runs the gateway until it has drained.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    drop(settings);
    Ok(())
}
