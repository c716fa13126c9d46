//! Inside of a container: the first process of its namespaces. It puts the file system together, starts the program, hands
//! signals on to it, and reaps what it leaves behind.
//!
//! Signals come as numbers on standard input, one a line, so that none is lost that comes before the program is there;
//! the end of the input is a SIGKILL. The program is not the first process of its namespace but the second: a signal that
//! it has not prepared for ends it.

use std::fs;
use std::io::{BufRead as _, stdin};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, pivot_root, wait};

use super::launch::{Launch, Mount};

/// What runtimes answer when the program cannot be started.
const NOT_STARTED: u8 = 128;

/// Becomes the container of this file.
pub fn contain(file: &Path) -> ExitCode {
    match start(file) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("cannot start the container: {error:#}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn start(file: &Path) -> Result<u8> {
    let launch: Launch = serde_json::from_slice(&fs::read(file)?)?;
    if launch.has_low_ports {
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").context("opening low ports")?;
    }
    furnish(&launch)?;
    if let Some(hostname) = &launch.hostname {
        rustix::system::sethostname(hostname.as_bytes()).context("naming the container")?;
    }
    let mut program = Command::new("/usr/bin/setpriv");
    program.args(&launch.privileges).arg("--").args(&launch.arguments);
    program.env_clear().envs(launch.environment.iter().map(|(name, value)| (name, value)));
    program.current_dir(&launch.folder).stdin(Stdio::null());
    let child = program.spawn().with_context(|| format!("starting {}", launch.arguments[0]))?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
    thread::spawn(move || hand_on(id));
    loop {
        let Some((ended, status)) = wait(WaitOptions::empty())? else { continue };
        if ended == id {
            let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
            return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED));
        }
    }
}

fn hand_on(program: Pid) {
    for line in stdin().lock().lines().map_while(Result::ok) {
        if let Some(signal) = line.parse().ok().and_then(Signal::from_named_raw) {
            kill_process(program, signal).ok();
        }
    }
    kill_process(program, Signal::KILL).ok();
}

/// Puts the file system together and makes it ours.
fn furnish(launch: &Launch) -> Result<()> {
    let root = launch.root.as_path();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    fs::create_dir_all(root)?;
    mount("tmpfs", root, "tmpfs", MountFlags::empty(), Some(c"mode=755")).context("mounting the root")?;
    for name in
        ["proc", "sys", "dev", "tmp", "run", "var/run", "var/tmp", "var/log", "etc", "root", "home", "usr"]
    {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o1777))?;
    }
    system(root)?;
    devices(&root.join("dev"))?;
    names(&root.join("etc"), launch)?;
    for mount in &launch.mounts {
        see(root, mount)?;
    }
    if let Some((from, to)) = &launch.program {
        see(root, &Mount { from: from.clone(), to: to.clone(), is_read_only: true })?;
    }
    let old = root.join(".old");
    fs::create_dir(&old)?;
    pivot_root(root, &old).context("changing the root")?;
    std::env::set_current_dir("/")?;
    unmount("/.old", UnmountFlags::DETACH).context("leaving the machine's files")?;
    fs::remove_dir("/.old")?;
    fs::create_dir_all(&launch.folder)?;
    if launch.is_read_only {
        mount_remount("/", MountFlags::RDONLY, "").context("shutting the root")?;
    }
    Ok(())
}

/// What of the machine every container sees, none of which it can change: programs, libraries, the kernel.
fn system(root: &Path) -> Result<()> {
    see(root, &Mount { from: "/usr".into(), to: "/usr".into(), is_read_only: true })?;
    // The program of an image may lie there.
    mount("tmpfs", root.join("usr/local"), "tmpfs", MountFlags::empty(), Some(c"mode=755"))?;
    fs::create_dir(root.join("usr/local/bin"))?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        let place = Path::new("/").join(name);
        match fs::read_link(&place) {
            Ok(target) => symlink(target, root.join(name))?,
            Err(_) if place.is_dir() => {
                see(root, &Mount { from: place, to: format!("/{name}"), is_read_only: true })?;
            }
            Err(_) => {}
        }
    }
    mount("proc", root.join("proc"), "proc", MountFlags::empty(), None).context("mounting /proc")?;
    mount("sysfs", root.join("sys"), "sysfs", MountFlags::RDONLY, None).context("mounting /sys")?;
    let groups = Path::new("/sys/fs/cgroup");
    if groups.is_dir() {
        mount_bind_recursive(groups, root.join("sys/fs/cgroup")).context("showing the control groups")?;
    }
    Ok(())
}

fn devices(folder: &Path) -> Result<()> {
    mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID, Some(c"mode=755")).context("mounting /dev")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        fs::write(folder.join(name), "")?;
        mount_bind(Path::new("/dev").join(name), folder.join(name))?;
    }
    let shared = folder.join("shm");
    fs::create_dir(&shared)?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777))?;
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(Path::new("/proc/self").join(target), folder.join(name))?;
    }
    Ok(())
}

fn names(folder: &Path, launch: &Launch) -> Result<()> {
    let hostname = launch.hostname.as_deref().unwrap_or("node");
    for (name, text) in [
        ("passwd", "root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/bin/false\n"),
        ("group", "root:x:0:\nnonroot:x:65532:\n"),
        ("hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {hostname}\n")),
        ("hostname", &format!("{hostname}\n")),
        ("resolv.conf", ""),
        ("nsswitch.conf", "hosts: files dns\n"),
    ] {
        fs::write(folder.join(name), text)?;
    }
    for name in ["ssl", "ld.so.cache", "ld.so.conf", "alternatives"] {
        let place = Path::new("/etc").join(name);
        if place.exists() {
            let to = place.display().to_string();
            see(
                folder.parent().context("/etc has a parent")?,
                &Mount { from: place, to, is_read_only: true },
            )?;
        }
    }
    Ok(())
}

/// Makes something of the machine's seen inside.
fn see(root: &Path, Mount { from, to, is_read_only }: &Mount) -> Result<()> {
    ensure!(!to.contains(".."), "{to} does not stay inside");
    let place = root.join(to.trim_start_matches('/'));
    if from.is_dir() {
        fs::create_dir_all(&place)?;
    } else if !place.exists() {
        fs::create_dir_all(place.parent().context("a mount is somewhere")?)?;
        fs::write(&place, "")?;
    }
    mount_bind_recursive(from, &place).with_context(|| format!("showing {} at {to}", from.display()))?;
    mount_change(&place, MountPropagationFlags::PRIVATE)?;
    if *is_read_only {
        mount_remount(&place, MountFlags::BIND | MountFlags::RDONLY, "")
            .with_context(|| format!("shutting {to}"))?;
    }
    Ok(())
}
