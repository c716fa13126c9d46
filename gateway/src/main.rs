//! The `yett` binary.

use std::process::ExitCode;

/// glibc's allocator keeps what bursts of connections have freed; mimalloc gives it back and is quicker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gateway::cli::main()
}
