//! Desired state from a Kubernetes API server: every kind that is read is watched, and Secrets and ConfigMaps one by one
//! where something names them.
//!
//! The first set is given when all of it has been heard of. Whatever the server does later, what is known stays in
//! service: a watch that breaks is begun anew by itself, with a list where its place in the history is lost.

mod store;
mod watch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kube::api::ApiResource;
use kube::{Client, Config};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::store::Store;
use self::watch::{Shared, Watched, follow};
use super::{Loaded, Trigger, finding};
use crate::resources::{Referred, known_kinds};

/// Quiet that has to follow a change before the set is made anew: rollouts change many objects at once. Short, since a
/// revocation waits for it too.
const QUIET: Duration = Duration::from_millis(20);
/// Longest wait for quiet.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(200);
/// How long a request to the server may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster that is followed.
pub struct KubeSource {
    client: Client,
    shared: Rc<Shared>,
    kinds: Vec<Watch>,
    referred: BTreeMap<Referred, Watch>,
    asked: Arc<Notify>,
    last: Loaded,
    /// Whether a set has been given.
    has_begun: bool,
    /// When the change that waits for quiet was first heard of.
    stirred: Option<Instant>,
}

/// A watch that ends with this.
struct Watch {
    task: JoinHandle<()>,
    listed: Rc<RefCell<bool>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KubeSource {
    /// Begins to watch, by the service account of the pod or by `KUBECONFIG`. To be made within a `LocalSet`. A server
    /// that cannot be reached is tried until it can.
    ///
    /// # Errors
    /// Neither says which server, or what they say cannot be used.
    pub async fn begin() -> Result<Self, kube::Error> {
        let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        tracing::info!(server = %config.cluster_url, "configuration from a Kubernetes API server");
        let client = Client::try_from(config)?;
        let shared = Rc::new(Shared { store: RefCell::new(Store::default()), stirred: Notify::new() });
        let mut source = Self {
            client,
            shared,
            kinds: Vec::new(),
            referred: BTreeMap::new(),
            asked: Arc::new(Notify::new()),
            last: Loaded::default(),
            has_begun: false,
            stirred: None,
        };
        for kind in known_kinds().filter(|kind| !kind.is_by_name) {
            let (group, version) = kind.api_version.split_once('/').unwrap_or(("", kind.api_version));
            let watched = Watched {
                resource: resource(group, version, kind.kind),
                kind: kind.kind,
                one: None,
                // The built-in kinds are everywhere.
                may_be_missing: group.contains('.') && group != "discovery.k8s.io",
            };
            let watch = source.watch(watched);
            source.kinds.push(watch);
        }
        Ok(source)
    }

    fn watch(&self, watched: Watched) -> Watch {
        let listed = Rc::new(RefCell::new(false));
        let following = follow(self.client.clone(), watched, Rc::clone(&self.shared), Rc::clone(&listed));
        Watch { task: tokio::task::spawn_local(following), listed }
    }

    /// A notice by which others ask for a reload.
    pub(super) fn asked(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }

    /// Waits until the whole set has been heard of.
    pub async fn complete(&mut self) {
        while !self.is_complete() {
            self.shared.stirred.notified().await;
        }
        // What was heard meanwhile is in it.
        self.stirred = Some(Instant::now());
    }

    /// Waits until the set should be gathered again. May be dropped and called anew without missing a change.
    pub async fn changed(&mut self) -> Trigger {
        if !self.has_begun {
            self.complete().await;
            return Trigger::Changed;
        }
        loop {
            if let Some(since) = self.stirred {
                let latest = since + QUIET_WAIT_MAX;
                while timeout_at(latest.min(Instant::now() + QUIET), self.shared.stirred.notified())
                    .await
                    .is_ok()
                {
                    if Instant::now() >= latest {
                        break;
                    }
                }
                self.stirred = None;
                return Trigger::Changed;
            }
            tokio::select! {
                () = self.shared.stirred.notified() => self.stirred = Some(Instant::now()),
                () = self.asked.notified() => return Trigger::Asked,
            }
        }
    }

    /// The whole set as it is known now; before all of it has been heard of, the empty one.
    pub fn read(&mut self) -> Loaded {
        if !self.is_complete() {
            return Loaded::default();
        }
        self.has_begun = true;
        let (resources, problems) = self.shared.store.borrow_mut().gather();
        self.follow_referred();
        let findings: Vec<_> = problems.into_iter().map(finding).collect();
        let changed = resources != self.last.resources || findings.len() != self.last.findings.len();
        self.last = Loaded { resources, findings, changed };
        self.last.clone()
    }

    /// Whether every kind has been listed, and everything that is named.
    pub fn is_complete(&mut self) -> bool {
        if self.has_begun {
            return true;
        }
        if !self.kinds.iter().all(|watch| *watch.listed.borrow()) {
            return false;
        }
        self.follow_referred();
        self.referred.values().all(|watch| *watch.listed.borrow())
    }

    /// Watches what is named, and no longer what is not.
    fn follow_referred(&mut self) {
        let wanted = self.shared.store.borrow().referred();
        self.referred.retain(|referred, _| {
            let stays = wanted.contains(referred);
            if !stays {
                let place = Some((referred.namespace.as_str(), referred.name.as_str()));
                self.shared.store.borrow_mut().retain(
                    referred.kind,
                    place,
                    &std::collections::BTreeSet::new(),
                );
            }
            stays
        });
        for referred in wanted {
            if !self.referred.contains_key(&referred) {
                let Referred { kind, namespace, name } = referred.clone();
                let one = Some((namespace, name));
                let resource = resource("", "v1", kind);
                let watch = self.watch(Watched { resource, kind, one, may_be_missing: false });
                self.referred.insert(referred, watch);
            }
        }
    }
}

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(group, version, kind))
}
