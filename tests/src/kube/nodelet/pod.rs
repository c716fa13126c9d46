//! One pod, from when it is bound to the node until it is gone.

use std::fs;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::container::{Shared, Stop, keep};
use super::network::Network;
use super::state::State;
use super::volumes::Volumes;
use super::{Node, Wanted};

/// How long until the API server is told again what it did not take.
const AGAIN: Duration = Duration::from_millis(300);

/// Runs the pod to its end.
pub(super) async fn run(node: Arc<Node>, mut wanted: watch::Receiver<Wanted>) {
    let pod = wanted.borrow_and_update().pod.clone();
    let (uid, name) =
        (pod.metadata.uid.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let shared = Arc::new(Shared {
        folder: node.folder.join("pods").join(&uid),
        state: State::new(&pod, node.number.address().to_string()),
        node: Arc::clone(&node),
        pod,
    });
    let writer = tokio::spawn(write_down(Arc::clone(&shared), wanted.clone()));
    let (stop, stopped) = watch::channel(None);
    {
        let mut life = pin!(live(&shared, stopped));
        let mut is_over = false;
        let grace = loop {
            let ending = wanted.borrow_and_update().ending();
            if let Some(grace) = ending {
                break grace;
            }
            tokio::select! {
                () = &mut life, if !is_over => is_over = true,
                changed = wanted.changed() => if changed.is_err() { break Duration::ZERO },
            }
        };
        println!("{name}: is to end within {} s", grace.as_secs());
        stop.send_replace(Some(grace));
        if !is_over {
            life.await;
        }
    }
    shared.state.over();
    writer.abort();
    writer.await.ok();
    bury(&shared, &wanted).await;
    fs::remove_dir_all(&shared.folder).ok();
    println!("{name}: is gone");
}

impl Wanted {
    /// How long the pod has left, if it is to end.
    fn ending(&self) -> Option<Duration> {
        if self.is_gone {
            return Some(Duration::ZERO);
        }
        let meta = &self.pod.metadata;
        meta.deletion_timestamp.as_ref()?;
        let seconds = meta.deletion_grace_period_seconds.unwrap_or(0);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

/// Network, volumes, containers; returns when all of those have ended.
async fn live(shared: &Shared, stop: Stop) {
    let mut told = stop.clone();
    let setting_up = async {
        let mut pause = AGAIN;
        loop {
            match set_up(shared).await {
                Ok(ready) => return ready,
                Err(error) => shared.state.waits("CreateContainerConfigError", &format!("{error:#}")),
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_secs(5));
        }
    };
    let (network, volumes) = tokio::select! {
        ready = setting_up => ready,
        _ = told.wait_for(Option::is_some) => return,
    };
    let Some(spec) = &shared.pod.spec else { return };
    for container in spec.init_containers.iter().flatten() {
        if !keep(shared, &network, &volumes, container, stop.clone(), true).await {
            return;
        }
    }
    shared.state.initialized();
    let containers = spec.containers.iter();
    join_all(containers.map(|container| keep(shared, &network, &volumes, container, stop.clone(), false)))
        .await;
}

async fn set_up(shared: &Shared) -> Result<(Network, Volumes)> {
    let spec = shared.pod.spec.as_ref().context("a pod has a spec")?;
    fs::create_dir_all(&shared.folder).context("making the pod's folder")?;
    let network = if spec.host_network == Some(true) {
        Network::Host { address: shared.node.number.address() }
    } else {
        Network::own(&shared.node)?
    };
    let address = network.address().to_string();
    shared.state.addressed(address.clone());
    let folder = shared.folder.join("volumes");
    let lack = |text: &str| shared.state.waits("ContainerCreating", text);
    let volumes = Volumes::prepare(&shared.node, &shared.pod, &folder, &address, lack).await?;
    Ok((network, volumes))
}

/// Tells the API server of every change.
async fn write_down(shared: Arc<Shared>, wanted: watch::Receiver<Wanted>) {
    let mut former = Value::Null;
    loop {
        let pod = wanted.borrow().pod.clone();
        let status = shared.state.status(&pod, &former["conditions"]);
        if status != former {
            match patch(&shared, &status).await {
                Ok(()) => former = status,
                Err(error) => {
                    println!("{}: telling its status: {error:#}", pod.metadata.name.unwrap_or_default());
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
        }
        shared.state.changed.notified().await;
    }
}

fn pods(shared: &Shared) -> Api<Pod> {
    let namespace = shared.pod.metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced(shared.node.client.clone(), namespace)
}

async fn patch(shared: &Shared, status: &Value) -> kube::Result<()> {
    let meta = &shared.pod.metadata;
    // Of another pod of the same name nothing is known here.
    let patch = Patch::Strategic(json!({"metadata": {"uid": meta.uid}, "status": status}));
    let name = meta.name.as_deref().unwrap_or_default();
    pods(shared).patch_status(name, &PatchParams::default(), &patch).await.map(|_| ())
}

/// Tells how the pod ended and that nothing of it is left.
async fn bury(shared: &Shared, wanted: &watch::Receiver<Wanted>) {
    let meta = &shared.pod.metadata;
    let mut is_told = false;
    while !wanted.borrow().is_gone {
        let pod = wanted.borrow().pod.clone();
        if !is_told {
            let status = shared.state.status(&pod, &Value::Null);
            is_told = settled(patch(shared, &status).await.err());
        }
        let conditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
        let last =
            DeleteParams { preconditions: Some(conditions), ..DeleteParams::default().grace_period(0) };
        let name = meta.name.as_deref().unwrap_or_default();
        if settled(pods(shared).delete(name, &last).await.err()) {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether something was done, or can never be, since the pod is gone or is another.
fn settled(error: Option<kube::Error>) -> bool {
    match error {
        None => true,
        Some(kube::Error::Api(status)) => status.is_not_found() || status.is_conflict(),
        Some(_) => false,
    }
}
