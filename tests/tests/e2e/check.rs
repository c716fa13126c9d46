//! `yett check` finds everything at once, each with its place, and says so in the form that was asked for.

use std::path::Path;
use std::process::Stdio;

use gateway_tests::checked::{Found, command, findings};
use gateway_tests::pki::{DAY, When};
use gateway_tests::{Ca, Identity, Site, binary, manifests};
use serde_json::json;

/// A folder with nothing wrong: an mTLS listener with a revocation list, a route and a backend.
struct Good {
    site: Site,
    clients: Ca,
    server: Identity,
}

impl Good {
    fn new() -> Self {
        let (clients, site) = (Ca::root("clients"), Site::new());
        let server = Ca::root("servers").server(&["localhost"]);
        let listener = manifests::https("https", 8443, None, "server");
        let mut gateway = manifests::gateway("web", &[listener]);
        gateway["spec"]["tls"] = json!({"frontend": {"default": manifests::validation("clients", None)}});
        site.apply(gateway);
        site.tls_secret("server", &server);
        site.bundle_map("clients", &clients.pem(), Some(&clients.crl().number(1).pem()));
        site.apply(manifests::route("all", "web", &manifests::to("echo")));
        site.service("echo", &["127.0.0.1:8080".parse().unwrap()]);
        Self { site, clients, server }
    }

    fn findings(&self) -> Vec<Found> {
        findings(&[self.site.path()])
    }

    /// The line of the first place where a file has a text.
    fn line(&self, file: &str, text: &str) -> u64 {
        let content = std::fs::read_to_string(self.site.path().join(file)).unwrap();
        let index = content.lines().position(|line| line.contains(text)).unwrap();
        index as u64 + 1
    }
}

#[test]
fn good_manifests_have_no_findings() {
    let good = Good::new();
    assert_eq!(good.findings(), []);
    let output = command(&[good.site.path()], &["--strict"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "6 objects: no errors, no warnings\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn revocation_lists_are_judged_where_they_stand() {
    let late = |ca: &Ca| ca.crl().number(2).valid(When::Ago(3 * DAY), When::Ago(DAY / 2)).pem();
    let stale = |ca: &Ca| ca.crl().number(2).valid(When::Ago(9 * DAY), When::Ago(5 * DAY)).pem();
    let future = |ca: &Ca| ca.crl().number(2).valid(When::In(DAY), When::In(2 * DAY)).pem();
    let forged = |_: &Ca| Ca::root("clients").crl().number(2).pem();
    let foreign = |_: &Ca| Ca::root("elsewhere").crl().number(2).pem();
    let none = |_: &Ca| "certainly not".to_owned();
    type List = fn(&Ca) -> String;
    let table: [(&str, List, &str, bool); 6] = [
        ("past its nextUpdate", late, "YT0501", false),
        ("long past it", stale, "YT0502", true),
        ("of another issuer", foreign, "YT0505", false),
        ("of the future", future, "YT0507", true),
        ("signed by a namesake", forged, "YT0507", true),
        ("no list", none, "YT0507", true),
    ];
    let good = Good::new();
    for (description, list, code, error) in table {
        good.site.bundle_map("clients", &good.clients.pem(), Some(&list(&good.clients)));
        let findings = good.findings();
        let [found] = &findings[..] else { panic!("{description}: {findings:#?}") };
        assert_eq!((found.code.as_str(), found.error), (code, error), "{description}: {found:?}");
        assert_eq!(found.file, "ConfigMap.clients.yaml", "{description}");
        assert_eq!(found.line, good.line(&found.file, "ca.crl:"), "{description}");
        assert_eq!((found.object.as_str(), found.column), ("ConfigMap default/clients", 3), "{description}");
        assert_eq!(found.field, "data[\"ca.crl\"]", "{description}");
    }
}

#[test]
fn certificates_and_keys_are_judged_where_they_stand() {
    let servers = Ca::root("servers");
    let other = servers.server(&["other"]);
    let expired = servers.leaf("old").names(&["localhost"]).valid(When::Ago(2 * DAY), When::Ago(DAY)).issue();
    let soon = servers.leaf("soon").names(&["localhost"]).valid(When::Ago(DAY), When::In(DAY)).issue();
    let good = Good::new();
    let (gateway, secret) = ("Gateway default/web", "Secret default/server");
    let (reference, chain) = ("spec.listeners[0].tls.certificateRefs[0]", "data[\"tls.crt\"]");
    for (description, identity, code, error, object, field) in [
        ("another's key", good.server.with_key_of(&other), "YT0207", true, gateway, reference),
        ("no certificate", good.server.with_garbage(), "YT0207", true, gateway, reference),
        ("expired", expired, "YT0208", true, secret, chain),
        ("about to expire", soon, "YT0208", false, secret, chain),
    ] {
        good.site.tls_secret("server", &identity);
        let findings = good.findings();
        let found = findings.iter().find(|found| found.code == code);
        let found = found.unwrap_or_else(|| panic!("{description}: {findings:#?}"));
        assert_eq!((found.object.as_str(), found.field.as_str()), (object, field), "{description}");
        assert_eq!(found.error, error, "{description}");
        let text = if object == secret { "tls.crt:" } else { "name: server" };
        assert!(found.line.abs_diff(good.line(&found.file, text)) <= 2, "{description}: {found:?}");
    }
    good.site.tls_secret("server", &good.server.with_key_of(&other));
    good.site.bundle_map("clients", &good.clients.pem(), Some("no list"));
    let codes: Vec<String> = good.findings().into_iter().map(|found| found.code).collect();
    assert!(
        ["YT0207", "YT0507"].iter().all(|code| codes.iter().any(|found| found == code)),
        "one fault hides another: {codes:?}"
    );
}

#[test]
fn a_value_from_a_file_is_told_at_the_annotation() {
    let good = Good::new();
    good.site.remove("ConfigMap.clients.yaml");
    let mut gateway = manifests::gateway("web", &[manifests::https("https", 8443, None, "server")]);
    let references = json!([{"group": "", "kind": "Secret", "name": "clients"}]);
    gateway["spec"]["tls"] =
        json!({"frontend": {"default": {"validation": {"caCertificateRefs": references}}}});
    good.site.apply(gateway);
    good.site.write("ca.pem", &good.clients.pem());
    good.site.write("list.pem", &good.clients.crl().corrupt());
    good.site.write(
        "clients.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: clients\n  annotations:\n    \
         gateway.yett.dev/file.ca.crt: ca.pem\n    gateway.yett.dev/file.ca.crl: list.pem\n",
    );
    let findings = good.findings();
    let [found] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((found.code.as_str(), found.file.as_str()), ("YT0507", "clients.yaml"));
    assert_eq!((found.line, found.column), (7, 5), "{found:?}");
}

#[test]
fn each_form_of_output_and_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    let document = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web}\nspec:\n  \
                    gatewayClassName: yett\n  listeners:\n  - {name: http, port: 8080, protocol: HTTP, hostnam: a.test}\n";
    std::fs::write(&file, document).unwrap();
    let name = file.display();
    let place = "spec.listeners[0].hostnam";
    let says = |arguments: &[&str]| {
        let output = command(&[&file], arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    let human = format!(
        "warning[YT0104]: unknown field `hostnam`
 --> {name}:7:46
7 |   - {{name: http, port: 8080, protocol: HTTP, hostnam: a.test}}
  |                                              ^ did you mean `hostname`?
  = in Gateway default/web, {place}
  = help: yett explain YT0104

1 object: no errors, 1 warning
"
    );
    assert_eq!(says(&[]), (human.clone(), Some(0)));
    assert_eq!(says(&["--strict"]), (human, Some(1)));
    let command = format!(
        "::warning file={name},line=7,col=46,title=YT0104::Gateway default/web: {place}: \
         unknown field `hostnam` (did you mean `hostname`?)\n"
    );
    assert_eq!(says(&["-o", "github"]), (command, Some(0)));
    std::fs::write(&file, document.replace("8080", "70000")).unwrap();
    assert_eq!(says(&["--strict", "-o", "json"]).1, Some(2));
    let codes: Vec<String> = findings(&[&file]).into_iter().map(|found| found.code).collect();
    assert_eq!(codes, ["YT0109", "YT0104"], "all at once, in the order of the document");
}

#[test]
fn what_is_not_there_and_nothing_to_check() {
    let output = command(&[Path::new("/nonexistent/manifests")], &["-o", "github"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("::error file=/nonexistent/manifests,title=YT0120::"), "{text}");
    assert_eq!(output.status.code(), Some(2));
    let output = command(&[], &[]);
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(2)));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to check"));
}

/// Keys never leave their documents, whatever is wrong with them.
#[test]
fn no_excerpt_shows_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    for (description, document) in [
        ("bad base64", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {tls.key: hunter2!}\n"),
        ("a wrong type", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: [hunter2]}\n"),
        ("broken YAML", "apiVersion: v1\nkind: Secret\ndata:\n  a: 'hunter2\n b: hunter2'\n c: x\n"),
        ("no kind", "apiVersion: v1\nkin: Secret\ndata:\n  a: hunter2\n"),
        ("JSON", "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"data\": {\"a\": \"hunter2!\"}}"),
    ] {
        let file = folder.path().join("secret.yaml");
        std::fs::write(&file, document).unwrap();
        for form in ["human", "json", "github"] {
            let output = command(&[&file], &["-o", form]);
            assert_eq!(output.status.code(), Some(2), "{description}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("YT01") && !text.contains("hunter2"), "{description}: {text}");
        }
    }
}

/// `yett … | head` must end quietly.
#[test]
fn a_reader_that_has_gone_is_no_failure() {
    for arguments in [&["explain"][..], &["man"], &["completions", "bash"], &["settings"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut yett = binary::command();
        let output = yett.args(arguments).stdout(Stdio::from(writer)).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments:?}: {output:?}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let wrote = binary::command().arg("man").arg(folder.path()).status().unwrap();
    assert!(wrote.success());
    let page = std::fs::read_to_string(folder.path().join("yett-check.1")).unwrap();
    assert!(page.contains(".TH yett-check 1 20") && page.contains("\\-\\-strict"), "{page}");
    for command in ["run", "demo", "status", "settings", "explain", "completions", "man", "version"] {
        assert!(folder.path().join(format!("yett-{command}.1")).is_file(), "{command}");
    }
    let main = std::fs::read_to_string(folder.path().join("yett.1")).unwrap();
    assert!(main.starts_with(".ie") && main.contains(".TH yett 1 20"), "{main}");
}

#[test]
fn completions_are_scripts_of_their_shells() {
    for (shell, mark) in
        [("bash", "complete -F _yett"), ("zsh", "#compdef yett"), ("fish", "complete -c yett")]
    {
        let output = binary::command().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains(mark) && script.contains("--strict") | script.contains("strict"), "{shell}");
    }
}
