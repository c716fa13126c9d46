//! The kinds of the Gateway API as we read them, held against the API's own definitions: every field is known, needed
//! where it is needed, and takes what it may take, or stands in `tests/data/crd-fields.toml` with the reason why not.
//!
//! The definitions come from the Go module `sigs.k8s.io/gateway-api`, which the Go command fetches once and keeps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gateway::resources::{KnownField, KnownForm, known_fields};
use gateway_tests::go::Go;
use serde::Deserialize;
use serde_json::Value;

/// The kinds, and the files that define them.
const KINDS: [(&str, &str); 4] = [
    ("GatewayClass", "gatewayclasses"),
    ("Gateway", "gateways"),
    ("HTTPRoute", "httproutes"),
    ("ReferenceGrant", "referencegrants"),
];
/// The version of each that is compared.
const VERSION: &str = "v1";
const LIST: &str = include_str!("../data/crd-fields.toml");

/// The committed differences.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    difference: Vec<Difference>,
}

/// A difference that is meant.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(deny_unknown_fields)]
struct Difference {
    kind: String,
    /// One field; with `.*` at its end all below as well.
    field: String,
    /// In which respect: `unknown`, `unsupported`, `opaque`, `required`, `values`, `bounds`, `type`, `extra`.
    what: String,
    reason: String,
}

/// A difference that was found.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Found {
    kind: &'static str,
    field: String,
    what: &'static str,
    words: String,
}

impl Difference {
    fn covers(&self, found: &Found) -> bool {
        let field = match self.field.strip_suffix(".*") {
            Some(holder) => found
                .field
                .strip_prefix(holder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{'])),
            None => self.field == found.field,
        };
        field && self.kind == found.kind && self.what == found.what
    }
}

/// A field of a definition.
#[derive(Clone, Debug)]
struct Defined {
    required: bool,
    schema: Value,
}

#[test]
fn our_kinds_are_those_of_the_gateway_api() {
    let Some(module) = module() else { return };
    let mut found = Vec::new();
    for (kind, file) in KINDS {
        let read = |channel: &str| {
            let file = format!("config/crd/{channel}/gateway.networking.k8s.io_{file}.yaml");
            definition(&module.join(file))
        };
        let ours: BTreeMap<String, KnownField> = known_fields(kind)
            .into_iter()
            .filter(|field| field.path.starts_with("spec"))
            .map(|field| (field.path.clone(), field))
            .collect();
        let (standard, experimental) = (read("standard"), read("experimental"));
        assert!(standard.len() > 3 && ours.len() > 3, "{kind} is not empty");
        compare(kind, &standard, &ours, &mut found);
        for path in
            ours.keys().filter(|path| !experimental.contains_key(*path) && !standard.contains_key(*path))
        {
            found.push(Found {
                kind,
                field: path.clone(),
                what: "extra",
                words: "the API has no such field".to_owned(),
            });
        }
    }
    let list: List = toml::from_str(LIST).unwrap();
    let known: BTreeSet<&Difference> = list.difference.iter().collect();
    assert_eq!(known.len(), list.difference.len(), "tests/data/crd-fields.toml has an entry twice");
    let mut wrong: Vec<String> = found
        .iter()
        .filter(|found| !known.iter().any(|difference| difference.covers(found)))
        .map(|Found { kind, field, what, words }| format!("{kind} {field}: {what}: {words}"))
        .collect();
    for difference in &known {
        let Difference { kind, field, what, reason } = difference;
        if !found.iter().any(|found| difference.covers(found)) {
            wrong.push(format!(
                "tests/data/crd-fields.toml: {kind} {field}: {what}: there is no such difference any more"
            ));
        }
        if reason.trim().len() < 10 {
            wrong.push(format!("tests/data/crd-fields.toml: {kind} {field}: {what}: the reason is missing"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where the module with the definitions is; `None`, said aloud, where there is no Go to fetch it with.
fn module() -> Option<PathBuf> {
    let test = "our_kinds_are_those_of_the_gateway_api";
    let go = Go::module("kube/crds", test)?;
    go.say(&["mod", "download", "sigs.k8s.io/gateway-api"], test)?;
    go.say(&["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api"], test).map(PathBuf::from)
}

/// Every field of `spec` in a definition, by path.
fn definition(file: &Path) -> BTreeMap<String, Defined> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let definition: Value = serde_saphyr::from_str(&text).unwrap();
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let version = versions.iter().find(|version| version["name"] == VERSION).unwrap();
    let root = &version["schema"]["openAPIV3Schema"];
    let mut fields = BTreeMap::new();
    below("", root, &mut fields);
    fields.retain(|path, _| path.starts_with("spec"));
    fields
}

fn below(path: &str, schema: &Value, fields: &mut BTreeMap<String, Defined>) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        add(path, required.contains(&name.as_str()), schema, fields);
    }
    if schema.get("items").is_some() {
        add(format!("{path}[]"), false, &schema["items"], fields);
    }
    if schema["additionalProperties"].is_object() {
        add(format!("{path}{{}}"), false, &schema["additionalProperties"], fields);
    }
}

fn add(path: String, required: bool, schema: &Value, fields: &mut BTreeMap<String, Defined>) {
    below(&path, schema, fields);
    fields.insert(path, Defined { required, schema: schema.clone() });
}

fn compare(
    kind: &'static str,
    theirs: &BTreeMap<String, Defined>,
    ours: &BTreeMap<String, KnownField>,
    found: &mut Vec<Found>,
) {
    for (path, defined) in theirs {
        let mut differ = |what, words: String| found.push(Found { kind, field: path.clone(), what, words });
        let Some(known) = ours.get(path) else {
            // Below what is not looked into nothing is known; that is told once, at its head.
            let is_below =
                |known: &&KnownField| known.form == KnownForm::Opaque && is_within(path, &known.path);
            if !ours.values().any(|known| is_below(&known)) {
                differ("unknown", "we do not know the field".to_owned());
            }
            continue;
        };
        if !known.supported {
            differ("unsupported", "we refuse a document that has it".to_owned());
            continue;
        }
        if known.required != defined.required {
            differ(
                "required",
                format!("required is {} with us and {} there", known.required, defined.required),
            );
        }
        let theirs = form(&defined.schema);
        match (&known.form, &theirs) {
            (KnownForm::Opaque, _) => differ("opaque", "we do not look into it".to_owned()),
            (ours, theirs) if std::mem::discriminant(ours) != std::mem::discriminant(theirs) => {
                differ("type", format!("{ours:?} with us and {theirs:?} there"));
            }
            (KnownForm::OneOf(ours), KnownForm::OneOf(theirs)) => {
                let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) =
                    (ours.iter().collect(), theirs.iter().collect());
                if ours != theirs {
                    differ("values", format!("{ours:?} with us and {theirs:?} there"));
                }
            }
            (ours, theirs) if ours != theirs => {
                differ("bounds", format!("{ours:?} with us and {theirs:?} there"));
            }
            _ => {}
        }
    }
}

fn is_within(path: &str, holder: &str) -> bool {
    path.strip_prefix(holder).is_some_and(|rest| rest.starts_with(['.', '[', '{']))
}

/// A definition's schema in our terms.
fn form(schema: &Value) -> KnownForm {
    let bound = |name: &str| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok());
    let words = schema["enum"].as_array().map(|words| {
        words.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect()
    });
    match (words, schema["type"].as_str()) {
        (Some(words), _) => KnownForm::OneOf(words),
        (None, Some("boolean")) => KnownForm::Boolean,
        (None, Some("integer")) => KnownForm::Integer {
            min: schema["minimum"].as_i64().unwrap_or(i64::from(i32::MIN)),
            max: schema["maximum"].as_i64().unwrap_or(i64::from(i32::MAX)),
        },
        (None, Some("string")) => {
            // What has to fit a pattern cannot be empty unless the pattern says so first of all.
            let pattern = schema["pattern"].as_str();
            let formed = pattern.is_some_and(|pattern| !pattern.starts_with("^$|"));
            let min = bound("minLength").unwrap_or(usize::from(formed));
            KnownForm::Text { min, max: bound("maxLength").unwrap_or(usize::MAX) }
        }
        (None, Some("array")) => KnownForm::List {
            min: bound("minItems").unwrap_or(0),
            max: bound("maxItems").unwrap_or(usize::MAX),
        },
        (None, Some("object")) if schema["additionalProperties"].is_object() => {
            KnownForm::Map { max: bound("maxProperties").unwrap_or(usize::MAX) }
        }
        (None, Some("object")) => KnownForm::Object,
        _ => KnownForm::Opaque,
    }
}
