//! One watch of the API server: a kind everywhere, or one object. What it hears goes into the store.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::store::Store;
use crate::resources::Identity;

/// How often it is looked whether a kind has come that the cluster does not have.
const MISSING_LOOK: Duration = Duration::from_secs(5);

/// What watches share: all of them run on one thread.
pub(super) struct Shared {
    pub(super) store: RefCell<Store>,
    /// Something is different.
    pub(super) stirred: Notify,
}

/// What a watch is of.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) resource: ApiResource,
    /// The kind's name as our types have it.
    pub(super) kind: &'static str,
    /// Namespace and name, for one object alone.
    pub(super) one: Option<(String, String)>,
    /// Whether a server without the kind is one without objects of it: a definition that is not installed.
    pub(super) may_be_missing: bool,
}

/// Follows until it is dropped. `listed` is set once everything that is there has been heard of, or there is no such kind.
pub(super) async fn follow(client: Client, watched: Watched, shared: Rc<Shared>, listed: Rc<RefCell<bool>>) {
    let Watched { resource, kind, one, may_be_missing } = &watched;
    let (api, config): (Api<DynamicObject>, Config) = match one {
        None => (Api::all_with(client, resource), Config::default()),
        Some((namespace, name)) => (
            Api::namespaced_with(client, namespace, resource),
            Config::default().fields(&format!("metadata.name={name}")),
        ),
    };
    let place = one.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    let mut seen = BTreeSet::new();
    let mut told: Option<String> = None;
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        let is_missing = *may_be_missing && event.as_ref().is_err_and(is_not_found);
        let stirred = match event {
            Ok(event) => {
                // That a list begins is said before anything was heard.
                if !matches!(event, Event::Init)
                    && let Some(error) = told.take()
                {
                    tracing::info!(kind, after = error, "the API server tells of the kind again");
                }
                match event {
                    Event::Apply(object) => apply(&shared, resource, kind, object).1,
                    Event::Delete(object) => shared.store.borrow_mut().delete(&identity(kind, &object)),
                    Event::Init => {
                        seen.clear();
                        false
                    }
                    Event::InitApply(object) => {
                        let (identity, changed) = apply(&shared, resource, kind, object);
                        seen.insert(identity);
                        changed
                    }
                    Event::InitDone => {
                        let went = shared.store.borrow_mut().retain(kind, place, &seen);
                        seen.clear();
                        // The first time it is to be told even if there is nothing.
                        went | !listed.replace(true)
                    }
                }
            }
            Err(error) => {
                let words = in_words(&error);
                if told.as_ref() != Some(&words) {
                    if is_missing {
                        tracing::info!(kind, "the cluster has no such kind yet: it is waited for");
                    } else {
                        tracing::warn!(
                            kind,
                            error = words,
                            "the API server does not tell; what is known stays in service"
                        );
                    }
                    told = Some(words);
                }
                is_missing && !listed.replace(true)
            }
        };
        if stirred {
            shared.stirred.notify_one();
        }
        if is_missing {
            // The library's own pause begins anew with every list.
            sleep(MISSING_LOOK).await;
        }
    }
}

fn apply(
    shared: &Shared,
    resource: &ApiResource,
    kind: &'static str,
    mut object: DynamicObject,
) -> (Identity, bool) {
    let identity = identity(kind, &object);
    // Who wrote which field is most of many an object, and nothing to us.
    object.metadata.managed_fields = None;
    // Items of a list do not say what they are.
    object.types =
        Some(kube::api::TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
    let version = object.resource_version().unwrap_or_default();
    let changed = serde_json::to_string(&object)
        .is_ok_and(|json| shared.store.borrow_mut().apply(identity.clone(), &version, &json));
    (identity, changed)
}

fn identity(kind: &'static str, object: &DynamicObject) -> Identity {
    Identity { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn is_not_found(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    matches!(
        error,
        InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) | WatchFailed(kube::Error::Api(status))
            if status.code == 404
    )
}

/// An error with its causes, in one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words += &format!(": {more}");
        }
        cause = error.source();
    }
    words
}
