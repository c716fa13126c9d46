//! What stands in for kubelet: it makes its node known, keeps the containers of the pods that are bound to it running as
//! processes, and tells how they are. There is one for each node, the first process of it, so that a node that is killed
//! takes everything with it that ran there.
//!
//! In come pods, as the API server has them, and [`Image`]s, which say what program stands for an image. A container is
//! that program in its own namespaces with a file system of its own, put together of the machine's `/usr`, the pod's
//! volumes, and nothing else. Out come statuses, and logs for `kubectl logs`.
//!
//! It leaves to others: images, cgroups and their limits, seccomp and the like, `kubectl exec`, names by DNS. No pod
//! outlives its nodelet.

mod container;
mod env;
mod launch;
mod logs;
mod network;
mod node;
mod pod;
mod probe;
mod runtime;
mod state;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::net::Number;

pub use launch::Launch;
pub use runtime::contain;

/// What a container's image stands for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Image {
    /// Which images; `*` is for any characters.
    pub pattern: String,
    /// The program that is its entry point; none: the pod names its command, out of the machine's `/usr`.
    pub program: Option<PathBuf>,
    /// Where the program lies in the container.
    pub at: String,
    /// The user that it runs as when the pod does not say.
    pub user: i64,
}

impl Image {
    /// The echo server of the conformance suite.
    pub fn echo(program: PathBuf) -> Self {
        Self {
            pattern: "*echo-basic:*".into(),
            program: Some(program),
            at: "/echo-basic".into(),
            user: 65532,
        }
    }

    /// Yett.
    pub fn yett(program: PathBuf) -> Self {
        Self { pattern: "*yett*".into(), program: Some(program), at: "/usr/local/bin/yett".into(), user: 0 }
    }

    /// Whatever the machine has, for pods that bring a command of their own.
    pub fn tools() -> Self {
        Self { pattern: "*tools*".into(), program: None, at: String::new(), user: 0 }
    }

    fn is(&self, image: &str) -> bool {
        fits(&self.pattern, image)
    }
}

/// What a nodelet has to know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Spec {
    /// Which node it is.
    pub number: u8,
    /// The node's own folder.
    pub folder: PathBuf,
    /// Where its certificates are.
    pub pki: PathBuf,
    /// What images stand for.
    pub images: Vec<Image>,
}

/// The node, for everything that goes on there.
struct Node {
    number: Number,
    name: String,
    folder: PathBuf,
    images: Vec<Image>,
    client: Client,
    /// Addresses of pods that are in use, by their last number.
    addresses: Mutex<BTreeSet<u8>>,
    /// The one given last: the next is another, so that nobody takes a new pod for one that has gone.
    last_address: Mutex<u8>,
}

/// A pod as it is wanted.
#[derive(Clone, Debug)]
struct Wanted {
    pod: Pod,
    /// It is no longer there, so that there is nobody to tell how it ended.
    is_gone: bool,
}

/// Runs the node of this file until it is killed.
///
/// # Errors
/// When it cannot be set up.
pub fn run(file: &Path) -> Result<()> {
    let spec: Spec = serde_json::from_slice(&fs::read(file).context("reading the node's file")?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(spec))
}

async fn serve(spec: Spec) -> Result<()> {
    let number = Number(spec.number);
    let name = number.name();
    let kubeconfig = Kubeconfig::read_from(spec.pki.join(format!("{name}.kubeconfig")))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    network::prepare(number)?;
    let node = Arc::new(Node {
        number,
        name: name.clone(),
        folder: spec.folder,
        images: spec.images,
        client: Client::try_from(config)?,
        addresses: Mutex::default(),
        last_address: Mutex::new(1),
    });
    let kubelet = logs::serve(Arc::clone(&node), &spec.pki).await?;
    tokio::spawn(kubelet);
    node::register(&node).await?;
    tokio::spawn(node::beat(Arc::clone(&node)));
    println!("{name} is there");
    follow(node).await;
    Ok(())
}

/// Keeps a task for every pod that is bound here.
async fn follow(node: Arc<Node>) {
    let all: Api<Pod> = Api::all(node.client.clone());
    let bound = watcher::Config::default().fields(&format!("spec.nodeName={}", node.name));
    let mut events = pin!(watcher::watcher(all, bound).default_backoff());
    let mut pods: BTreeMap<String, watch::Sender<Wanted>> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod)) => see(&node, &mut pods, pod),
            Ok(Event::Delete(pod)) => lose(&mut pods, pod.metadata.uid.as_deref()),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.metadata.uid.clone());
                see(&node, &mut pods, pod);
            }
            Ok(Event::InitDone) => {
                let lost: Vec<String> = pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                lost.iter().for_each(|uid| lose(&mut pods, Some(uid)));
            }
            Err(error) => println!("watching pods: {error}"),
        }
        // Whoever does not listen any more has ended.
        pods.retain(|_, wanted| !wanted.is_closed());
    }
}

fn see(node: &Arc<Node>, pods: &mut BTreeMap<String, watch::Sender<Wanted>>, pod: Pod) {
    let Some(uid) = pod.metadata.uid.clone() else { return };
    let wanted = Wanted { pod, is_gone: false };
    match pods.get(&uid) {
        Some(sender) => {
            sender.send_replace(wanted);
        }
        None => {
            let (sender, receiver) = watch::channel(wanted);
            tokio::spawn(pod::run(Arc::clone(node), receiver));
            pods.insert(uid, sender);
        }
    }
}

fn lose(pods: &mut BTreeMap<String, watch::Sender<Wanted>>, uid: Option<&str>) {
    if let Some(sender) = uid.and_then(|uid| pods.get(uid)) {
        sender.send_modify(|wanted| wanted.is_gone = true);
    }
}

impl Node {
    /// An address for a pod, until it is [given back](Node::give_back).
    fn address(&self) -> Result<u8> {
        let mut used = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = self.last_address.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*last..=254).skip(1).chain(2..=*last).find(|host| !used.contains(host));
        let host = next.context("the node has no address left for a pod")?;
        used.insert(host);
        *last = host;
        Ok(host)
    }

    fn give_back(&self, host: u8) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
    }

    fn image(&self, name: &str) -> Result<&Image> {
        self.images
            .iter()
            .find(|image| image.is(name))
            .with_context(|| format!("no program stands for the image {name}"))
    }
}

/// Whether a text is what a pattern with `*` for any characters says.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn images_are_told_apart_by_patterns() {
        for (pattern, text, expected) in [
            ("*echo-basic:*", "registry.example/conformance/echo-basic:v0.1.0", true),
            ("*echo-basic:*", "registry.example/echo-advanced:v0.1.0", false),
            ("*yett*", "yett", true),
            ("yett:*", "my-yett:1", false),
            ("yett", "yett", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
