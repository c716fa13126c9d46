//! The walk-through's manifests as they are, and the documents around them that a cluster would hold.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::pki::Pki;

macro_rules! walkthrough {
    ($($name:literal),+) => {
        [$(($name, include_str!(concat!("../../../../tests/data/walkthrough/", $name)))),+]
    };
}

/// What the user applies, unchanged.
const MANIFESTS: [(&str, &str); 3] =
    walkthrough!["10-gateway.yaml", "20-httproute.yaml", "30-frontendtlspolicy.yaml"];

/// A folder for `yett run --config`.
#[derive(Debug)]
pub(super) struct Documents {
    folder: PathBuf,
}

impl Documents {
    pub(super) fn write(folder: &Path, pki: &Pki, backend: SocketAddr) -> anyhow::Result<Self> {
        let documents = Self { folder: folder.to_owned() };
        documents.replace("00-namespace.yaml", NAMESPACE)?;
        documents.replace("01-listener-tls-secret.yaml", &server_secret(pki)?)?;
        documents.replace("03-echo.yaml", &echo_service(backend))?;
        documents.renew_bundle(pki)?;
        for (name, text) in MANIFESTS {
            documents.replace(name, text)?;
        }
        Ok(documents)
    }

    /// Writes the Secret `ca.bundle` with the revocation list as it is now.
    pub(super) fn renew_bundle(&self, pki: &Pki) -> anyhow::Result<()> {
        let (certificate, crl) = (BASE64.encode(pki.read("root.crt")?), BASE64.encode(pki.read("root.crl")?));
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: ca.bundle\n  namespace: test-infra\ntype: Opaque\n\
             data:\n  ca.crt: {certificate}\n  ca.crl: {crl}\n"
        );
        self.replace("02-ca-bundle.yaml", &text)
    }

    /// In one step, so that no reader sees half a document.
    fn replace(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let aside = self.folder.join(format!(".{name}"));
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, self.folder.join(name)))
            .with_context(|| format!("cannot write {name}"))
    }
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: test-infra\n";

fn server_secret(pki: &Pki) -> anyhow::Result<String> {
    let (certificate, key) = (BASE64.encode(pki.read("server.crt")?), BASE64.encode(pki.read("server.key")?));
    Ok(format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: listener-tls-secret\n  namespace: test-infra\n\
         type: kubernetes.io/tls\ndata:\n  tls.crt: {certificate}\n  tls.key: {key}\n"
    ))
}

fn echo_service(backend: SocketAddr) -> String {
    let (address, port) = (backend.ip(), backend.port());
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: echo
  namespace: test-infra
spec:
  ports:
  - name: http
    port: 80
    targetPort: {port}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: echo-demo
  namespace: test-infra
  labels:
    kubernetes.io/service-name: echo
addressType: IPv4
ports:
- name: http
  port: {port}
endpoints:
- addresses: [{address}]
  conditions:
    ready: true
"
    )
}
