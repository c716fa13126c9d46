//! The examples are what their pages say: they are run as they stand, but for the backend's port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gateway_tests::{Backend, Curl, Node, tools, wait};
use serde_json::Value;
use tempfile::TempDir;

/// A copy of an example in a folder of its own, which reaches `backend` instead of port 8080.
fn copy(name: &str, backend: &Backend) -> TempDir {
    let folder = TempDir::with_prefix("yett-example-").unwrap();
    for entry in fs::read_dir(repository().join("config/examples").join(name)).unwrap() {
        let from = entry.unwrap().path();
        let to = folder.path().join(from.file_name().unwrap());
        if from.is_file() {
            fs::copy(&from, &to).unwrap();
        }
        if from.extension().is_some_and(|extension| extension == "yaml") {
            let ours = format!("port: {}", backend.address().port());
            fs::write(&to, fs::read_to_string(&from).unwrap().replace("port: 8080", &ours)).unwrap();
        }
    }
    folder
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn with_certificate(node: &Node, port: u16, pki: &Path) -> Curl {
    let file = |name: &str| pki.join(name).display().to_string();
    Curl::to(node.address(port)).with("--cert", &file("client.crt")).with("--key", &file("client.key"))
}

fn assert_clean(node: &Node) {
    let (status, body) = node.admin("/report");
    assert_eq!(status, 200, "{body}");
    let report: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(report["findings"], Value::Array(Vec::new()), "an example has faults");
}

#[test]
fn the_quickstart_serves_until_the_client_is_revoked() {
    let backend = Backend::start();
    let example = copy("quickstart", &backend);
    tools::run(&mut Command::new(example.path().join("make-certificates")));
    let pki = example.path().join("pki");
    let node = Node::at(example.path()).ready();
    assert_clean(&node);

    let url = "https://localhost:8443/";
    let nobody = Curl::to(node.address(8443)).get(url);
    assert_eq!((nobody.status, nobody.exit != 0), (0, true), "{nobody:?}");
    let answer = with_certificate(&node, 8443, &pki).get(url);
    assert_eq!(answer.status, 200, "{answer:?}");

    tools::run(Command::new(example.path().join("revoke")).arg("client"));
    wait::soon("the client to be refused", || {
        let answer = with_certificate(&node, 8443, &pki).get(url);
        answer.status == 400 && answer.reason() == "certificate_revoked"
    });
}

#[test]
fn the_mtls_page_works_as_it_is_written() {
    let backend = Backend::start();
    let example = copy("mtls", &backend);
    let page = fs::read_to_string(example.path().join("README.md")).unwrap();
    let making = page.split("```").find(|block| block.contains("openssl genrsa")).unwrap();
    tools::run(Command::new("bash").current_dir(example.path()).args(["-euc", making]));
    let pki = example.path().join("pki");
    let manifests = repository().join("tests/data/walkthrough").display().to_string();
    let node = Node::at(example.path()).arg("--config").arg(&manifests).ready();
    assert_clean(&node);

    let url = "https://localhost:8443/";
    assert_eq!(Curl::to(node.https()).get(url).status, 0);
    let answer = with_certificate(&node, 443, &pki).get(url);
    assert_eq!(answer.status, 200, "{answer:?}");

    let authority = "openssl ca -config ca.cnf -keyfile root.key -cert root.crt";
    let revoking =
        format!("{authority} -revoke client.crt; {authority} -gencrl -crldays 7 -out new; mv new root.crl");
    tools::run(Command::new("bash").current_dir(&pki).args(["-euc", &revoking]));
    wait::soon("the client to be refused", || with_certificate(&node, 443, &pki).get(url).status == 400);
}
