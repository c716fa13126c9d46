//! What a nodelet knows of a pod, and how it becomes the pod's status.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A pod's state; whoever writes it down hears of every change.
pub(super) struct State {
    known: Mutex<Known>,
    pub(super) changed: Notify,
}

#[derive(Clone)]
struct Known {
    started: Timestamp,
    node_address: String,
    address: Option<String>,
    is_initialized: bool,
    /// All has ended for good.
    is_over: bool,
    init: Vec<ContainerStatus>,
    main: Vec<ContainerStatus>,
}

impl State {
    pub(super) fn new(pod: &Pod, node_address: String) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let fresh = |container: &Container| ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(waiting("PodInitializing", String::new())),
            started: Some(false),
            ..ContainerStatus::default()
        };
        let known = Known {
            started: Timestamp::now(),
            node_address,
            address: None,
            is_initialized: false,
            is_over: false,
            init: spec.init_containers.iter().flatten().map(fresh).collect(),
            main: spec.containers.iter().map(fresh).collect(),
        };
        Self { known: Mutex::new(known), changed: Notify::new() }
    }

    pub(super) fn addressed(&self, address: String) {
        self.update(|known| known.address = Some(address));
    }

    pub(super) fn initialized(&self) {
        self.update(|known| known.is_initialized = true);
    }

    pub(super) fn over(&self) {
        self.update(|known| known.is_over = true);
    }

    /// Changes what is known of a container.
    pub(super) fn container(&self, name: &str, change: impl FnOnce(&mut ContainerStatus)) {
        self.update(|known| {
            if let Some(status) = known.main.iter_mut().chain(&mut known.init).find(|has| has.name == name) {
                change(status);
            }
        });
    }

    /// Says why no container is there yet.
    pub(super) fn waits(&self, reason: &str, message: &str) {
        self.update(|known| {
            for status in known.main.iter_mut().chain(&mut known.init) {
                status.state = Some(waiting(reason, message.to_owned()));
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// The pod's status, as a patch. `former` are the conditions that were written before: their times stand while
    /// what they say does.
    pub(super) fn status(&self, pod: &Pod, former: &Value) -> Value {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let restart = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
        let phase = phase(&known, restart);
        let is_ready = known.is_initialized && !known.is_over && known.main.iter().all(|status| status.ready);
        let ended = matches!(phase, "Succeeded" | "Failed");
        let not = if ended { "PodCompleted" } else { "ContainersNotReady" };
        let generation = pod.metadata.generation;
        let condition = |kind: &str, is: bool, reason: &str| {
            let status = if is { "True" } else { "False" };
            let before = former.as_array().into_iter().flatten().find(|has| has["type"] == kind);
            let since = match before {
                Some(before) if before["status"] == status => before["lastTransitionTime"].clone(),
                _ => json!(format!("{:.0}", Timestamp::now())),
            };
            let reason = if is { "" } else { reason };
            json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": since,
                   "observedGeneration": generation})
        };
        let mut status = json!({
            "phase": phase,
            "observedGeneration": generation,
            "hostIP": known.node_address, "hostIPs": [{"ip": known.node_address}],
            "startTime": format!("{:.0}", known.started),
            "conditions": [
                condition("PodReadyToStartContainers", known.address.is_some() && !ended, ""),
                condition("Initialized", known.is_initialized, "ContainersNotInitialized"),
                condition("ContainersReady", is_ready, not),
                condition("Ready", is_ready, not),
                condition("PodScheduled", true, ""),
            ],
            "containerStatuses": known.main,
        });
        if !known.init.is_empty() {
            status["initContainerStatuses"] = json!(known.init);
        }
        if let Some(address) = known.address {
            status["podIP"] = json!(address);
            status["podIPs"] = json!([{"ip": address}]);
        }
        status
    }
}

fn phase(known: &Known, restart: &str) -> &'static str {
    let ended = |status: &ContainerStatus| {
        let terminated = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        terminated.map(|terminated| terminated.exit_code)
    };
    let failed = |statuses: &[ContainerStatus]| statuses.iter().filter_map(ended).any(|code| code != 0);
    if known.is_over {
        return if failed(&known.main) || failed(&known.init) { "Failed" } else { "Succeeded" };
    }
    if !known.is_initialized {
        return if restart == "Never" && failed(&known.init) { "Failed" } else { "Pending" };
    }
    let for_good = |status: &ContainerStatus| {
        matches!((restart, ended(status)), ("Never", Some(_)) | ("OnFailure", Some(0)))
    };
    if known.main.iter().all(for_good) {
        return if failed(&known.main) { "Failed" } else { "Succeeded" };
    }
    let began = |status: &ContainerStatus| {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        running || ended(status).is_some() || status.restart_count > 0
    };
    if known.main.iter().all(began) { "Running" } else { "Pending" }
}

/// It does not run, since…
pub(super) fn waiting(reason: &str, message: String) -> ContainerState {
    let message = (!message.is_empty()).then_some(message);
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// It runs.
pub(super) fn running() -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(Time(Timestamp::now())) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

/// It has ended.
pub(super) fn terminated(code: i32, started: Timestamp, message: Option<String>) -> ContainerState {
    let reason = match code {
        0 => "Completed",
        _ if message.is_some() => "StartError",
        _ => "Error",
    };
    let terminated = ContainerStateTerminated {
        exit_code: code,
        reason: Some(reason.to_owned()),
        message,
        started_at: Some(Time(started)),
        finished_at: Some(Time(Timestamp::now())),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}
