//! The volumes of a pod as folders of its node: filled before its containers start, however long what they show is not
//! there yet, and changed as that changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, HostPathVolumeSource, KeyToPath, ObjectFieldSelector, Pod, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume,
};
use kube::api::PostParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Node;
use super::env::{self, config_data, secret_data};

/// How long until something that did not work is tried again.
const AGAIN: Duration = Duration::from_millis(300);
/// A token is asked for so long when the pod does not say.
const TOKEN_SECONDS: i64 = 3600;

type Files = BTreeMap<String, Vec<u8>>;

/// The volumes, by name; no longer kept up when dropped.
pub(super) struct Volumes {
    folders: BTreeMap<String, PathBuf>,
    _kept: JoinSet<()>,
}

/// What a volume, or a part of one, shows.
#[derive(Clone)]
enum Part {
    Secret { name: String, items: Option<Vec<KeyToPath>>, is_optional: bool },
    ConfigMap { name: String, items: Option<Vec<KeyToPath>>, is_optional: bool },
    Token(ServiceAccountTokenProjection),
    Fields(Vec<(String, ObjectFieldSelector)>),
}

impl Volumes {
    /// Makes them in a folder; `say` hears what they still wait for.
    pub(super) async fn prepare(
        node: &Arc<Node>,
        pod: &Pod,
        folder: &Path,
        address: &str,
        mut say: impl FnMut(&str),
    ) -> Result<Self> {
        let spec = pod.spec.as_ref().context("a pod has a spec")?;
        let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
        let (mut folders, mut kept) = (BTreeMap::new(), JoinSet::new());
        for volume in spec.volumes.iter().flatten() {
            let place = folder.join(&volume.name);
            if let Some(source) = &volume.host_path {
                folders.insert(volume.name.clone(), on_the_node(node, source)?);
                continue;
            }
            fs::create_dir_all(&place)?;
            if volume.empty_dir.is_some() {
                fs::set_permissions(&place, fs::Permissions::from_mode(0o777))?;
                give(&place, group)?;
            } else {
                let (parts, mode) = parts(volume)?;
                let shown = Shown {
                    node: Arc::clone(node),
                    pod: pod.clone(),
                    place: place.clone(),
                    parts,
                    mode: u32::try_from(mode.unwrap_or(0o644))?,
                    group,
                    address: address.to_owned(),
                };
                let (filled, mut is_filled) = watch::channel(String::from("not read yet"));
                kept.spawn(shown.keep(filled));
                loop {
                    let lack = is_filled.borrow_and_update().clone();
                    if lack.is_empty() {
                        break;
                    }
                    say(&format!("volume {}: {lack}", volume.name));
                    is_filled.changed().await.context("a volume is kept up")?;
                }
            }
            folders.insert(volume.name.clone(), place);
        }
        Ok(Self { folders, _kept: kept })
    }

    /// The folder, or file, of a volume.
    pub(super) fn folder(&self, name: &str) -> Result<&Path> {
        self.folders.get(name).map(PathBuf::as_path).with_context(|| format!("there is no volume {name}"))
    }
}

/// A volume that shows objects of the API.
struct Shown {
    node: Arc<Node>,
    pod: Pod,
    place: PathBuf,
    parts: Vec<Part>,
    mode: u32,
    group: Option<i64>,
    address: String,
}

impl Shown {
    /// Fills the folder, and again whenever something changes; tells what is lacking, or nothing.
    async fn keep(self, told: watch::Sender<String>) {
        let mut current: Vec<Result<Files, String>> =
            self.parts.iter().map(|_| Err("not read yet".to_owned())).collect();
        let (changes, mut changed) = tokio::sync::mpsc::channel(self.parts.len().max(1));
        let mut watches = JoinSet::new();
        for (at, part) in self.parts.iter().enumerate() {
            watches.spawn(follow(
                Arc::clone(&self.node),
                self.pod.clone(),
                part.clone(),
                self.address.clone(),
                at,
                changes.clone(),
            ));
        }
        let mut written = None;
        while let Some((at, files)) = changed.recv().await {
            current[at] = files;
            let all: Result<Vec<Files>, String> = current.iter().cloned().collect();
            match all {
                Ok(all) => {
                    let files: Files = all.into_iter().flatten().collect();
                    if written.as_ref() != Some(&files) {
                        let done = write(&self.place, &files, self.mode, self.group);
                        told.send_replace(done.err().map(|error| format!("{error:#}")).unwrap_or_default());
                        written = Some(files);
                    }
                }
                // What was there stays when it is taken away.
                Err(lack) if written.is_none() => {
                    told.send_replace(lack);
                }
                Err(_) => {}
            }
        }
    }
}

type Change = (usize, Result<Files, String>);

/// Follows one part for as long as somebody listens.
async fn follow(
    node: Arc<Node>,
    pod: Pod,
    part: Part,
    address: String,
    at: usize,
    changes: tokio::sync::mpsc::Sender<Change>,
) {
    match part {
        Part::Secret { name, items, is_optional } => {
            let data = |secret: Secret| choose(secret_data(secret), items.as_deref(), is_optional);
            object(&node, &pod, "Secret", &name, is_optional, data, at, &changes).await;
        }
        Part::ConfigMap { name, items, is_optional } => {
            let data = |map: ConfigMap| choose(config_data(map), items.as_deref(), is_optional);
            object(&node, &pod, "ConfigMap", &name, is_optional, data, at, &changes).await;
        }
        Part::Token(wanted) => loop {
            match token(&node, &pod, &wanted).await {
                Ok((token, lasts)) => {
                    let files = Files::from([(wanted.path.clone(), token.into_bytes())]);
                    changes.send((at, Ok(files))).await.ok();
                    tokio::time::sleep(lasts).await;
                }
                Err(error) => {
                    changes.send((at, Err(format!("{error:#}")))).await.ok();
                    tokio::time::sleep(AGAIN).await;
                }
            }
        },
        Part::Fields(fields) => {
            let values = fields.iter().map(|(path, field)| {
                Ok((path.clone(), env::field(&node, &pod, field, &address)?.into_bytes()))
            });
            let files: Result<Files> = values.collect();
            changes.send((at, files.map_err(|error| format!("{error:#}")))).await.ok();
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "two callers, and each says all of it")]
async fn object<K>(
    node: &Node,
    pod: &Pod,
    kind: &str,
    name: &str,
    is_optional: bool,
    data: impl Fn(K) -> Result<Files, String>,
    at: usize,
    changes: &tokio::sync::mpsc::Sender<Change>,
) where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
    <K as Resource>::DynamicType: Default,
{
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<K> = Api::namespaced(node.client.clone(), namespace);
    loop {
        // A node may read what its pods show only a moment after it has them; the watch's own patience grows too long.
        let mut stream = pin!(watch_object(api.clone(), name).default_backoff());
        while let Some(seen) = stream.next().await {
            let files = match seen {
                Ok(Some(object)) => data(object),
                Ok(None) if is_optional => Ok(Files::new()),
                Ok(None) => Err(format!("{kind} {name} not found")),
                Err(error) => {
                    changes.send((at, Err(format!("{kind} {name}: {error}")))).await.ok();
                    break;
                }
            };
            changes.send((at, files)).await.ok();
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The files of a volume: all, or those that the pod names.
fn choose(all: Files, items: Option<&[KeyToPath]>, is_optional: bool) -> Result<Files, String> {
    let Some(items) = items else { return Ok(all) };
    let mut chosen = Files::new();
    for item in items {
        match all.get(&item.key) {
            Some(value) => {
                chosen.insert(item.path.clone(), value.clone());
            }
            None if is_optional => {}
            None => return Err(format!("there is no key {}", item.key)),
        }
    }
    Ok(chosen)
}

fn parts(volume: &Volume) -> Result<(Vec<Part>, Option<i32>)> {
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone().unwrap_or_default();
        let is_optional = secret.optional.unwrap_or(false);
        return Ok((
            vec![Part::Secret { name, items: secret.items.clone(), is_optional }],
            secret.default_mode,
        ));
    }
    if let Some(map) = &volume.config_map {
        let (name, is_optional) = (map.name.clone(), map.optional.unwrap_or(false));
        return Ok((vec![Part::ConfigMap { name, items: map.items.clone(), is_optional }], map.default_mode));
    }
    if let Some(downward) = &volume.downward_api {
        let fields = downward.items.iter().flatten();
        let fields = fields.filter_map(|item| Some((item.path.clone(), item.field_ref.clone()?))).collect();
        return Ok((vec![Part::Fields(fields)], downward.default_mode));
    }
    let Some(projected) = &volume.projected else { bail!("volume {}: this kind is not known", volume.name) };
    let mut parts = Vec::new();
    for source in projected.sources.iter().flatten() {
        if let Some(secret) = &source.secret {
            let (name, is_optional) = (secret.name.clone(), secret.optional.unwrap_or(false));
            parts.push(Part::Secret { name, items: secret.items.clone(), is_optional });
        } else if let Some(map) = &source.config_map {
            let (name, is_optional) = (map.name.clone(), map.optional.unwrap_or(false));
            parts.push(Part::ConfigMap { name, items: map.items.clone(), is_optional });
        } else if let Some(token) = &source.service_account_token {
            parts.push(Part::Token(token.clone()));
        } else if let Some(downward) = &source.downward_api {
            let fields = downward.items.iter().flatten();
            let fields = fields.filter_map(|item| Some((item.path.clone(), item.field_ref.clone()?)));
            parts.push(Part::Fields(fields.collect()));
        } else {
            bail!("volume {}: a source that is not known", volume.name);
        }
    }
    Ok((parts, projected.default_mode))
}

/// A token for the pod's account, and when to ask for the next.
async fn token(node: &Node, pod: &Pod, wanted: &ServiceAccountTokenProjection) -> Result<(String, Duration)> {
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let accounts: Api<ServiceAccount> = Api::namespaced(node.client.clone(), namespace);
    let seconds = wanted.expiration_seconds.unwrap_or(TOKEN_SECONDS);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: wanted.audience.clone().map(|audience| vec![audience]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    let token = answer.status.and_then(|status| status.token).context("the answer has no token")?;
    Ok((token, Duration::from_secs(u64::try_from(seconds * 8 / 10)?)))
}

/// What a path on the node is: what the kernel and the system show is the machine's, all else the node's own.
fn on_the_node(node: &Node, source: &HostPathVolumeSource) -> Result<PathBuf> {
    let shared = ["/sys", "/proc", "/dev", "/lib/modules", "/usr"];
    let path = Path::new(&source.path);
    if shared.iter().any(|place| path.starts_with(place)) {
        return Ok(path.to_path_buf());
    }
    ensure!(!source.path.contains(".."), "{} is no path", source.path);
    let place = node.folder.join("host").join(source.path.trim_start_matches('/'));
    match source.type_.as_deref().unwrap_or_default() {
        "" | "DirectoryOrCreate" => fs::create_dir_all(&place)?,
        "FileOrCreate" if !place.exists() => {
            fs::create_dir_all(place.parent().context("a file is somewhere")?)?;
            fs::write(&place, "")?;
        }
        _ => ensure!(place.exists(), "hostPath {} is not there", source.path),
    }
    Ok(place)
}

/// Writes files so that whoever looks sees all of the former ones or all of these, as kubelet does it: the names lead
/// over `..data` to a folder that is never changed.
fn write(place: &Path, files: &Files, mode: u32, group: Option<i64>) -> Result<()> {
    let stamp = format!("..{}", Timestamp::now().as_nanosecond());
    let folder = place.join(&stamp);
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    // A group that owns the files may read them, whatever their mode.
    let mode = if group.is_some() { mode | 0o440 } else { mode };
    for (path, value) in files {
        ensure!(!path.contains(".."), "{path} is no path");
        let file = folder.join(path);
        fs::create_dir_all(file.parent().context("a file is somewhere")?)?;
        fs::write(&file, value)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        give(&file, group)?;
    }
    let (data, partial) = (place.join("..data"), place.join("..data_tmp"));
    let former = fs::read_link(&data).ok();
    symlink(&stamp, &partial)?;
    fs::rename(&partial, &data)?;
    let tops: std::collections::BTreeSet<&str> =
        files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let name = place.join(top);
        if fs::symlink_metadata(&name).is_err() {
            symlink(Path::new("..data").join(top), name)?;
        }
    }
    for entry in fs::read_dir(place)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !tops.contains(name.as_str()) {
            fs::remove_file(place.join(name))?;
        }
    }
    if let Some(former) = former {
        fs::remove_dir_all(place.join(former)).ok();
    }
    Ok(())
}

fn give(place: &Path, group: Option<i64>) -> Result<()> {
    let Some(group) = group else { return Ok(()) };
    chown(place, None, Some(u32::try_from(group)?)).context("giving a volume to the pod's group")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_changed_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let files = |list: &[(&str, &str)]| -> Files {
            list.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
        };
        write(folder.path(), &files(&[("a", "1"), ("b/c", "2")]), 0o644, None).unwrap();
        let first = fs::read_link(folder.path().join("..data")).unwrap();
        write(folder.path(), &files(&[("a", "3")]), 0o400, None).unwrap();
        assert_ne!(fs::read_link(folder.path().join("..data")).unwrap(), first);
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "3");
        assert!(!folder.path().join("b").exists() && !folder.path().join(first).exists());
        let mode = fs::metadata(folder.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
    }

    #[test]
    fn items_choose_and_rename() {
        let all = Files::from([("tls.crt".to_owned(), vec![1]), ("tls.key".to_owned(), vec![2])]);
        let item = KeyToPath { key: "tls.crt".into(), path: "crt".into(), ..KeyToPath::default() };
        let lost = KeyToPath { key: "lost".into(), path: "lost".into(), ..KeyToPath::default() };
        assert_eq!(
            choose(all.clone(), Some(std::slice::from_ref(&item)), false),
            Ok(Files::from([("crt".to_owned(), vec![1])]))
        );
        assert!(choose(all.clone(), Some(&[item.clone(), lost.clone()]), false).is_err());
        assert_eq!(choose(all, Some(&[item, lost]), true).unwrap().len(), 1);
    }
}
