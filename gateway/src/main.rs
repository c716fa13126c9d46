//! The `yett` binary.
fn main() {}
