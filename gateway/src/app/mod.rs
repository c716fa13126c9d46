//! The composition root: builds snapshots, runs the control loop, owns the life cycle.
