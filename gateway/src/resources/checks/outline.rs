//! The structure of a kind as a list of fields, so that a test can hold it against the API's own.

use super::{Field, Need, Schema};

/// A field that documents of a kind may have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownField {
    /// As in `spec.listeners[].tls.options{}`: `[]` is an entry of a list, `{}` a value of a mapping with free names.
    pub path: String,
    /// Whether it has to be there where its holder is.
    pub required: bool,
    /// Whether a document that has it is taken.
    pub supported: bool,
    /// What may stand in it.
    pub form: KnownForm,
}

/// What may stand in a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KnownForm {
    /// Anything: it is not looked into.
    Opaque,
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// One of these words or numbers.
    OneOf(Vec<String>),
    /// Text with bounds on its characters; it may have a form besides.
    Text {
        /// Least.
        min: usize,
        /// Most; `usize::MAX` is no bound.
        max: usize,
    },
    /// A port by number or name.
    PortOrName,
    /// A sequence with bounds on its length.
    List {
        /// Least.
        min: usize,
        /// Most; `usize::MAX` is no bound.
        max: usize,
    },
    /// A mapping with free names.
    Map {
        /// Most; `usize::MAX` is no bound.
        max: usize,
    },
    /// A mapping with fields, which follow.
    Object,
}

/// Every field below `schema`, each holder before what it holds.
pub(in crate::resources) fn outline(schema: &'static Schema) -> Vec<KnownField> {
    let mut fields = Vec::new();
    below("", schema, &mut fields);
    fields
}

fn below(path: &str, schema: &'static Schema, fields: &mut Vec<KnownField>) {
    match schema {
        Schema::Object(shape) => {
            for Field { name, schema, need } in shape.fields {
                let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
                let (required, supported) = (*need == Need::Required, *need != Need::Unsupported);
                fields.push(KnownField { path: path.clone(), required, supported, form: form(schema) });
                below(&path, schema, fields);
            }
        }
        Schema::List { item, .. } | Schema::Set { item, .. } | Schema::Keyed { item, .. } => {
            part(&format!("{path}[]"), item, fields);
        }
        Schema::Map { value, .. } => part(&format!("{path}{{}}"), value, fields),
        Schema::Any
        | Schema::Bool
        | Schema::Integer { .. }
        | Schema::Numbers(_)
        | Schema::Text { .. }
        | Schema::Word(_)
        | Schema::PortOrName => {}
    }
}

fn part(path: &str, schema: &'static Schema, fields: &mut Vec<KnownField>) {
    let form = form(schema);
    fields.push(KnownField { path: path.to_owned(), required: false, supported: true, form });
    below(path, schema, fields);
}

fn form(schema: &Schema) -> KnownForm {
    match schema {
        Schema::Any => KnownForm::Opaque,
        Schema::Bool => KnownForm::Boolean,
        Schema::Integer { min, max } => KnownForm::Integer { min: *min, max: *max },
        Schema::Numbers(numbers) => KnownForm::OneOf(numbers.iter().map(ToString::to_string).collect()),
        Schema::Text { min, max, .. } => KnownForm::Text { min: *min, max: *max },
        Schema::Word(words) => KnownForm::OneOf(words.iter().map(ToString::to_string).collect()),
        Schema::PortOrName => KnownForm::PortOrName,
        Schema::List { min, max, .. } => KnownForm::List { min: *min, max: *max },
        Schema::Set { max, .. } | Schema::Keyed { max, .. } => KnownForm::List { min: 0, max: *max },
        Schema::Map { max, .. } => KnownForm::Map { max: *max },
        Schema::Object(_) => KnownForm::Object,
    }
}
