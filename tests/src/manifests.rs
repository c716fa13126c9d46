//! The folder with the manifests that a gateway is started on, and shapes for the common objects.
//!
//! Files are replaced by rename, so that a gateway never reads half of one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Identity;

/// A folder of manifests, all of one namespace unless they say otherwise.
pub struct Site {
    folder: TempDir,
    namespace: String,
}

impl Site {
    /// An empty folder whose objects name no namespace.
    pub fn new() -> Self {
        Self::of_namespace("default")
    }

    /// An empty folder for a namespace.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn of_namespace(namespace: &str) -> Self {
        let folder = TempDir::with_prefix("yett-site-").expect("a folder can be made");
        Self { folder, namespace: namespace.to_owned() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, whole or not at all, and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (file, draft) = (self.path().join(name), self.path().join(format!(".{name}.draft")));
        fs::write(&draft, text).expect("a manifest can be written");
        fs::rename(&draft, &file).expect("a manifest can be put in place");
        file
    }

    /// Removes a file.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).expect("the manifest is there");
    }

    /// Writes an object to `Kind.name.yaml`.
    ///
    /// # Panics
    /// When it has no kind or name.
    pub fn apply(&self, mut object: Value) -> PathBuf {
        let kind = object["kind"].as_str().expect("an object has a kind").to_owned();
        let name = object["metadata"]["name"].as_str().expect("an object has a name").to_owned();
        if self.namespace != "default" && object["metadata"].get("namespace").is_none() {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        let text = serde_saphyr::to_string(&object).expect("JSON is YAML");
        self.write(&format!("{kind}.{name}.yaml"), &text)
    }

    /// A `kubernetes.io/tls` Secret.
    pub fn tls_secret(&self, name: &str, identity: &Identity) {
        let data = [("tls.crt", identity.cert_pem()), ("tls.key", identity.key_pem().to_owned())];
        self.apply(secret("kubernetes.io/tls", name, &data));
    }

    /// A Secret with `ca.crt`, and `ca.crl` beside it where there is one.
    pub fn bundle(&self, name: &str, ca: &str, crl: Option<&str>) {
        let mut data = vec![("ca.crt", ca.to_owned())];
        data.extend(crl.map(|crl| ("ca.crl", crl.to_owned())));
        self.apply(secret("Opaque", name, &data));
    }

    /// A ConfigMap with `ca.crt`, and `ca.crl` beside it where there is one.
    pub fn bundle_map(&self, name: &str, ca: &str, crl: Option<&str>) {
        let mut data = json!({"ca.crt": ca});
        if let Some(crl) = crl {
            data["ca.crl"] = json!(crl);
        }
        self.apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}),
        );
    }

    /// A Service on port 80 and the slice with its endpoints.
    ///
    /// # Panics
    /// When the endpoints listen on different ports: a slice has one.
    pub fn service(&self, name: &str, endpoints: &[SocketAddr]) {
        self.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }));
        for (index, endpoint) in endpoints.iter().enumerate() {
            self.slice(name, &format!("{name}-{index}"), *endpoint);
        }
    }

    fn slice(&self, service: &str, name: &str, endpoint: SocketAddr) {
        self.apply(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [endpoint.ip().to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": endpoint.port(), "protocol": "TCP"}],
        }));
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// A Secret of some type.
pub fn secret(kind: &str, name: &str, data: &[(&str, String)]) -> Value {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": data})
}

/// A Gateway of class `yett`.
pub fn gateway(name: &str, listeners: &[Value]) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name},
        "spec": {"gatewayClassName": "yett", "listeners": listeners},
    })
}

/// An HTTPS listener.
pub fn https(name: &str, port: u16, hostname: Option<&str>, certificate: &str) -> Value {
    let mut listener = json!({
        "name": name, "port": port, "protocol": "HTTPS",
        "tls": {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "group": "", "name": certificate}]},
    });
    if let Some(hostname) = hostname {
        listener["hostname"] = json!(hostname);
    }
    listener
}

/// An HTTP listener.
pub fn http(name: &str, port: u16) -> Value {
    json!({"name": name, "port": port, "protocol": "HTTP"})
}

/// An `HTTPRoute` with these rules.
pub fn route(name: &str, gateway: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": gateway}], "rules": rules},
    })
}

/// A rule that sends everything to a Service.
pub fn to(service: &str) -> Value {
    json!([{"backendRefs": [{"name": service, "port": 80}]}])
}

/// A `FrontendTLSPolicy` for listeners of a Gateway.
pub fn policy(name: &str, gateway: &str, listeners: &[&str], bundle: &str) -> Value {
    json!({
        "apiVersion": "alb.networking.azure.io/v1", "kind": "FrontendTLSPolicy", "metadata": {"name": name},
        "spec": {
            "targetRef": {
                "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway, "sectionNames": listeners,
            },
            "default": {"verify": {"caCertificateRef": {"name": bundle, "group": "", "kind": "Secret"}}},
        },
    })
}

/// A `RevocationPolicy` for a listener of a Gateway; `spec`: all but its targets.
pub fn revocation(name: &str, gateway: &str, listener: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway, "sectionName": listener,
    }]);
    json!({
        "apiVersion": "gateway.yett.dev/v1alpha1", "kind": "RevocationPolicy", "metadata": {"name": name}, "spec": spec,
    })
}

/// `spec.tls.frontend` validation by a ConfigMap (GEP-91).
pub fn validation(bundle: &str, mode: Option<&str>) -> Value {
    let mut validation = json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": bundle}]});
    if let Some(mode) = mode {
        validation["mode"] = json!(mode);
    }
    json!({"validation": validation})
}

/// The condition of a type, as (status, reason, message).
pub fn condition(conditions: &Value, kind: &str) -> Option<(String, String, String)> {
    let found = conditions.as_array()?.iter().find(|condition| condition["type"] == kind)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_survives_the_way_through_yaml() {
        let site = Site::of_namespace("test-infra");
        let long = "x".repeat(5000) + "\nsecond: line #no comment\n";
        let object = secret("Opaque", "ca.bundle", &[("ca.crt", long.clone())]);
        let file = site.apply(object.clone());
        let text = fs::read_to_string(file).unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["data"], object["data"]);
        assert_eq!(read["metadata"]["namespace"], "test-infra");
        site.bundle_map("map", &long, Some("on"));
        let text = fs::read_to_string(site.path().join("ConfigMap.map.yaml")).unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["data"]["ca.crt"], long.as_str());
        assert_eq!(read["data"]["ca.crl"], "on");
    }
}
