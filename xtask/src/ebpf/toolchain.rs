//! The one toolchain that builds for the kernel here: Debian's rustc-web, which brings the core library for the target,
//! driven by rustup's cargo, and bpf-linker over the same LLVM. Both are pinned; the object's bytes follow from them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cargo;
use crate::stage::call;
use crate::test::in_ci;
use crate::tools;

/// Debian's compiler, where its package puts it.
const RUSTC: &str = "/usr/bin/rustc";
/// The packages in the version that the committed object was built with. The archive has older ones, too.
const PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
const PACKAGES_VERSION: &str = "1.96.0+dfsg1-1~deb12u2";
/// What bpf-linker is built against; it must be the compiler's own.
const LLVM_MAJOR: &str = "22";
const LINKER_VERSION: &str = "0.13.0";
/// The kernel's target, for machines with the little end first.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Who built an object; equal ones give equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toolchain {
    /// The first line of `rustc -vV`.
    pub(crate) rustc: String,
    /// The LLVM in it.
    pub(crate) llvm: String,
    /// bpf-linker's version.
    pub(crate) bpf_linker: String,
}

/// The toolchain, installed where that is allowed.
///
/// # Errors
/// When it is not there and cannot be installed; the message says how.
pub(crate) fn ready() -> Result<Toolchain> {
    if compiler().is_err() && tools::can_install() {
        let pinned: Vec<String> = PACKAGES.iter().map(|name| format!("{name}={PACKAGES_VERSION}")).collect();
        let pinned: Vec<&str> = pinned.iter().map(String::as_str).collect();
        println!("installing Debian packages: {}", pinned.join(" "));
        if tools::install(&pinned).is_err() {
            println!("Debian no longer has that version; taking the one it has");
            tools::install(PACKAGES)?;
        }
    }
    let toolchain = compiler().with_context(|| {
        format!(
            "on Debian 12: sudo apt-get install --no-install-recommends {} (version {PACKAGES_VERSION})",
            PACKAGES.join(" ")
        )
    })?;
    linker()?;
    Ok(toolchain)
}

/// What is installed, without installing anything.
///
/// # Errors
/// When the compiler or its core library for the kernel's target is not there, or its LLVM is another one.
pub(crate) fn compiler() -> Result<Toolchain> {
    let told = Command::new(RUSTC).arg("-vV").output().with_context(|| format!("starting {RUSTC}"))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let line = |begin: &str| told.lines().find_map(|line| line.strip_prefix(begin)).map(str::to_owned);
    let rustc = told.lines().next().with_context(|| format!("{RUSTC} says no version"))?.to_owned();
    let llvm = line("LLVM version: ").with_context(|| format!("{RUSTC} names no LLVM"))?;
    anyhow::ensure!(
        llvm.split('.').next() == Some(LLVM_MAJOR),
        "{RUSTC} ({rustc}) has LLVM {llvm}, bpf-linker is built for {LLVM_MAJOR}"
    );
    let core = Path::new("/usr/lib/rustlib").join(TARGET);
    anyhow::ensure!(core.is_dir(), "no core library for {TARGET} in {}", core.display());
    Ok(Toolchain { rustc, llvm, bpf_linker: LINKER_VERSION.to_owned() })
}

/// bpf-linker's path, built already or not.
///
/// # Errors
/// When there is no home directory.
pub(crate) fn linker_path() -> Result<PathBuf> {
    Ok(home()?.join("bin/bpf-linker"))
}

fn home() -> Result<PathBuf> {
    Ok(tools::cache()?.join("tools").join(format!("bpf-linker-{LINKER_VERSION}")))
}

/// Builds bpf-linker once into the user's cache.
fn linker() -> Result<()> {
    if linker_path()?.exists() {
        return Ok(());
    }
    let home = home()?;
    println!("building bpf-linker {LINKER_VERSION} into {} (once)", home.display());
    // The build asks for a directory of LLVM's and needs of it one library, under the name without a version.
    let llvm = home.join("llvm");
    std::fs::create_dir_all(llvm.join("lib")).context("making bpf-linker's directory")?;
    let library = format!("/usr/lib/{}-linux-gnu/libLLVM.so.{LLVM_MAJOR}.1", std::env::consts::ARCH);
    let name = llvm.join("lib/libLLVM.so");
    if !name.is_symlink() {
        symlink(&library, &name).with_context(|| format!("linking {}", name.display()))?;
    }
    let mut build = cargo::command(["install", "bpf-linker", "--locked", "--no-default-features"]);
    build
        .args(["--features", &format!("llvm-{LLVM_MAJOR}"), "--version", LINKER_VERSION, "--root"])
        .arg(&home);
    call(build.env("LLVM_PREFIX", &llvm).env_remove("CARGO_TARGET_DIR"))
}

/// The linked object, with all its debug information.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn build() -> Result<Vec<u8>> {
    let target = cargo::target()?.join("ebpf");
    let mut build = cargo::command(["build", "--release", "--locked", "--target", TARGET]);
    if !in_ci() {
        build.arg("--quiet");
    }
    build
        .current_dir(cargo::root().join("gateway-ebpf"))
        .env("RUSTC", RUSTC)
        // aya-ebpf alone uses what is not stable yet.
        .env("RUSTC_BOOTSTRAP", "aya_ebpf")
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS");
    call(&mut build)?;
    let object = target.join(TARGET).join("release/yett");
    std::fs::read(&object).with_context(|| format!("reading {}", object.display()))
}

/// Flags that make the object, and make it the same wherever it is built.
fn flags() -> Result<Vec<String>> {
    let mut flags = vec![
        format!("-Clinker={}", linker_path()?.display()),
        "-Clink-arg=--btf".to_owned(),
        // Instructions on halves of registers (Linux 5.1), and loads at any address: every machine that we serve has
        // them, and reading a header byte by byte costs more than all that is decided about it.
        "-Ctarget-cpu=v3".to_owned(),
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        format!("--remap-path-prefix={}=/yett", cargo::root().display()),
    ];
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let registry = home.join("registry/src");
    // Nothing is unpacked before the first build; its paths are mapped all the same.
    let unpacked = std::fs::read_dir(&registry).into_iter().flatten().flatten();
    flags.push(format!("--remap-path-prefix={}=/registry", registry.display()));
    flags.extend(
        unpacked.map(|entry| format!("--remap-path-prefix={}=/registry/src", entry.path().display())),
    );
    Ok(flags)
}
