//! The Node object and the Lease by which the cluster knows that its node lives.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as Object;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{Node, logs};
use crate::kube::programs::KUBERNETES;

/// How often the lease is renewed, and for how long it holds.
const BEAT: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
/// How often the status is told although the lease says that all is well.
const BEATS_PER_STATUS: u32 = 6;

/// Makes the node known, or known again.
pub(super) async fn register(node: &Node) -> Result<()> {
    let nodes: Api<Object> = Api::all(node.client.clone());
    let object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.name, "labels": {
            "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        }},
        "spec": {"podCIDR": node.number.pods(), "podCIDRs": [node.number.pods()]},
    });
    match nodes.create(&PostParams::default(), &serde_json::from_value(object)?).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error).context("making the node known"),
    }
    tell(node).await.context("telling how the node is")?;
    renew(node).await.context("taking the node's lease")
}

/// Keeps the node known.
pub(super) async fn beat(node: Arc<Node>) {
    let mut interval = tokio::time::interval(BEAT);
    interval.tick().await;
    for count in 1_u32.. {
        interval.tick().await;
        if let Err(error) = renew(&node).await {
            println!("renewing the node's lease: {error:#}");
        }
        if count.is_multiple_of(BEATS_PER_STATUS)
            && let Err(error) = tell(&node).await
        {
            println!("telling how the node is: {error:#}");
        }
    }
}

async fn tell(node: &Node) -> Result<()> {
    let nodes: Api<Object> = Api::all(node.client.clone());
    let patch = Patch::Strategic(json!({"status": status(node)}));
    nodes.patch_status(&node.name, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn renew(node: &Node) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(node.client.clone(), "kube-node-lease");
    // Of microseconds, as the API has it.
    let now = format!("{:.6}", Timestamp::now());
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node.name},
        "spec": {"holderIdentity": node.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
    });
    let patched = leases.patch(&node.name, &PatchParams::default(), &Patch::Merge(&lease)).await;
    match patched {
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            lease["metadata"]["namespace"] = "kube-node-lease".into();
            leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
        }
        other => {
            other?;
        }
    }
    Ok(())
}

fn status(node: &Node) -> Value {
    let now = Timestamp::now();
    let now = format!("{now:.0}");
    let condition = |kind: &str, is: bool, reason: &str| {
        let status = if is { "True" } else { "False" };
        json!({"type": kind, "status": status, "reason": reason, "message": reason, "lastHeartbeatTime": now})
    };
    // More than any pod of a test asks for: what really is there is shared with the machine.
    let capacity = json!({"cpu": "16", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"});
    let version = format!("v{KUBERNETES}");
    json!({
        "capacity": capacity, "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": node.number.address()},
            {"type": "Hostname", "address": node.name},
        ],
        "conditions": [
            condition("Ready", true, "KubeletReady"),
            condition("MemoryPressure", false, "KubeletHasSufficientMemory"),
            condition("DiskPressure", false, "KubeletHasNoDiskPressure"),
            condition("PIDPressure", false, "KubeletHasSufficientPID"),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": logs::PORT}},
        "nodeInfo": {
            "machineID": node.name, "systemUUID": node.name, "bootID": node.name, "operatingSystem": "linux",
            "architecture": "amd64", "kernelVersion": kernel(), "osImage": "nodelet",
            "containerRuntimeVersion": "nodelet://1", "kubeletVersion": version, "kubeProxyVersion": "",
        },
    })
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
