//! Structures that several kinds share: metadata, references, selectors.

use super::form::Form;
use super::{Field, Schema, Shape, optional, required};

pub(super) const fn text(form: Form, max: usize) -> Schema {
    Schema::Text { form, min: 1, max }
}

pub(super) const ANY: Schema = Schema::Any;
pub(super) const BOOL: Schema = Schema::Bool;
pub(super) const FREE: Schema = Schema::Text { form: Form::Free, min: 0, max: usize::MAX };
pub(super) const PORT: Schema = Schema::Integer { min: 1, max: 65535 };
pub(super) const GROUP: Schema = Schema::Text { form: Form::Group, min: 0, max: 253 };
pub(super) const KIND: Schema = text(Form::Kind, 63);
pub(super) const NAME: Schema = text(Form::Free, 253);
pub(super) const NAMESPACE: Schema = text(Form::Label, 63);
pub(super) const SECTION: Schema = text(Form::Subdomain, 253);
pub(super) const HOSTNAME: Schema = text(Form::Hostname, 253);
pub(super) const PRECISE_HOSTNAME: Schema = text(Form::Subdomain, 253);
pub(super) const DURATION: Schema = text(Form::Duration, usize::MAX);
pub(super) const TEXTS: Schema = Schema::Map { key: Form::Free, value: &FREE, max: usize::MAX };

const LABEL_MAP: Schema = Schema::Map {
    key: Form::QualifiedName,
    value: &Schema::Text { form: Form::LabelValue, min: 0, max: 63 },
    max: usize::MAX,
};
const TIMESTAMP: Schema = text(Form::Timestamp, 64);
const ANNOTATIONS: Schema = Schema::Map { key: Form::QualifiedName, value: &FREE, max: usize::MAX };

/// Metadata of kinds whose name is a subdomain.
pub(super) const METADATA: Schema = Schema::Object(&Shape::of(&metadata_fields(&text(Form::Subdomain, 253))));
/// Metadata of a Service.
pub(super) const SERVICE_METADATA: Schema =
    Schema::Object(&Shape::of(&metadata_fields(&text(Form::ServiceName, 63))));
/// Metadata of a Namespace.
pub(super) const NAMESPACE_METADATA: Schema = Schema::Object(&Shape::of(&metadata_fields(&NAMESPACE)));

const fn metadata_fields(name: &'static Schema) -> [Field; 15] {
    [
        required("name", name),
        optional("namespace", &NAMESPACE),
        optional("labels", &LABEL_MAP),
        optional("annotations", &ANNOTATIONS),
        optional("generation", &Schema::Integer { min: 0, max: i64::MAX }),
        optional("creationTimestamp", &TIMESTAMP),
        optional("uid", &FREE),
        optional("resourceVersion", &FREE),
        optional("generateName", &FREE),
        optional("deletionTimestamp", &FREE),
        optional("deletionGracePeriodSeconds", &ANY),
        optional("finalizers", &ANY),
        optional("ownerReferences", &ANY),
        optional("managedFields", &ANY),
        optional("selfLink", &ANY),
    ]
}

/// The members of every document of a kind with a `spec`.
pub(super) const fn object_fields(metadata: &'static Schema, spec: Field) -> [Field; 5] {
    [
        required("apiVersion", &FREE),
        required("kind", &FREE),
        required("metadata", metadata),
        spec,
        optional("status", &ANY),
    ]
}

pub(super) const SECRET_REF: Schema = Schema::Object(&Shape::of(&[
    optional("group", &GROUP),
    optional("kind", &KIND),
    required("name", &NAME),
    optional("namespace", &NAMESPACE),
]));

pub(super) const OBJECT_REF: Schema = Schema::Object(&Shape::of(&[
    required("group", &GROUP),
    required("kind", &KIND),
    required("name", &NAME),
    optional("namespace", &NAMESPACE),
]));

pub(super) const LOCAL_REF: Schema = Schema::Object(&Shape::of(&[
    required("group", &GROUP),
    required("kind", &KIND),
    required("name", &NAME),
]));

pub(super) const LABEL_SELECTOR: Schema = Schema::Object(&Shape::of(&[
    optional("matchLabels", &LABEL_MAP),
    optional(
        "matchExpressions",
        &Schema::List {
            item: &Schema::Object(&Shape::of(&[
                required("key", &text(Form::QualifiedName, 317)),
                required("operator", &Schema::Word(&["In", "NotIn", "Exists", "DoesNotExist"])),
                optional("values", &Schema::List { item: &FREE, min: 0, max: usize::MAX }),
            ])),
            min: 0,
            max: usize::MAX,
        },
    ),
]));
