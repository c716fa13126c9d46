//! Tells the binary what it was built by and from: `YETT_RUSTC` and, in optimised builds, `YETT_REVISION`, which a
//! packager may set beforehand. A development build does not ask git, so that a commit does not make it build again.
//!
//! Embeds the committed kernel object, so that a plain build needs no toolchain of the kernel's; `YETT_EBPF_OBJECT`
//! names another one instead. Where the committed one is older than its sources the build says so, and
//! `cargo xtask ci` fails.

#[path = "../xtask/src/ebpf/sources.rs"]
mod sources;

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    kernel_object();
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

/// Where the kernel object is that gets embedded: `YETT_EBPF_OBJECT_EMBEDDED`.
fn kernel_object() {
    println!("cargo::rerun-if-env-changed=YETT_EBPF_OBJECT");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let object = match env::var_os("YETT_EBPF_OBJECT") {
        Some(other) => other.into(),
        None => {
            warn_when_stale(&root);
            root.join("gateway-ebpf/prebuilt/yett.bpf.o")
        }
    };
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=YETT_EBPF_OBJECT_EMBEDDED={}", object.display());
}

fn warn_when_stale(root: &Path) {
    let description = root.join("gateway-ebpf/prebuilt/prebuilt.toml");
    println!("cargo::rerun-if-changed={}", description.display());
    for file in sources::files(root).into_iter().flatten() {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let described = std::fs::read_to_string(&description).unwrap_or_default();
    if !sources::hash(root).is_ok_and(|hash| described.contains(&format!("sources = \"{hash}\""))) {
        println!("cargo::warning=the kernel object is older than its sources: run `cargo xtask ebpf build`");
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let ran = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(ran.stdout).ok()?;
    ran.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
