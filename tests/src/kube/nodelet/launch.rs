//! What is to run in a container, and in what: worked out by the nodelet from the pod, carried out inside of the
//! container by [`super::runtime`].

use std::path::PathBuf;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};
use serde::{Deserialize, Serialize};

use super::{Image, env};

/// A container, ready to be made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Launch {
    /// An empty folder that becomes its root.
    pub root: PathBuf,
    /// Its name on the network; none: that of the machine.
    pub hostname: Option<String>,
    /// A file of the machine's that is seen at a path inside.
    pub program: Option<(PathBuf, String)>,
    /// What else is seen inside.
    pub mounts: Vec<Mount>,
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Its environment, all of it.
    pub environment: Vec<(String, String)>,
    /// Where it begins.
    pub folder: String,
    /// As whom it runs, in the words of setpriv.
    pub privileges: Vec<String>,
    /// Whether nothing can be written but into mounts.
    pub is_read_only: bool,
    /// Whether anybody may listen on low ports, as runtimes have it in the network of a pod.
    pub has_low_ports: bool,
}

/// A file or folder that is seen inside.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Mount {
    /// The machine's.
    pub from: PathBuf,
    /// Inside.
    pub to: String,
    /// Whether it cannot be written there.
    pub is_read_only: bool,
}

/// Who runs a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) id: u32,
    pub(super) group: u32,
}

/// What Docker and containerd let a container do that asks for nothing.
const CAPABILITIES: [&str; 14] = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "net_raw",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// The user of a container.
///
/// # Errors
/// When it would be root and must not be.
pub(super) fn user(pod: &PodSpec, container: &Container, image: &Image) -> Result<User> {
    let outer = pod.security_context.clone().unwrap_or_default();
    let inner = container.security_context.clone().unwrap_or_default();
    let id = inner.run_as_user.or(outer.run_as_user).unwrap_or(image.user);
    let group = inner.run_as_group.or(outer.run_as_group).unwrap_or(if id == image.user { id } else { 0 });
    let must_not_be_root = inner.run_as_non_root.or(outer.run_as_non_root).unwrap_or(false);
    ensure!(id != 0 || !must_not_be_root, "container has runAsNonRoot and image will run as root");
    Ok(User { id: u32::try_from(id)?, group: u32::try_from(group)? })
}

/// The same in the words of setpriv.
pub(super) fn privileges(pod: &PodSpec, container: &Container, user: &User) -> Vec<String> {
    let inner = container.security_context.clone().unwrap_or_default();
    let outer = pod.security_context.clone().unwrap_or_default();
    let groups: Vec<String> =
        outer.fs_group.iter().chain(outer.supplemental_groups.iter().flatten()).map(i64::to_string).collect();
    let mut words = vec![format!("--reuid={}", user.id), format!("--regid={}", user.group)];
    words.push(if groups.is_empty() {
        "--clear-groups".to_owned()
    } else {
        format!("--groups={}", groups.join(","))
    });
    if inner.privileged != Some(true) {
        let kept = capabilities(&inner);
        let kept: String = kept.iter().map(|name| format!(",+{name}")).collect();
        // Nothing is inherited: a user who is not root has none of them, as in Kubernetes.
        words.extend(["--inh-caps=-all".to_owned(), format!("--bounding-set=-all{kept}")]);
    }
    if inner.allow_privilege_escalation == Some(false) {
        words.push("--no-new-privs".to_owned());
    }
    words
}

fn capabilities(context: &SecurityContext) -> Vec<String> {
    let asked = context.capabilities.clone().unwrap_or_default();
    let plain = |name: &String| name.to_lowercase().trim_start_matches("cap_").to_owned();
    let dropped: Vec<String> = asked.drop.iter().flatten().map(plain).collect();
    let mut kept: Vec<String> = CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
    kept.retain(|name| !dropped.contains(name) && !dropped.iter().any(|all| all == "all"));
    kept.extend(asked.add.iter().flatten().map(plain));
    kept.sort();
    kept.dedup();
    kept
}

/// The program and its arguments: the image's unless the pod says otherwise.
///
/// # Errors
/// When neither says what to run.
pub(super) fn arguments(
    container: &Container,
    image: &Image,
    environment: &[(String, String)],
) -> Result<Vec<String>> {
    let mut all: Vec<String> = match &container.command {
        Some(command) if !command.is_empty() => command.clone(),
        _ if image.program.is_some() => vec![image.at.clone()],
        _ => Vec::new(),
    };
    all.extend(container.args.iter().flatten().cloned());
    ensure!(!all.is_empty(), "no command specified");
    Ok(all.iter().map(|argument| env::expand(argument, environment)).collect())
}

/// The name of a pod on the network.
pub(super) fn hostname(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.host_network == Some(true) {
        return None;
    }
    spec.hostname.clone().or_else(|| pod.metadata.name.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Capabilities;

    use super::*;

    #[test]
    fn capabilities_are_dropped_and_added() {
        let context = |drop: &[&str], add: &[&str]| SecurityContext {
            capabilities: Some(Capabilities {
                add: Some(add.iter().map(|&name| name.to_owned()).collect()),
                drop: Some(drop.iter().map(|&name| name.to_owned()).collect()),
            }),
            ..SecurityContext::default()
        };
        assert_eq!(capabilities(&SecurityContext::default()), CAPABILITIES);
        assert_eq!(capabilities(&context(&["ALL"], &["NET_ADMIN", "BPF"])), ["bpf", "net_admin"]);
        assert!(!capabilities(&context(&["CAP_CHOWN"], &[])).contains(&"chown".to_owned()));
    }
}
