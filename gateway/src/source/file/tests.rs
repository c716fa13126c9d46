use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::model::Severity::{Error, Warning};

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn service(name: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

fn gateway(name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  gatewayClassName: c\n  \
         listeners: [{{name: l, port: 80, protocol: HTTP}}]\n"
    )
}

const POLICY: &str = "apiVersion: alb.networking.azure.io/v1\nkind: FrontendTLSPolicy\nmetadata: {name: p}\nspec:\n  \
                      targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}\n";

fn secret(annotation: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, annotations: {{gateway.yett.dev/file.ca.crl: {annotation}}}}}\n"
    )
}

struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new() -> Folder {
        Folder { dir: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Replaces a link in one step.
    fn link(&self, target: &str, name: &str) {
        let new = self.path(".new-link");
        symlink(target, &new).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn source(&self, names: &[&str]) -> FileSource {
        FileSource::new(names.iter().map(|name| self.path(name)).collect())
    }
}

/// Findings as `code file:line`, the file without its directory; errors with `!`.
fn findings(loaded: &Loaded) -> Vec<String> {
    let show = |finding: &crate::model::Finding| {
        let mark = if finding.severity == Error { "!" } else { "" };
        let file = finding.file.as_deref().map(|file| Path::new(file).file_name().unwrap().to_str().unwrap());
        format!("{}{mark} {}:{}", finding.code, file.unwrap_or_default(), finding.line)
    };
    loaded.findings.iter().map(show).collect()
}

fn names(loaded: &Loaded) -> Vec<String> {
    let resources = &loaded.resources;
    let namespaces = resources.namespaces.iter().map(ToString::to_string);
    namespaces
        .chain(resources.services.iter().map(|service| format!("{service} {}", service.meta.generation)))
        .collect()
}

/// Waits for the source to stir and reads it, until what it holds is as expected.
async fn until(source: &mut FileSource, what: &str, holds: impl Fn(&Loaded) -> bool) -> Loaded {
    let wait = async {
        loop {
            source.changed().await;
            let loaded = source.read();
            if holds(&loaded) {
                break loaded;
            }
        }
    };
    let loaded = timeout(Duration::from_secs(20), wait).await;
    loaded.unwrap_or_else(|_| panic!("{what}: {:?}", names(&source.last)))
}

#[tokio::test]
async fn which_files_are_read() {
    let folder = Folder::new();
    folder.write("a/b/c/deep.yaml", &namespace("deep"));
    folder.write("a/one.yml", &namespace("one"));
    folder.write("a/two.JSON", r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "two"}}"#);
    folder.write("a/.hidden.yaml", &namespace("hidden"));
    folder.write("a/.git/x.yaml", &namespace("git"));
    folder.write("a/notes.txt", "not for us");
    folder.write("single", &namespace("single"));
    symlink(folder.path("a"), folder.path("a/b/loop")).unwrap();
    let mut source = folder.source(&["single", "a"]);
    let loaded = source.read();
    assert_eq!(names(&loaded), ["Namespace deep", "Namespace one", "Namespace single", "Namespace two"]);
    assert!(loaded.changed && loaded.findings.is_empty(), "{:?}", loaded.findings);
    assert!(!source.read().changed, "nothing is new the second time");
}

#[tokio::test]
async fn generations_count_specs() {
    let folder = Folder::new();
    let mut source = folder.source(&["."]);
    let labelled = service("s", "81").replace("{name: s}", "{name: s, labels: {a: b}}");
    let given = service("s", "83").replace("{name: s}", "{name: s, generation: 7}");
    let table = [
        ("the first", service("s", "80"), "Service default/s 1"),
        ("another spec", service("s", "81"), "Service default/s 2"),
        ("other metadata", labelled, "Service default/s 2"),
        ("comments and order", format!("# x\n{}", service("s", "81")), "Service default/s 2"),
        ("a faulty version", service("s", "0"), "Service default/s 2"),
        ("a good one after it", service("s", "82"), "Service default/s 3"),
        ("what the file says counts", given, "Service default/s 7"),
    ];
    for (description, text, expected) in table {
        folder.write("s.yaml", &text);
        assert_eq!(names(&source.read()), [expected], "{description}");
    }
}

#[tokio::test]
async fn of_two_the_first_path_stays() {
    let folder = Folder::new();
    folder.write("a/x.yaml", &format!("---\n{}", service("s", "80")));
    folder.write("b/a.yaml", &service("s", "81"));
    let loaded = folder.source(&["a", "b"]).read();
    assert_eq!(loaded.resources.services.get("default", "s").unwrap().spec.ports[0].port, 80);
    assert_eq!(findings(&loaded), ["YT0112! a.yaml:1"]);
    assert!(loaded.findings[0].message.contains("a/x.yaml:2"), "{}", loaded.findings[0].message);
}

/// What is written into `a.yaml` after a good version with the Services `s` and `t`, and what is in service then.
#[tokio::test]
async fn the_last_good_version_stays() {
    let good = format!("{}---\n{}", service("s", "80"), service("t", "80"));
    type Row = (&'static str, Option<Vec<u8>>, &'static [&'static str], &'static [&'static str]);
    let table: [Row; 7] = [
        (
            "a fault between fields",
            Some(format!("{}---\n{}", service("s", "0"), service("t", "81")).into()),
            &["Service default/s 1", "Service default/t 2"],
            &["YT0109! a.yaml:4", "YT0123 a.yaml:1"],
        ),
        (
            "no YAML",
            Some(format!("a: [\n---\n{}", service("t", "81")).into()),
            &["Service default/s 1", "Service default/t 2"],
            &["YT0101! a.yaml:1", "YT0123 a.yaml:1"],
        ),
        (
            "no YAML, and the documents have moved",
            Some(format!("{}---\na: [", service("t", "80")).into()),
            &["Service default/s 1", "Service default/t 1"],
            &["YT0101! a.yaml:6", "YT0123 a.yaml:1"],
        ),
        (
            "not UTF-8",
            Some(b"a: b\n\xff".to_vec()),
            &["Service default/s 1", "Service default/t 1"],
            &["YT0101! a.yaml:2", "YT0123 a.yaml:1", "YT0123 a.yaml:6"],
        ),
        ("one is taken out", Some(service("t", "80").into()), &["Service default/t 1"], &[]),
        ("the file is gone", None, &["Namespace other"], &[]),
        ("the file is empty", Some(Vec::new()), &["Namespace other"], &[]),
    ];
    for (description, text, in_service, found) in table {
        let folder = Folder::new();
        folder.write("a.yaml", &good);
        let mut source = folder.source(&["."]);
        assert_eq!(names(&source.read()).len(), 2);
        folder.write("other.yaml", &namespace("other"));
        match text {
            Some(text) => fs::write(folder.path("a.yaml"), text).unwrap(),
            None => folder.remove("a.yaml"),
        }
        let loaded = source.read();
        let held: Vec<_> = names(&loaded)
            .into_iter()
            .filter(|name| in_service.contains(&"Namespace other") || !name.contains("other"))
            .collect();
        assert_eq!(held, in_service, "{description}");
        assert_eq!(findings(&loaded), found, "{description}");
        folder.write("a.yaml", &good);
        assert!(source.read().findings.is_empty(), "{description}: all is well again");
    }
}

#[tokio::test]
async fn the_last_set_stays_when_nothing_usable_is_left() {
    let folder = Folder::new();
    folder.write("c/a.yaml", &service("s", "80"));
    let mut source = folder.source(&["c"]);
    assert_eq!(names(&source.read()), ["Service default/s 1"]);
    folder.remove("c/a.yaml");
    let loaded = source.read();
    assert_eq!(names(&loaded), ["Service default/s 1"]);
    assert_eq!((findings(&loaded), loaded.findings[0].severity), (vec!["YT0123! :0".to_owned()], Error));
    fs::remove_dir(folder.path("c")).unwrap();
    let loaded = source.read();
    assert_eq!(names(&loaded), ["Service default/s 1"]);
    assert_eq!(findings(&loaded), ["YT0120! c:0", "YT0123! :0"]);
    folder.write("c/a.yaml", &service("s", "81"));
    assert_eq!(names(&source.read()), ["Service default/s 2"], "the count goes on");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let folder = Folder::new();
    symlink("nowhere", folder.path("dangling.yaml")).unwrap();
    let file = fs::File::create(folder.path("large.yaml")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let loaded = folder.source(&["missing", "."]).read();
    assert_eq!(findings(&loaded), ["YT0120! missing:0", "YT0120! dangling.yaml:0", "YT0121! large.yaml:0"]);
    assert!(loaded.resources.is_empty());
}

#[tokio::test]
async fn a_volume_is_swapped() {
    let folder = Folder::new();
    folder.write("v/..1/a.yaml", &service("s", "80"));
    folder.write("v/..1/b.yaml", &service("t", "80"));
    symlink("..1", folder.path("v/..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), folder.path("v").join(name)).unwrap();
    }
    let mut source = folder.source(&["v"]);
    assert_eq!(names(&source.read()), ["Service default/s 1", "Service default/t 1"]);
    for generation in 2..5 {
        folder.write(&format!("v/..{generation}/a.yaml"), &service("s", &format!("8{generation}")));
        folder.write(&format!("v/..{generation}/b.yaml"), &service("t", &format!("8{generation}")));
        folder.link(&format!("..{generation}"), "v/..data");
        fs::remove_dir_all(folder.path(&format!("v/..{}", generation - 1))).unwrap();
        let expected = [format!("Service default/s {generation}"), format!("Service default/t {generation}")];
        until(&mut source, "a swap", |loaded| names(loaded) == expected).await;
    }
}

#[tokio::test]
async fn changes_are_noticed() {
    let folder = Folder::new();
    folder.write("c/a.yaml", &service("s", "80"));
    folder.write("outside/real.yaml", &namespace("real"));
    folder.write("one/single.yaml", &namespace("single"));
    let mut source = folder.source(&["c", "late", "one/single.yaml"]);
    source.read();
    type Step<'a> = (&'static str, Box<dyn Fn() + 'a>, &'static str);
    let steps: Vec<Step<'_>> = vec![
        (
            "a file is written to",
            Box::new(|| folder.write("c/a.yaml", &service("s", "81"))),
            "Service default/s 2",
        ),
        ("a new directory", Box::new(|| folder.write("c/new/b.yaml", &namespace("b"))), "Namespace b"),
        (
            "a file in the new directory",
            Box::new(|| folder.write("c/new/c.yaml", &namespace("c"))),
            "Namespace c",
        ),
        (
            "a path that was not there",
            Box::new(|| folder.write("late/x/d.yaml", &namespace("d"))),
            "Namespace d",
        ),
        (
            "a file replaced in one step",
            Box::new(|| {
                folder.write("one/.tmp", &namespace("replaced"));
                fs::rename(folder.path("one/.tmp"), folder.path("one/single.yaml")).unwrap();
            }),
            "Namespace replaced",
        ),
        (
            "a link",
            Box::new(|| symlink("../outside/real.yaml", folder.path("c/link.yaml")).unwrap()),
            "Namespace real",
        ),
        (
            "the link's target",
            Box::new(|| folder.write("outside/real.yaml", &namespace("other"))),
            "Namespace other",
        ),
        (
            "the directory is exchanged for another",
            Box::new(|| {
                folder.write("c2/e.yaml", &namespace("e"));
                fs::rename(folder.path("c"), folder.path("old")).unwrap();
                fs::rename(folder.path("c2"), folder.path("c")).unwrap();
            }),
            "Namespace e",
        ),
        ("and written to", Box::new(|| folder.write("c/f.yaml", &namespace("f"))), "Namespace f"),
    ];
    for (description, step, expected) in steps {
        step();
        until(&mut source, description, |loaded| names(loaded).iter().any(|name| name == expected)).await;
    }
    folder.remove("c/f.yaml");
    until(&mut source, "a file is removed", |loaded| !names(loaded).iter().any(|name| name == "Namespace f"))
        .await;
}

#[tokio::test]
async fn reading_does_not_stir() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("s", "80"));
    let mut source = folder.source(&["."]);
    source.read();
    source.read();
    folder.write(".a.yaml.swp", "an editor's");
    source.asked().notify_one();
    assert_eq!(timeout(Duration::from_secs(20), source.changed()).await, Ok(Trigger::Asked));
    assert!(timeout(QUIET * 3, source.changed()).await.is_err());
}

#[tokio::test]
async fn the_regular_look_needs_no_telling() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("s", "80"));
    let mut source = FileSource::with_poll(vec![folder.path(".")], Duration::from_millis(20));
    source.watch = Watch::deaf();
    let loaded = source.read();
    assert_eq!((findings(&loaded), loaded.findings[0].severity), (vec!["YT0124 :0".to_owned()], Warning));
    folder.write("a.yaml", &service("s", "81"));
    assert_eq!(timeout(Duration::from_secs(20), source.changed()).await, Ok(Trigger::Polled));
    assert_eq!(names(&source.read()), ["Service default/s 2"]);
}

#[tokio::test]
async fn files_named_by_annotations() {
    let folder = Folder::new();
    folder.write("c/s.yaml", &secret("../pki/ca.crl"));
    let value = |loaded: &Loaded| {
        let secret = loaded.resources.secrets.get("default", "s").unwrap();
        String::from_utf8(secret.spec.data["ca.crl"].expose().to_vec()).unwrap()
    };
    let mut source = folder.source(&["c"]);
    let loaded = source.read();
    assert_eq!(value(&loaded), "", "the key is there, or it would look as if it was not asked for");
    assert_eq!(findings(&loaded), ["YT0122! s.yaml:3"]);
    folder.write("pki/ca.crl", "one");
    until(&mut source, "the file appears", |loaded| value(loaded) == "one" && loaded.findings.is_empty())
        .await;
    folder.write("pki/ca.crl", "two");
    until(&mut source, "the file changes", |loaded| value(loaded) == "two").await;
    folder.remove("pki/ca.crl");
    until(&mut source, "the file goes", |loaded| !loaded.findings.is_empty()).await;
    let loaded = source.read();
    assert_eq!(
        (value(&loaded), findings(&loaded)),
        ("two".to_owned(), vec!["YT0122! s.yaml:3".to_owned(), "YT0123 s.yaml:1".to_owned()])
    );
    folder.write("elsewhere", "three");
    folder.write("c/s.yaml", &secret(folder.path("elsewhere").to_str().unwrap()));
    until(&mut source, "another file is named", |loaded| value(loaded) == "three").await;
    folder.write("elsewhere", "four");
    until(&mut source, "and changes", |loaded| value(loaded) == "four").await;
}

fn revocation(path: &str) -> String {
    format!(
        "apiVersion: gateway.yett.dev/v1alpha1\nkind: RevocationPolicy\nmetadata: {{name: p}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: g}}]\n  \
         sources: [{{crl: {{path: {path}}}}}]\n"
    )
}

/// What stands at the policy's path: the contents by file name, or the words of a fault.
fn lists(loaded: &Loaded) -> Vec<String> {
    let policy = loaded.resources.revocation_policies.get("default", "p").unwrap();
    match policy.spec.files.values().next().unwrap() {
        Ok(files) => {
            let content = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
            let name = |name: &str| name.rsplit('/').next().unwrap().to_owned();
            files.iter().map(|file| format!("{} {}", name(&file.name), content(&file.data))).collect()
        }
        Err(words) => vec![format!("! {words}")],
    }
}

#[tokio::test]
async fn revocation_lists_in_files_and_directories_are_followed() {
    let folder = Folder::new();
    folder.write("c/p.yaml", &revocation("../crl"));
    let mut source = folder.source(&["c"]);
    let loaded = source.read();
    assert!(lists(&loaded)[0].starts_with('!'), "{:?}", lists(&loaded));
    assert_eq!(findings(&loaded), ["YT0120! p.yaml:6"]);

    folder.write("crl/a.crl", "one");
    folder.write("crl/notes.txt", "no list");
    folder.write("crl/.hidden.crl", "no list");
    let loaded = until(&mut source, "the directory comes", |loaded| lists(loaded) == ["a.crl one"]).await;
    assert_eq!(findings(&loaded), [""; 0]);
    folder.write("crl/b.CRL", "two");
    until(&mut source, "another file", |loaded| lists(loaded) == ["a.crl one", "b.CRL two"]).await;
    folder.write("crl/a.crl", "three");
    until(&mut source, "a file changes", |loaded| lists(loaded) == ["a.crl three", "b.CRL two"]).await;
    folder.remove("crl/a.crl");
    until(&mut source, "a file goes", |loaded| lists(loaded) == ["b.CRL two"]).await;

    // The manifest's fault does not keep the lists from being followed.
    folder.write("c/p.yaml", &format!("{}  x: 1\n", revocation("../crl")));
    let loaded = until(&mut source, "a fault", |loaded| findings(loaded).len() == 2).await;
    assert_eq!(lists(&loaded), ["b.CRL two"]);
    folder.write("crl/b.CRL", "four");
    until(&mut source, "the kept policy's file changes", |loaded| lists(loaded) == ["b.CRL four"]).await;

    folder.write("c/p.yaml", &revocation("../crl"));
    until(&mut source, "no fault", |loaded| findings(loaded).is_empty()).await;
    fs::rename(folder.path("crl"), folder.path("away")).unwrap();
    let loaded = until(&mut source, "the directory is away", |loaded| !findings(loaded).is_empty()).await;
    assert_eq!(lists(&loaded), ["b.CRL four"], "what was there stays in service");
    fs::rename(folder.path("away"), folder.path("crl")).unwrap();
    until(&mut source, "and back", |loaded| findings(loaded).is_empty()).await;

    folder.write("c/p.yaml", &revocation("../crl/b.CRL"));
    until(&mut source, "a file alone", |loaded| lists(loaded) == ["b.CRL four"]).await;
    folder.write("crl/b.CRL", "five");
    until(&mut source, "and it changes", |loaded| lists(loaded) == ["b.CRL five"]).await;
}

/// Whether Gateways `g` and `h` are kept from service.
fn covered(loaded: &Loaded) -> [bool; 2] {
    let policies = &loaded.resources.unreadable_policies;
    ["g", "h"].map(|gateway| policies.iter().any(|policy| policy.may_cover("default", gateway, "l")))
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_at_the_start_keeps_its_listeners_closed() {
    let folder = Folder::new();
    folder.write("g.yaml", &format!("{}---\n{}", gateway("g"), gateway("h")));
    folder.write("p.yaml", &format!("{POLICY}  x: 1\n"));
    let mut source = folder.source(&["."]);
    assert_eq!(covered(&source.read()), [true, false], "the target is known");
    folder.write("p.yaml", &format!("{POLICY}  x: [\n"));
    let loaded = source.read();
    assert_eq!(
        covered(&loaded),
        [true, false],
        "h was in service before; the target may be anything but that"
    );
    folder.write("p.yaml", POLICY);
    assert_eq!(covered(&source.read()), [false, false]);
    folder.write("p.yaml", &format!("{POLICY}  x: [\n"));
    let loaded = source.read();
    assert_eq!(
        (covered(&loaded), loaded.resources.frontend_tls_policies.len()),
        ([false, false], 1),
        "the last good one holds"
    );
}

#[tokio::test]
async fn a_policy_that_never_could_be_read_spares_what_is_in_service() {
    let folder = Folder::new();
    folder.write("g.yaml", &gateway("g"));
    let mut source = folder.source(&["."]);
    assert_eq!(covered(&source.read()), [false, false]);
    folder.write("p.yaml", "kind: FrontendTLSPolicy\nx: [\n");
    folder.write("h.yaml", &gateway("h"));
    assert_eq!(covered(&source.read()), [false, true], "g is in service, h is new");
    folder.write("n.yaml", &namespace("n"));
    assert_eq!(covered(&source.read()), [false, true], "and stays closed");
    folder.remove("p.yaml");
    assert_eq!(covered(&source.read()), [false, false]);
}
