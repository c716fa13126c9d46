//! The environment of a container, and what else a pod's fields say to its programs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret,
};
use kube::Api;

use super::Node;
use crate::kube::net::API;

/// The environment of a container: that of every container, then what the pod says.
pub(super) async fn of(
    node: &Node,
    pod: &Pod,
    container: &Container,
    address: &str,
) -> Result<Vec<(String, String)>> {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME".to_owned(), "/".to_owned()),
        ("HOSTNAME".to_owned(), super::launch::hostname(pod).unwrap_or_else(|| node.name.clone())),
        ("KUBERNETES_SERVICE_HOST".to_owned(), API.to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), "443".to_owned()),
    ]);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        let mut values = BTreeMap::new();
        if let Some(map) = &source.config_map_ref {
            values = or_nothing(config_map(node, pod, &map.name).await, map.optional)?;
        }
        if let Some(secret) = &source.secret_ref {
            values = or_nothing(self::secret(node, pod, &secret.name).await, secret.optional)?;
        }
        for (name, value) in values {
            all.insert(format!("{prefix}{name}"), String::from_utf8_lossy(&value).into_owned());
        }
    }
    for EnvVar { name, value, value_from } in container.env.iter().flatten() {
        let known: Vec<_> = all.clone().into_iter().collect();
        let value = match value_from {
            None => Some(expand(value.as_deref().unwrap_or_default(), &known)),
            Some(source) => {
                self::value(node, pod, container, source, address).await.with_context(|| name.clone())?
            }
        };
        if let Some(value) = value {
            all.insert(name.clone(), value);
        }
    }
    Ok(all.into_iter().collect())
}

async fn value(
    node: &Node,
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    address: &str,
) -> Result<Option<String>> {
    if let Some(field) = &source.field_ref {
        return self::field(node, pod, field, address).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return self::resource(container, resource).map(Some);
    }
    let (values, key, is_optional) = if let Some(wanted) = &source.secret_key_ref {
        (secret(node, pod, &wanted.name).await, &wanted.key, wanted.optional)
    } else if let Some(wanted) = &source.config_map_key_ref {
        (config_map(node, pod, &wanted.name).await, &wanted.key, wanted.optional)
    } else {
        bail!("a source that is not known");
    };
    let value = or_nothing(values, is_optional)?.remove(key);
    if value.is_none() && is_optional != Some(true) {
        bail!("there is no key {key}");
    }
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

fn or_nothing(
    found: Result<BTreeMap<String, Vec<u8>>>,
    is_optional: Option<bool>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    if is_optional == Some(true) { Ok(found.unwrap_or_default()) } else { found }
}

async fn secret(node: &Node, pod: &Pod, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(node.client.clone(), namespace);
    let secret = api.get(name).await.with_context(|| format!("reading the Secret {name}"))?;
    Ok(secret_data(secret))
}

async fn config_map(node: &Node, pod: &Pod, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(node.client.clone(), namespace);
    let map = api.get(name).await.with_context(|| format!("reading the ConfigMap {name}"))?;
    Ok(config_data(map))
}

pub(super) fn secret_data(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}

pub(super) fn config_data(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let bytes = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    text.chain(bytes).collect()
}

/// A field of the pod.
pub(super) fn field(node: &Node, pod: &Pod, field: &ObjectFieldSelector, address: &str) -> Result<String> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref().context("a pod has a spec")?);
    let node_address = node.number.address().to_string();
    let one = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key.trim_end_matches("']"))).cloned().unwrap_or_default()
    };
    let all = |map: &Option<BTreeMap<String, String>>| {
        let lines = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let path = field.field_path.as_str();
    if let Some(key) = path.strip_prefix("metadata.labels['") {
        return Ok(one(&meta.labels, key));
    }
    if let Some(key) = path.strip_prefix("metadata.annotations['") {
        return Ok(one(&meta.annotations, key));
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => all(&meta.labels),
        "metadata.annotations" => all(&meta.annotations),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => node_address,
        "status.podIP" | "status.podIPs" => address.to_owned(),
        other => bail!("the field {other} is not known"),
    })
}

/// A limit or request; in whole units, as if the divisor were 1.
fn resource(container: &Container, wanted: &ResourceFieldSelector) -> Result<String> {
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, name) = wanted.resource.split_once('.').context("a resource has a kind")?;
    let map = if kind == "limits" { resources.limits } else { resources.requests };
    let text = map.unwrap_or_default().remove(name).map(|quantity| quantity.0).unwrap_or_default();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().unwrap_or(0);
    Ok(match &text[digits..] {
        "m" => number.div_ceil(1000),
        "Ki" => number << 10,
        "Mi" => number << 20,
        "Gi" => number << 30,
        _ => number,
    }
    .to_string())
}

/// `$(NAME)` as the value of a variable that is known, `$$` as `$`; anything else as it stands.
pub(super) fn expand(text: &str, known: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        let value = name.and_then(|(name, _)| known.iter().find(|(known, _)| known == name));
        if let (Some((_, after)), Some((_, value))) = (name, value) {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
            rest = rest.strip_prefix("$$").unwrap_or(&rest[1..]);
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn variables_are_put_in_where_they_are_known() {
        let known = [("A".to_owned(), "1".to_owned())];
        for (text, expected) in
            [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("cost: $5", "cost: $5"), ("$(A", "$(A"), ("", "")]
        {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
