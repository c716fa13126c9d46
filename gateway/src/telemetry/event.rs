//! Named happenings.

/// Keeps repeated happenings apart.
#[derive(Debug, Default)]
pub struct Throttle;
