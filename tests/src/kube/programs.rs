//! The programs of the cluster, and the Gateway API's definitions: built once by the Go command from the module in
//! `tests/kube/cluster`, then kept outside of the repository, by version.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::go;

/// What the cluster is made of, as `tests/kube/cluster/go.mod` says it too; a test compares them.
pub const KUBERNETES: &str = "1.37.2";
/// The Gateway API with its conformance suite.
pub const GATEWAY_API: &str = "1.7.0";

/// A program, the package that it is built from, and whether it is a test.
const PROGRAMS: [(&str, &str, Kind); 8] = [
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", Kind::Kubernetes),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", Kind::Kubernetes),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", Kind::Kubernetes),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", Kind::Kubernetes),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl", Kind::Kubernetes),
    ("etcd", "go.etcd.io/etcd/server/v3", Kind::Plain),
    ("echo-basic", "sigs.k8s.io/gateway-api-conformance-images/echo-basic", Kind::Plain),
    ("conformance", "./conformance", Kind::Test),
];

/// Where its definitions are, within the Gateway API's module.
const DEFINITIONS: [&str; 2] = ["standard", "experimental"];

/// How often a build that goes on says so.
const PROGRESS: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Told its version by the linker, as the releases are.
    Kubernetes,
    Plain,
    Test,
}

/// The folder that they all are in.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those that are built already.
    ///
    /// # Errors
    /// When some are not, with the command that builds them.
    pub fn built() -> Result<Self> {
        let programs = Self { folder: folder()? };
        if !programs.is_complete() {
            bail!("the cluster's programs are not built yet: `cargo xtask kube build` does it, once");
        }
        Ok(programs)
    }

    /// Builds what is missing; `say` hears how far it is. Minutes the first time, nothing afterwards.
    ///
    /// # Errors
    /// When the Go command is missing, or fails.
    pub fn build(say: &mut dyn FnMut(&str)) -> Result<Self> {
        let programs = Self { folder: folder()? };
        if programs.is_complete() {
            return Ok(programs);
        }
        fs::create_dir_all(&programs.folder).context("making the folder of the programs")?;
        let lock = File::create(programs.folder.join("lock")).context("making the lock of the build")?;
        lock.lock().context("waiting for another build of the same")?;
        say(&format!("building Kubernetes {KUBERNETES} into {} (once)", programs.folder.display()));
        let begun = Instant::now();
        for (number, (name, package, kind)) in PROGRAMS.into_iter().enumerate() {
            let target = programs.path(name);
            if target.exists() {
                continue;
            }
            let part = format!("{name} ({} of {})", number + 1, PROGRAMS.len());
            say(&part);
            // Named by its own name only when it is whole.
            let partial = target.with_extension("partial");
            compile(package, kind, &partial, &mut |count| {
                say(&format!("{part}: {count} packages, {} s", begun.elapsed().as_secs()));
            })?;
            fs::rename(&partial, &target).with_context(|| format!("naming {name}"))?;
        }
        programs.definitions()?;
        say(&format!("built in {} s", begun.elapsed().as_secs()));
        Ok(programs)
    }

    /// A program's path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The files that define the Gateway API's kinds in one of its channels, `standard` or `experimental`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn crds(&self, channel: &str) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("crds").join(channel);
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            files.push(entry?.path());
        }
        files.sort();
        Ok(files)
    }

    fn is_complete(&self) -> bool {
        PROGRAMS.iter().all(|(name, ..)| self.path(name).exists())
            && DEFINITIONS.iter().all(|channel| self.folder.join("crds").join(channel).exists())
    }

    /// Copies the definitions, so that the cache of modules may go.
    fn definitions(&self) -> Result<()> {
        let output = command()
            .args(["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api"])
            .output()
            .context("starting the Go command")?;
        ensure!(output.status.success(), "go list: {}", String::from_utf8_lossy(&output.stderr));
        let module = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        for channel in DEFINITIONS {
            let (from, to) =
                (module.join("config/crd").join(channel), self.folder.join("crds").join(channel));
            let partial = to.with_extension("partial");
            fs::create_dir_all(&partial)?;
            for entry in fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))? {
                let path = entry?.path();
                let Some(name) = path.file_name() else { continue };
                // The one file that is for another program.
                if name != "kustomization.yaml" {
                    fs::write(partial.join(name), fs::read(&path)?)?;
                }
            }
            if !to.exists() {
                fs::rename(&partial, &to)?;
            }
        }
        Ok(())
    }
}

fn compile(package: &str, kind: Kind, target: &Path, say: &mut dyn FnMut(usize)) -> Result<()> {
    let mut go = command();
    let flags = match kind {
        Kind::Kubernetes => {
            let (major, rest) = KUBERNETES.split_once('.').context("a version has dots")?;
            let (minor, _) = rest.split_once('.').context("a version has two dots")?;
            let at = "k8s.io/component-base/version";
            format!(
                "-s -w -X {at}.gitVersion=v{KUBERNETES} -X {at}.gitMajor={major} -X {at}.gitMinor={minor} \
                 -X {at}.gitTreeState=clean"
            )
        }
        Kind::Plain | Kind::Test => "-s -w".to_owned(),
    };
    go.args(if kind == Kind::Test { &["test", "-c"][..] } else { &["build"][..] });
    go.args(["-v", "-trimpath", "-ldflags", &flags, "-o"]).arg(target).arg(package);
    let mut child = go.stderr(Stdio::piped()).spawn().context("starting the Go command")?;
    let (mut count, mut said, mut last) = (0, Instant::now(), Vec::new());
    for line in BufReader::new(child.stderr.take().context("no standard error")?).lines() {
        let line = line?;
        // With -v there is a line for each package, and after it what went wrong.
        count += 1;
        if last.len() == 20 {
            last.remove(0);
        }
        last.push(line);
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            say(count);
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "go {package} ended with {status}:\n{}", last.join("\n"));
    Ok(())
}

fn command() -> Command {
    let mut go = go::command("kube/cluster", go::TOOLCHAIN);
    go.env("CGO_ENABLED", "0");
    go
}

/// By version, and by the sums of everything that goes into it.
fn folder() -> Result<PathBuf> {
    let module = go::folder("kube/cluster");
    let mut sum = Sha256::new();
    for file in ["go.mod", "go.sum", "conformance/conformance_test.go"] {
        sum.update(fs::read(module.join(file)).with_context(|| format!("reading {file}"))?);
    }
    sum.update(go::TOOLCHAIN);
    let sum: String = sum.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("yett/kube").join(format!("kubernetes-{KUBERNETES}-gateway-api-{GATEWAY_API}-{sum}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_has_the_versions_that_are_said() {
        let module = fs::read_to_string(go::folder("kube/cluster").join("go.mod")).unwrap();
        for wanted in [
            format!("k8s.io/kubernetes v{KUBERNETES}"),
            format!("sigs.k8s.io/gateway-api v{GATEWAY_API}"),
            format!("sigs.k8s.io/gateway-api/conformance v{GATEWAY_API}"),
        ] {
            let said = |line: &str| line.trim_start_matches("require ").split(" //").next() == Some(&wanted);
            assert!(module.lines().any(|line| said(line.trim())), "{wanted}");
        }
    }
}
