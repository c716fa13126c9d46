//! Tells the binary what it was built by and from: `YETT_RUSTC` and, in optimised builds, `YETT_REVISION`, which a
//! packager may set beforehand. A development build does not ask git, so that a commit does not make it build again.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=YETT_REVISION");
    let rustc = env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    // `rustc 1.95.0 (…)`: the number is what tells compilers apart.
    let number = rustc.as_deref().and_then(|line| line.split(' ').nth(1));
    println!("cargo::rustc-env=YETT_RUSTC={}", number.unwrap_or("unknown"));
    if env::var_os("YETT_REVISION").is_none() && env::var("PROFILE").is_ok_and(|profile| profile == "release")
    {
        // The log of HEAD changes with every commit and checkout, in work trees as well.
        if let Some(log) =
            output("git", &["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists())
        {
            println!("cargo::rerun-if-changed={log}");
        }
        if let Some(revision) = output("git", &["rev-parse", "--short=12", "HEAD"]) {
            println!("cargo::rustc-env=YETT_REVISION={revision}");
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let ran = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(ran.stdout).ok()?;
    ran.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
