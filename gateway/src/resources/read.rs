//! Text to objects: documents are cut apart, read, checked, completed and typed, each for itself.
//!
//! Every document comes out as an [`Entry`]: an object, or the problems that keep it from being one, with what is known
//! of its identity, so that a caller who has an earlier version of it can keep that in service.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::checks::outline::{KnownField, outline};
use super::checks::{self, Fault, Faults, Schema, nearest, quote};
use super::object::{AnyObject, Kind, Object, Origin};
use super::problem::{Code, Problem, Severity};
use super::spans::{Place, Spans};
use super::unreadable::UnreadablePolicy;
use super::yaml::{self, Segment};
use super::{ObjectMeta, Resources, defaults};

/// Documents of one text.
const DOCUMENTS_MAX: usize = 10_000;
/// Groups whose kinds decide about trust; not to know one of them must not pass with a warning.
const GROUPS_OF_OURS: [&str; 2] = ["gateway.yett.dev", "alb.networking.azure.io"];

/// What became of one object of a text.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which document of the text, from 0.
    pub document: u32,
    /// Which item of a List, from 0; 0 for a document that is no List.
    pub item: u32,
    /// What the document says it is, where that could be read.
    pub identity: Option<Identity>,
    /// The object, if it may be in service.
    pub object: Option<AnyObject>,
    /// Stands for the object without its metadata and status: equal for equal specs.
    pub spec_hash: u64,
    /// What was found on the way.
    pub problems: Vec<Problem>,
    /// Set where a policy of trust was written that cannot be read.
    pub unreadable_policy: Option<UnreadablePolicy>,
}

/// Kind and name of an object.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity {
    /// The kind.
    pub kind: &'static str,
    /// Empty for kinds without one.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Reads the documents of a text: YAML or JSON, several of them or a `List`.
pub fn read(text: &str, file: Option<&Arc<str>>) -> Vec<Entry> {
    let segments = yaml::segments(text);
    let mut entries = Vec::with_capacity(segments.len());
    for (document, segment) in segments.iter().take(DOCUMENTS_MAX).enumerate() {
        let document = u32::try_from(document).unwrap_or(u32::MAX);
        let reader = Reader { file, document };
        match yaml::read(*segment) {
            Ok(None) => {}
            Ok(Some(tree)) => reader.document(tree.value, tree.spans, &mut entries),
            Err(error) => entries.push(reader.syntax_error(*segment, error)),
        }
    }
    if segments.len() > DOCUMENTS_MAX {
        let reader = Reader { file, document: u32::MAX };
        let message =
            format!("has {} documents; those after the first {DOCUMENTS_MAX} are left out", segments.len());
        let place = segments.get(DOCUMENTS_MAX).map_or(0, |segment| segment.lines_before + 1);
        let problem = reader.problem(Code::LimitReached, Place { line: place, column: 1 }, message);
        entries.push(reader.refused(0, None, vec![problem]));
    }
    entries
}

impl Resources {
    /// The objects of a text alone, with everything found on the way. Of two that describe the same object the first
    /// one stays.
    pub fn from_text(text: &str) -> (Resources, Vec<Problem>) {
        let mut resources = Resources::default();
        let mut problems = Vec::new();
        for entry in read(text, None) {
            problems.extend(entry.problems);
            resources.unreadable_policies.extend(entry.unreadable_policy);
            if let Some(object) = entry.object
                && let Err(incumbent) = resources.insert(object.clone())
            {
                problems.push(duplicate(&object, &incumbent));
            }
        }
        (resources, problems)
    }
}

/// The problem of an object whose name another one holds already.
pub fn duplicate(newcomer: &AnyObject, incumbent: &Origin) -> Problem {
    let place = incumbent.locate("");
    let first = match &incumbent.file {
        Some(file) => format!("{file}:{}", place.line),
        None => format!("line {}", place.line),
    };
    let (origin, object) = (newcomer.origin(), newcomer.to_string());
    Problem {
        code: Code::Duplicate,
        severity: Severity::Error,
        file: origin.file.clone(),
        place: origin.locate(""),
        message: format!("{object} is described at {first} already; that one stays in service"),
        object,
        field: String::new(),
        help: Some("keep one of the two".to_owned()),
    }
}

/// Where the entries of one document come from.
#[derive(Clone, Copy)]
struct Reader<'a> {
    file: Option<&'a Arc<str>>,
    document: u32,
}

impl Reader<'_> {
    fn problem(&self, code: Code, place: Place, message: String) -> Problem {
        Problem {
            code,
            severity: Severity::Error,
            file: self.file.cloned(),
            place,
            object: String::new(),
            field: String::new(),
            message,
            help: None,
        }
    }

    fn refused(&self, item: u32, identity: Option<Identity>, problems: Vec<Problem>) -> Entry {
        let document = self.document;
        Entry { document, item, identity, object: None, spec_hash: 0, problems, unreadable_policy: None }
    }

    fn syntax_error(&self, segment: Segment<'_>, error: yaml::SyntaxError) -> Entry {
        let origin = self.origin(Spans::leaf(Place { line: segment.lines_before + 1, column: 1 }));
        let unreadable_policy = UnreadablePolicy::in_text(segment.text, origin);
        let problems = vec![self.problem(Code::Syntax, error.place, error.message)];
        Entry { unreadable_policy, ..self.refused(0, None, problems) }
    }

    fn origin(&self, spans: Spans) -> Origin {
        Origin { file: self.file.cloned(), document: self.document, spans: Arc::new(spans) }
    }

    /// A document: an object, or a List of them.
    fn document(&self, mut value: Value, mut spans: Spans, entries: &mut Vec<Entry>) {
        drop_nulls(&mut value);
        let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
        match value.get_mut("items") {
            Some(Value::Array(items)) if is_list => {
                let items = std::mem::take(items);
                let mut places = spans.take_member("items");
                for (index, item) in items.into_iter().enumerate() {
                    entries.push(self.object(
                        u32::try_from(index).unwrap_or(u32::MAX),
                        item,
                        places.take_item(index),
                    ));
                }
            }
            _ => entries.push(self.object(0, value, spans)),
        }
    }

    fn object(&self, item: u32, mut value: Value, spans: Spans) -> Entry {
        let origin = self.origin(spans);
        let known = match self.known(&value, &origin) {
            Ok(known) => known,
            Err(problem) => {
                let unreadable_policy = (problem.severity == Severity::Error)
                    .then(|| UnreadablePolicy::in_value(&value, &origin))
                    .flatten();
                return Entry { unreadable_policy, ..self.refused(item, None, vec![*problem]) };
            }
        };
        let mut faults = Faults::default();
        let identity = identity(&mut value, known, &mut faults);
        faults.walk(&value, known.schema);
        let spec_hash = spec_hash(&value);
        let policy = UnreadablePolicy::in_value(&value, &origin);
        let object = if faults.none_grave() { (known.read)(value, &origin, &mut faults) } else { None };
        let object = object.filter(|_| faults.none_grave());
        let name = identity.as_ref().map_or_else(|| known.kind.to_owned(), ToString::to_string);
        let problems = faults.finish().into_iter().map(|fault| placed(fault, &origin, &name)).collect();
        let unreadable_policy = if object.is_none() { policy } else { None };
        Entry { document: self.document, item, identity, object, spec_hash, problems, unreadable_policy }
    }

    /// Finds the kind of a document.
    fn known(&self, value: &Value, origin: &Origin) -> Result<&'static Known, Box<Problem>> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            let message = "is no object: `apiVersion` and `kind` have to be given, as text".to_owned();
            return Err(Box::new(self.problem(Code::NotAnObject, origin.locate(""), message)));
        };
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        if let Some(known) =
            KNOWN.iter().find(|known| known.kind == kind && known.versions.contains(&api_version))
        {
            return Ok(known);
        }
        let same_kind = KNOWN.iter().find(|known| known.kind == kind);
        let help = match (same_kind, nearest(kind, KNOWN.iter().map(|known| known.kind))) {
            (Some(known), _) => {
                Some(format!("read is {} of apiVersion {}", known.kind, known.versions.join(" or ")))
            }
            (None, Some(near)) => Some(format!("did you mean `{near}`?")),
            (None, None) => None,
        };
        let ours = GROUPS_OF_OURS.contains(&group) || kind == "FrontendTLSPolicy";
        let message = format!("no part of Yett reads {} of {}", quote(kind), quote(api_version));
        let field = if same_kind.is_some() { "apiVersion" } else { "kind" };
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        Err(Box::new(Problem {
            severity: if ours { Severity::Error } else { Severity::Warning },
            object: format!("{kind} {name}").trim_end().to_owned(),
            field: field.to_owned(),
            help,
            ..self.problem(Code::UnknownKind, origin.locate(field), message)
        }))
    }
}

/// Every field that documents of a kind may have; empty for a kind that is not read.
pub fn known_fields(kind: &str) -> Vec<KnownField> {
    KNOWN.iter().find(|known| known.kind == kind).map_or_else(Vec::new, |known| outline(known.schema))
}

/// A kind that is read.
struct Known {
    kind: &'static str,
    versions: &'static [&'static str],
    namespaced: bool,
    schema: &'static Schema,
    read: fn(Value, &Origin, &mut Faults) -> Option<AnyObject>,
}

macro_rules! known {
    ($($kind:ident, $schema:expr, $rules:path, [$($version:literal),+];)+) => {
        static KNOWN: &[Known] = &[$(Known {
            kind: <super::$kind as Kind>::KIND,
            versions: &[$($version),+],
            namespaced: <super::$kind as Kind>::NAMESPACED,
            schema: &$schema,
            read: |value, origin, faults| typed(value, origin, faults, $rules).map(AnyObject::$kind),
        }),+];
    };
}

known! {
    GatewayClass, checks::gateway::GATEWAY_CLASS, checks::gateway::gateway_class, ["gateway.networking.k8s.io/v1"];
    Gateway, checks::gateway::GATEWAY, checks::gateway::gateway, ["gateway.networking.k8s.io/v1"];
    HttpRoute, checks::httproute::HTTP_ROUTE, checks::httproute::http_route, ["gateway.networking.k8s.io/v1"];
    ReferenceGrant, checks::policy::REFERENCE_GRANT, checks::policy::reference_grant,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
    FrontendTlsPolicy, checks::policy::FRONTEND_TLS_POLICY, checks::policy::frontend_tls_policy,
        ["alb.networking.azure.io/v1"];
    Namespace, checks::core::NAMESPACE_KIND, checks::core::namespace, ["v1"];
    Secret, checks::core::SECRET, checks::core::secret, ["v1"];
    ConfigMap, checks::core::CONFIG_MAP, checks::core::config_map, ["v1"];
    Service, checks::core::SERVICE, checks::core::service, ["v1"];
    EndpointSlice, checks::core::ENDPOINT_SLICE, checks::core::endpoint_slice, ["discovery.k8s.io/v1"];
    Backend, checks::policy::BACKEND, checks::policy::backend, ["gateway.yett.dev/v1alpha1"];
    RevocationPolicy, checks::revocation::REVOCATION_POLICY, checks::revocation::revocation_policy,
        ["gateway.yett.dev/v1alpha1"];
}

/// Types a document whose structure holds, and applies the rules between its fields.
fn typed<T>(
    mut value: Value,
    origin: &Origin,
    faults: &mut Faults,
    rules: fn(&Object<T>, &mut Faults),
) -> Option<Arc<Object<T>>>
where
    T: DeserializeOwned + Kind,
{
    let metadata = value.get_mut("metadata").map(Value::take).unwrap_or_default();
    let meta = serde_json::from_value::<ObjectMeta>(metadata).ok();
    let body = if T::HAS_SPEC { value.get_mut("spec").map(Value::take).unwrap_or_default() } else { value };
    let spec = serde_json::from_value::<T>(body).ok();
    let (Some(meta), Some(spec)) = (meta, spec) else {
        // Only where structure and type disagree, which the tests rule out for what they try. The error of the
        // deserializer stays out of the message: it may quote a Secret.
        faults.error(Code::WrongType, "", "has a value that cannot be read");
        return None;
    };
    let object = Object { meta, spec, origin: origin.clone() };
    rules(&object, faults);
    Some(Arc::new(object))
}

/// Kind and name, with the namespace put right: `default` where none is given, none where the kind has none.
fn identity(value: &mut Value, known: &Known, faults: &mut Faults) -> Option<Identity> {
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut)?;
    if !known.namespaced {
        metadata.remove("namespace");
    } else if !metadata.contains_key("namespace") {
        metadata.insert("namespace".to_owned(), defaults::NAMESPACE.into());
    }
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    let namespace = if known.namespaced { text("namespace")? } else { String::new() };
    let name = text("name").filter(|name| !name.is_empty());
    if name.is_none() && metadata.contains_key("generateName") {
        faults.error(
            Code::NotAnObject,
            "metadata.generateName",
            "names cannot be generated here: give a `name`",
        );
    }
    Some(Identity { kind: known.kind, namespace, name: name? })
}

/// `null` says that a member is absent, as the API server has it.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn spec_hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    let empty = Map::new();
    for (name, value) in value.as_object().unwrap_or(&empty) {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            name.hash(&mut hasher);
            value.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn placed(fault: Fault, origin: &Origin, object: &str) -> Problem {
    Problem {
        code: fault.code,
        severity: fault.severity,
        file: origin.file.clone(),
        place: origin.locate(&fault.field),
        object: object.to_owned(),
        field: fault.field,
        message: fault.message,
        help: fault.help,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the structure of a kind lets pass can be typed, so that no fault is left to the deserializer.
        #[test]
        fn structure_and_type_agree(seed: u64) {
            let mut state = seed;
            let mut dice = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize
            };
            for known in KNOWN {
                let value = checks::sample(known.schema, &mut dice);
                let mut faults = Faults::default();
                faults.walk(&value, known.schema);
                prop_assert!(faults.none_grave(), "{value:#} {:?}", faults.finish());
                (known.read)(value.clone(), &Origin::default(), &mut faults);
                let untyped = faults.finish().into_iter().find(|fault| fault.field.is_empty());
                prop_assert!(untyped.is_none(), "{value:#} {untyped:?}");
            }
        }
    }
}
