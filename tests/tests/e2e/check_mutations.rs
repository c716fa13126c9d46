//! More than a hundred broken manifests, made from good ones by one change each: the finding stands at the line, column
//! and field of the change.
//!
//! The good ones are the examples and the walk-through. Where a field stands is read from their indentation alone, so
//! that what is expected does not come from the code that is tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gateway_tests::checked::{Found, findings};
use gateway_tests::tools;
use tempfile::TempDir;

/// How many broken manifests there have to be at least, not counting those whose fault the parser finds.
const MUTANTS_MIN: usize = 100;

/// The good files, by the folders they are checked with.
const SETS: &[&[&str]] = &[
    &["config/examples/quickstart/gateway.yaml", "config/examples/quickstart/route.yaml"],
    &[
        "tests/data/walkthrough/10-gateway.yaml",
        "tests/data/walkthrough/20-httproute.yaml",
        "tests/data/walkthrough/30-frontendtlspolicy.yaml",
        "config/examples/mtls/surroundings.yaml",
    ],
];

/// A field as it is written.
#[derive(Clone, Debug)]
struct Field {
    /// Line, from 0.
    line: usize,
    /// Column of its name, from 0.
    column: usize,
    /// `spec.listeners[0].port`
    path: String,
    name: String,
    /// What stands behind the colon on the same line.
    value: String,
    /// `Kind namespace/name` of its object.
    object: String,
    kind: String,
}

/// A change of one field, and what it must lead to.
struct Mutant {
    what: String,
    text: String,
    code: &'static str,
    line: usize,
    /// `None` where the parser gives none that could be foretold.
    column: Option<usize>,
    object: String,
    field: String,
}

/// Every field of a document's text, by indentation. `first_line`: of the text in its file, from 0.
fn fields(text: &str, first_line: usize) -> Vec<Field> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut items: Vec<(usize, usize)> = Vec::new();
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') || content == "---" {
            continue;
        }
        let indent = line.len() - content.len();
        let (is_item, content, column) = match content.strip_prefix("- ") {
            Some(rest) => (true, rest, indent + 2),
            None => (false, content, indent),
        };
        open.retain(|(at, _)| *at < column && (!is_item || *at <= indent));
        items.retain(|(at, _)| *at < column && (is_item || *at < indent));
        if is_item {
            match items.iter_mut().find(|(at, _)| *at == indent) {
                Some((_, count)) => *count += 1,
                None => items.push((indent, 0)),
            }
        }
        let Some((name, value)) = content.split_once(':') else { continue };
        let name = name.trim_end();
        let path = path(&open, &items, name);
        open.push((column, name.to_owned()));
        let value = value.trim().to_owned();
        let line = first_line + index;
        let (object, kind) = (String::new(), String::new());
        found.push(Field { line, column, path, name: name.to_owned(), value, object, kind });
    }
    named(found)
}

/// Joins what is open: a sequence's items stand at the column of its name or further in, before the item's own fields.
fn path(open: &[(usize, String)], items: &[(usize, usize)], name: &str) -> String {
    let mut path = String::new();
    for (at, name) in open {
        path = join(&path, name);
        let next = open.iter().map(|(column, _)| *column).find(|column| column > at).unwrap_or(usize::MAX);
        if let Some((_, count)) = items.iter().find(|(column, _)| column >= at && *column < next) {
            path += &format!("[{count}]");
        }
    }
    join(&path, name)
}

fn join(path: &str, name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    match (plain, path.is_empty()) {
        (false, _) => format!("{path}[\"{name}\"]"),
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
    }
}

fn named(mut fields: Vec<Field>) -> Vec<Field> {
    let value = |path: &str| fields.iter().find(|field| field.path == path).map(|field| field.value.clone());
    let kind = value("kind").unwrap();
    let name = value("metadata.name").unwrap();
    let object = match value("metadata.namespace") {
        _ if kind == "Namespace" => format!("{kind} {name}"),
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} default/{name}"),
    };
    for field in &mut fields {
        field.object.clone_from(&object);
        field.kind.clone_from(&kind);
    }
    fields
}

/// Every field of a file.
fn outline(text: &str) -> Vec<Field> {
    let mut all = Vec::new();
    let mut start = 0;
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().chain(&["---"]).enumerate() {
        if *line == "---" {
            all.extend(fields(&lines[start..index].join("\n"), start));
            start = index + 1;
        }
    }
    all
}

/// The text with one line changed.
fn with_line(text: &str, line: usize, new: &str) -> String {
    let changed = text.lines().enumerate().map(|(index, old)| if index == line { new } else { old });
    changed.map(|line| format!("{line}\n")).collect()
}

/// The changes of one field that can be foretold.
fn mutants(text: &str, field: &Field) -> Vec<Mutant> {
    let line = text.lines().nth(field.line).unwrap();
    let free = field.path.contains("annotations") || field.path.contains("labels");
    let top = ["apiVersion", "kind", "metadata"].contains(&field.path.as_str());
    let identity = ["metadata.name", "metadata.namespace"].contains(&field.path.as_str());
    let mut all = Vec::new();
    let mut add = |what: &str, new_line: String, code, column: Option<usize>, path: String| {
        all.push(Mutant {
            what: format!("{} {} {what}", field.object, field.path),
            text: with_line(text, field.line, &new_line),
            code,
            line: field.line,
            column,
            object: field.object.clone(),
            field: path,
        });
    };
    let (before, after) = line.split_at(field.column);
    if !free && !top && !identity {
        let wrong = format!("{}x", field.name);
        let path = format!("{}x", field.path);
        let new = format!("{before}{wrong}{}", &after[field.name.len()..]);
        add("misspelt", new, "YT0104", Some(field.column), path);
    }
    if !free && !top && !identity && !field.value.is_empty() {
        let other = if field.value.starts_with('[') { "7" } else { "[[]]" };
        let new = format!("{before}{}: {other}", field.name);
        let path = field.path.clone();
        add("of the wrong type", new, "YT0106", Some(field.column), path);
    }
    if field.path == "kind" {
        add("unknown", format!("{before}kind: Gatewai"), "YT0103", Some(field.column), "kind".to_owned());
    }
    // Every other one will do: what the parser says of it does not depend on the field.
    if !field.value.is_empty() && !field.value.starts_with('[') && field.line.is_multiple_of(2) {
        let new = format!("{before}{}: \"{}", field.name, field.value);
        add("with a quote too few", new, "YT0101", None, String::new());
    }
    all
}

/// A change of a value that stays well-formed.
struct Meaning {
    file: &'static str,
    /// The line as it is.
    old: &'static str,
    new: &'static str,
    code: &'static str,
    /// Column, from 1, of the line that the finding stands at: the changed one, or this many lines before it.
    place: (usize, usize),
    object: &'static str,
    field: &'static str,
}

const fn meaning(
    file: &'static str,
    [old, new]: [&'static str; 2],
    code: &'static str,
    place: (usize, usize),
    object: &'static str,
    field: &'static str,
) -> Meaning {
    Meaning { file, old, new, code, place, object, field }
}

const GATEWAY: &str = "Gateway test-infra/gateway-01";
const ROUTE: &str = "HTTPRoute test-infra/https-route";
const POLICY: &str = "FrontendTLSPolicy test-infra/mtls-policy";
const SLICE: &str = "EndpointSlice test-infra/echo-local";
const SERVER: &str = "Secret test-infra/listener-tls-secret";
const QUICKSTART: &str = "Gateway default/quickstart";
const EVERYTHING: &str = "HTTPRoute default/everything";

/// References and values that are well-formed and wrong. A reference is told where it begins.
const MEANINGS: &[Meaning] = &[
    meaning(
        "10-gateway.yaml",
        ["        name: listener-tls-secret", "        name: other"],
        "YT0207",
        (2, 9),
        GATEWAY,
        "spec.listeners[0].tls.certificateRefs[0]",
    ),
    meaning(
        "10-gateway.yaml",
        ["    port: 443", "    port: 0"],
        "YT0109",
        (0, 5),
        GATEWAY,
        "spec.listeners[0].port",
    ),
    meaning(
        "10-gateway.yaml",
        ["      mode: Terminate", "      mode: Terminat"],
        "YT0107",
        (0, 7),
        GATEWAY,
        "spec.listeners[0].tls.mode",
    ),
    meaning(
        "10-gateway.yaml",
        ["        from: Same", "        from: Some"],
        "YT0107",
        (0, 9),
        GATEWAY,
        "spec.listeners[0].allowedRoutes.namespaces.from",
    ),
    meaning(
        "20-httproute.yaml",
        ["  - name: gateway-01", "  - name: gateway-02"],
        "YT0216",
        (0, 5),
        ROUTE,
        "spec.parentRefs[0]",
    ),
    meaning(
        "20-httproute.yaml",
        ["    - name: echo", "    - name: ecco"],
        "YT0219",
        (0, 7),
        ROUTE,
        "spec.rules[0].backendRefs[0]",
    ),
    meaning(
        "20-httproute.yaml",
        ["      port: 80", "      port: 81"],
        "YT0219",
        (1, 7),
        ROUTE,
        "spec.rules[0].backendRefs[0]",
    ),
    meaning(
        "30-frontendtlspolicy.yaml",
        ["        name: ca.bundle", "        name: ca.bundel"],
        "YT0210",
        (1, 7),
        POLICY,
        "spec.default.verify.caCertificateRef",
    ),
    meaning(
        "30-frontendtlspolicy.yaml",
        ["    - mtls-listener", "    - mtls-listner"],
        "YT0214",
        (0, 7),
        POLICY,
        "spec.targetRef.sectionNames[0]",
    ),
    meaning(
        "surroundings.yaml",
        ["- addresses: [127.0.0.1]", "- addresses: [127.0.0.300]"],
        "YT0108",
        (0, 15),
        SLICE,
        "endpoints[0].addresses[0]",
    ),
    meaning(
        "surroundings.yaml",
        ["addressType: IPv4", "addressType: IPv5"],
        "YT0107",
        (0, 1),
        SLICE,
        "addressType",
    ),
    meaning(
        "surroundings.yaml",
        [
            "    gateway.yett.dev/file.tls.key: pki/server.key",
            "    gateway.yett.dev/file.tls.key: pki/server.kee",
        ],
        "YT0122",
        (0, 5),
        SERVER,
        "metadata.annotations[\"gateway.yett.dev/file.tls.key\"]",
    ),
    meaning(
        "gateway.yaml",
        ["    value: 127.0.0.1", "    value: 127.0.0"],
        "YT0108",
        (0, 5),
        QUICKSTART,
        "spec.addresses[0].value",
    ),
    meaning(
        "gateway.yaml",
        ["            name: clients", "            name: client"],
        "YT0210",
        (2, 13),
        QUICKSTART,
        "spec.tls.frontend.default.validation.caCertificateRefs[0]",
    ),
    meaning(
        "route.yaml",
        ["      name: local", "      name: locall"],
        "YT0219",
        (2, 7),
        EVERYTHING,
        "spec.rules[0].backendRefs[0]",
    ),
];

/// A copy of a set with the certificates it needs.
fn copy(set: &[&str]) -> TempDir {
    let folder = TempDir::with_prefix("yett-mutants-").unwrap();
    let root = repository();
    for file in set {
        fs::copy(root.join(file), folder.path().join(Path::new(file).file_name().unwrap())).unwrap();
    }
    let quickstart = root.join("config/examples/quickstart");
    for script in ["make-certificates", "revoke"] {
        fs::copy(quickstart.join(script), folder.path().join(script)).unwrap();
    }
    tools::run(&mut Command::new(folder.path().join("make-certificates")));
    for (from, to) in [("ca.crt", "root.crt"), ("ca.crl", "root.crl")] {
        fs::copy(folder.path().join("pki").join(from), folder.path().join("pki").join(to)).unwrap();
    }
    folder
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Whether a finding is the one that a mutant must lead to.
fn is_told(mutant: &Mutant, file: &str, found: &Found) -> bool {
    // A quote that is not closed comes to light where the next one opens, or at the end.
    let is_syntax = mutant.code == "YT0101";
    found.code == mutant.code
        && found.file == file
        && (found.line == mutant.line as u64 + 1
            || mutant.column.is_none() && found.line > mutant.line as u64)
        && mutant.column.is_none_or(|column| found.column == column as u64 + 1)
        && (found.object == mutant.object || is_syntax || mutant.code == "YT0103")
        && found.field == mutant.field
}

fn mutants_of(name: &str, text: &str) -> Vec<Mutant> {
    let mut all: Vec<Mutant> = outline(text).iter().flat_map(|field| mutants(text, field)).collect();
    for meaning in MEANINGS.iter().filter(|meaning| meaning.file == name) {
        let line = text.lines().position(|line| line == meaning.old);
        let line = line.unwrap_or_else(|| panic!("{name} no longer has the line {:?}", meaning.old));
        let (before, column) = meaning.place;
        all.push(Mutant {
            what: format!("{name}: {}", meaning.new),
            text: with_line(text, line, meaning.new),
            code: meaning.code,
            line: line - before,
            column: Some(column - 1),
            object: meaning.object.to_owned(),
            field: meaning.field.to_owned(),
        });
    }
    all
}

#[test]
fn each_of_a_hundred_broken_manifests_is_told_at_its_line() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for set in SETS {
        let folder = copy(set);
        assert_eq!(findings(&[folder.path()]), [], "the good manifests of {set:?}");
        for file in *set {
            let name = Path::new(file).file_name().unwrap().to_str().unwrap();
            let good = fs::read_to_string(folder.path().join(name)).unwrap();
            for mutant in mutants_of(name, &good) {
                count += usize::from(mutant.column.is_some());
                fs::write(folder.path().join(name), &mutant.text).unwrap();
                let findings = findings(&[folder.path()]);
                if !findings.iter().any(|found| is_told(&mutant, name, found)) {
                    let Mutant { what, code, line, column, field, .. } = &mutant;
                    let found: Vec<String> = findings
                        .iter()
                        .map(|f| {
                            format!(
                                "\n    {} {}:{}:{} {} {}",
                                f.code, f.file, f.line, f.column, f.object, f.field
                            )
                        })
                        .collect();
                    wrong.push(format!(
                        "{what}: expected {code} {name}:{}:{column:?} {field}, found{}",
                        line + 1,
                        found.concat()
                    ));
                }
            }
            fs::write(folder.path().join(name), good).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= MUTANTS_MIN, "only {count} broken manifests with a known column");
}
