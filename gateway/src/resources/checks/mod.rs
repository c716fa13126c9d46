//! What an API server would refuse: the structure of each kind as a table, walked over the document as written, and the
//! rules between fields as functions over the typed object.
//!
//! Every fault of an object is found at once, each with its path. Unknown fields are warnings, as they are for a server
//! that prunes them, except where leaving one out would quietly leave clients unverified: there they are errors, so
//! that a typing mistake cannot open a listener.

pub(super) mod core;
mod form;
pub(super) mod gateway;
pub(super) mod httproute;
pub(super) mod outline;
pub(super) mod policy;
pub(super) mod revocation;
mod shared;

use serde_json::Value;

use self::form::Form;
use super::problem::{Code, Severity};

/// Faults kept for one object; what is beyond is counted.
const FAULTS_MAX: usize = 50;
/// Characters of a value that a message quotes.
const QUOTE_CHARS_MAX: usize = 80;

/// The structure of a value.
pub(super) enum Schema {
    /// Anything, not looked into.
    Any,
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Integer { min: i64, max: i64 },
    /// One of these numbers.
    Numbers(&'static [i64]),
    /// Text of a form, with bounds on its characters.
    Text { form: Form, min: usize, max: usize },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A port by number or name.
    PortOrName,
    /// A sequence with bounds on its length.
    List { item: &'static Schema, min: usize, max: usize },
    /// A sequence whose entries all differ.
    Set { item: &'static Schema, max: usize },
    /// A sequence whose entries differ in one member.
    Keyed { item: &'static Schema, key: &'static str, max: usize },
    /// A mapping of names to values of one structure.
    Map { key: Form, value: &'static Schema, max: usize },
    /// A mapping with known members.
    Object(&'static Shape),
}

/// The members of a mapping.
pub(super) struct Shape {
    pub(super) fields: &'static [Field],
    /// The member that says which of the others is meant, and which ones it selects by which word.
    pub(super) union: Option<Union>,
    /// What to make of members that are not listed.
    pub(super) unknown: Unknown,
}

/// A member that selects another: `type: RequestRedirect` selects `requestRedirect`, which has to be there, alone.
pub(super) struct Union {
    pub(super) tag: &'static str,
    pub(super) members: &'static [(&'static str, &'static str)],
}

/// What to make of members that are not listed.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unknown {
    /// The object stays in service without it.
    Warn,
    /// The object is refused: the member may have been meant to make something safe.
    Refuse,
    /// As `Warn`, but `Refuse` for names close to these.
    RefuseNear(&'static [&'static str]),
}

/// One member.
pub(super) struct Field {
    name: &'static str,
    schema: &'static Schema,
    need: Need,
}

#[derive(Clone, Copy, PartialEq)]
enum Need {
    Required,
    Optional,
    /// Part of the kind, but to leave it out in silence would be wrong.
    Unsupported,
}

pub(super) const fn required(name: &'static str, schema: &'static Schema) -> Field {
    Field { name, schema, need: Need::Required }
}

pub(super) const fn optional(name: &'static str, schema: &'static Schema) -> Field {
    Field { name, schema, need: Need::Optional }
}

pub(super) const fn unsupported(name: &'static str) -> Field {
    Field { name, schema: &Schema::Any, need: Need::Unsupported }
}

impl Shape {
    pub(super) const fn of(fields: &'static [Field]) -> Shape {
        Shape { fields, union: None, unknown: Unknown::Warn }
    }

    pub(super) const fn strict(fields: &'static [Field]) -> Shape {
        Shape { fields, union: None, unknown: Unknown::Refuse }
    }
}

/// A fault of one object, before it is known where the object stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) severity: Severity,
    pub(super) field: String,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Faults found so far, and where the walk stands.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    dropped: usize,
    path: String,
}

impl Faults {
    /// The list, closed by a word on what was too much for it.
    pub(super) fn finish(mut self) -> Vec<Fault> {
        if self.dropped > 0 {
            let message = format!("{} more faults in this object", self.dropped);
            let severity = Severity::Warning;
            self.list.push(Fault {
                code: Code::LimitReached,
                severity,
                field: String::new(),
                message,
                help: None,
            });
        }
        self.list
    }

    /// Whether the object may be in service.
    pub(super) fn none_grave(&self) -> bool {
        self.list.iter().all(|fault| fault.severity == Severity::Warning)
    }

    /// A fault of the object between fields, by the path from its root.
    pub(super) fn error(&mut self, code: Code, field: impl Into<String>, message: impl Into<String>) {
        self.push(Fault {
            code,
            severity: Severity::Error,
            field: field.into(),
            message: message.into(),
            help: None,
        });
    }

    fn here(&mut self, code: Code, message: String, help: Option<String>) {
        let field = self.path.clone();
        self.push(Fault { code, severity: Severity::Error, field, message, help });
    }

    fn push(&mut self, fault: Fault) {
        // A grave fault must not be lost behind many light ones.
        if self.list.len() < FAULTS_MAX || (fault.severity == Severity::Error && self.none_grave()) {
            self.list.push(fault);
        } else {
            self.dropped += 1;
        }
    }

    fn within(&mut self, step: &str, walk: impl FnOnce(&mut Faults)) {
        let length = self.path.len();
        self.path.push_str(step);
        walk(self);
        self.path.truncate(length);
    }

    fn member(&mut self, name: &str, walk: impl FnOnce(&mut Faults)) {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        match (plain, self.path.is_empty()) {
            (true, true) => self.within(name, walk),
            (true, false) => self.within(&format!(".{name}"), walk),
            (false, _) => self.within(&format!("[\"{name}\"]"), walk),
        }
    }

    /// Walks a value along its structure.
    pub(super) fn walk(&mut self, value: &Value, schema: &'static Schema) {
        match schema {
            Schema::Any => {}
            Schema::Bool => {
                if !value.is_boolean() {
                    self.wrong_type("true or false", value);
                }
            }
            Schema::Integer { min, max } => self.integer(value, *min, *max),
            Schema::Numbers(numbers) => match value.as_i64() {
                Some(number) if numbers.contains(&number) => {}
                Some(number) => {
                    self.here(Code::NotInEnum, format!("{number} is none of {}", list(numbers)), None);
                }
                None => self.wrong_type("a number", value),
            },
            Schema::Text { form, min, max } => self.text(value, *form, *min, *max),
            Schema::Word(words) => self.word(value, words),
            Schema::PortOrName => match value {
                Value::Number(_) => self.integer(value, 1, 65535),
                _ => self.text(value, Form::Label, 1, 15),
            },
            Schema::List { item, min, max } => self.list(value, item, *min, *max, |_, _| {}),
            Schema::Set { item, max } => self.list(value, item, 0, *max, |faults, items| {
                faults.differ(items.iter().enumerate(), "");
            }),
            Schema::Keyed { item, key, max } => self.list(value, item, 0, *max, |faults, items| {
                let keys = items.iter().enumerate();
                faults.differ(keys.filter_map(|(index, item)| item.get(key).map(|key| (index, key))), key);
            }),
            Schema::Map { key, value: schema, max } => self.map(value, *key, schema, *max),
            Schema::Object(shape) => self.object(value, shape),
        }
    }

    fn integer(&mut self, value: &Value, min: i64, max: i64) {
        match value.as_i64() {
            Some(number) if (min..=max).contains(&number) => {}
            Some(number) => {
                self.here(Code::OutOfBounds, format!("{number} is not between {min} and {max}"), None);
            }
            None if value.is_u64() => {
                self.here(Code::OutOfBounds, format!("{value} is not between {min} and {max}"), None);
            }
            None => self.wrong_type("a whole number", value),
        }
    }

    fn text(&mut self, value: &Value, form: Form, min: usize, max: usize) {
        let Value::String(text) = value else { return self.wrong_type("text", value) };
        let length = text.chars().count();
        if length < min && min == 1 {
            self.here(Code::OutOfBounds, "must not be empty".to_owned(), None);
        } else if length < min || length > max {
            self.here(
                Code::OutOfBounds,
                format!("has {length} characters, not between {min} and {max}"),
                None,
            );
        } else if !form.holds(text) {
            let quoted = if form.quotable() { quote(text) } else { "the value".to_owned() };
            self.here(Code::BadFormat, format!("{quoted} is no {}", form.words()), None);
        }
    }

    fn word(&mut self, value: &Value, words: &[&'static str]) {
        let Value::String(text) = value else { return self.wrong_type("text", value) };
        if !words.contains(&text.as_str()) {
            let help = nearest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            self.here(Code::NotInEnum, format!("{} is none of {}", quote(text), words.join(", ")), help);
        }
    }

    fn list(
        &mut self,
        value: &Value,
        item: &'static Schema,
        min: usize,
        max: usize,
        together: impl FnOnce(&mut Faults, &[Value]),
    ) {
        let Value::Array(items) = value else { return self.wrong_type("a list", value) };
        if items.len() < min && min == 1 {
            self.here(Code::OutOfBounds, "needs at least one entry".to_owned(), None);
        } else if items.len() < min || items.len() > max {
            let entries = if items.len() == 1 { "entry" } else { "entries" };
            let message = format!("has {} {entries}, not between {min} and {max}", items.len());
            self.here(Code::OutOfBounds, message, None);
        }
        for (index, value) in items.iter().enumerate() {
            self.within(&format!("[{index}]"), |faults| faults.walk(value, item));
        }
        together(self, items);
    }

    /// Every entry that repeats an earlier one.
    fn differ<'a>(&mut self, keys: impl Iterator<Item = (usize, &'a Value)>, member: &str) {
        let mut seen = std::collections::HashMap::new();
        for (index, key) in keys {
            if let Some(first) = seen.insert(key, index) {
                seen.insert(key, first);
                let path =
                    if member.is_empty() { format!("[{index}]") } else { format!("[{index}].{member}") };
                let message = format!("repeats entry {first}");
                self.within(&path, |faults| faults.here(Code::NotUnique, message, None));
            }
        }
    }

    fn map(&mut self, value: &Value, key: Form, schema: &'static Schema, max: usize) {
        let Value::Object(members) = value else { return self.wrong_type("a mapping", value) };
        if members.len() > max {
            self.here(Code::OutOfBounds, format!("has {} entries, more than {max}", members.len()), None);
        }
        for (name, value) in members {
            self.member(name, |faults| {
                if !key.holds(name) || name.len() > 317 {
                    faults.here(Code::BadFormat, format!("{} is no {}", quote(name), key.words()), None);
                }
                faults.walk(value, schema);
            });
        }
    }

    fn object(&mut self, value: &Value, shape: &'static Shape) {
        let Value::Object(members) = value else { return self.wrong_type("a mapping", value) };
        for Field { name, schema, need } in shape.fields {
            match (members.get(*name), need) {
                (Some(value), Need::Required | Need::Optional) => {
                    self.member(name, |faults| faults.walk(value, schema));
                }
                (Some(_), Need::Unsupported) => self.member(name, |faults| {
                    faults.here(Code::Unsupported, format!("`{name}` is not supported"), None);
                }),
                (None, Need::Required) => self.member(name, |faults| {
                    faults.here(Code::MissingField, format!("`{name}` is required"), None);
                }),
                (None, _) => {}
            }
        }
        if let Some(union) = &shape.union {
            self.union(members, union);
        }
        for name in members.keys() {
            if !shape.fields.iter().any(|field| field.name == name) {
                self.unknown_member(name, shape);
            }
        }
    }

    fn union(&mut self, members: &serde_json::Map<String, Value>, union: &Union) {
        let Some(tag) = members.get(union.tag).and_then(Value::as_str) else { return };
        for (word, member) in union.members {
            match (*word == tag, members.contains_key(*member)) {
                (true, false) => self.member(member, |faults| {
                    faults.here(
                        Code::MissingField,
                        format!("`{member}` is required by `{}: {tag}`", union.tag),
                        None,
                    );
                }),
                (false, true) => self.member(member, |faults| {
                    let message = format!("`{member}` must not stand beside `{}: {}`", union.tag, short(tag));
                    faults.here(Code::Contradiction, message, None);
                }),
                _ => {}
            }
        }
    }

    fn unknown_member(&mut self, name: &str, shape: &'static Shape) {
        let known = shape.fields.iter().map(|field| field.name);
        let help = match (nearest(name, known.clone()), inner_holder(name, shape)) {
            (Some(known), _) => format!("did you mean `{known}`?"),
            (None, Some(holder)) => format!("`{holder}` has a field of this name: is the indentation right?"),
            (None, None) => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
        };
        let refused = match shape.unknown {
            Unknown::Warn => false,
            Unknown::Refuse => true,
            Unknown::RefuseNear(words) => nearest(name, words.iter().copied()).is_some(),
        };
        let severity = if refused { Severity::Error } else { Severity::Warning };
        self.member(name, |faults| {
            let (code, field, message) =
                (Code::UnknownField, faults.path.clone(), format!("unknown field {}", quote(name)));
            faults.push(Fault { code, severity, field, message, help: Some(help) });
        });
    }

    fn wrong_type(&mut self, expected: &str, value: &Value) {
        let found = match value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a mapping",
        };
        let scalar = matches!(value, Value::Bool(_) | Value::Number(_));
        let help = (expected == "text" && scalar).then(|| "put the value in quotes".to_owned());
        self.here(Code::WrongType, format!("has to be {expected}, not {found}"), help);
    }
}

/// The member of `shape` that holds a member of this name itself.
fn inner_holder(name: &str, shape: &'static Shape) -> Option<&'static str> {
    let holds = |field: &&Field| match field.schema {
        Schema::Object(inner) => inner.fields.iter().any(|field| field.name == name),
        _ => false,
    };
    shape.fields.iter().find(holds).map(|field| field.name)
}

/// The closest of the known names, if it is close enough to have been meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LENGTH_MAX: usize = 64;
    if name.len() > LENGTH_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let ranked = known.map(|known| (distance(&name, &known.to_ascii_lowercase()), known));
    let (distance, known) = ranked.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + known.len() / 5 && distance < known.len()).then_some(known)
}

/// Edits between two words: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swap { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[a.len()][b.len()]
}

/// A value for a message: in backquotes, shortened.
pub(super) fn quote(text: &str) -> String {
    format!("`{}`", short(text))
}

fn short(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

fn list(numbers: &[i64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A value of this structure, by the dice.
#[cfg(test)]
pub(super) fn sample(schema: &Schema, dice: &mut impl FnMut() -> usize) -> Value {
    let mut many = |item: &Schema, min: usize, max: usize| -> Vec<Value> {
        (0..(min + dice() % 3).min(max)).map(|_| sample(item, dice)).collect()
    };
    match schema {
        Schema::Any => Value::Object(serde_json::Map::new()),
        Schema::Bool => Value::Bool(dice().is_multiple_of(2)),
        Schema::Integer { min, max } => if dice().is_multiple_of(2) { *min } else { *max }.into(),
        Schema::Numbers(numbers) => numbers[dice() % numbers.len()].into(),
        Schema::Text { form, min, .. } => form.sample(*min, dice()).into(),
        Schema::Word(words) => words[dice() % words.len()].into(),
        Schema::PortOrName => {
            if dice().is_multiple_of(2) {
                80.into()
            } else {
                "http".into()
            }
        }
        Schema::List { item, min, max } => many(item, *min, *max).into(),
        // One at most, so that entries differ.
        Schema::Set { item, .. } | Schema::Keyed { item, .. } => many(item, 0, 1).into(),
        Schema::Map { key, value, .. } => {
            let members = (0..dice() % 3).map(|_| (key.sample(1, dice()), sample(value, dice))).collect();
            Value::Object(members)
        }
        Schema::Object(shape) => {
            let chosen =
                shape.union.as_ref().map(|union| (union, union.members[dice() % union.members.len()]));
            let mut members = serde_json::Map::new();
            for Field { name, schema, need } in shape.fields {
                let by_union = chosen.as_ref().and_then(|(union, (word, member))| match *name {
                    name if name == union.tag => Some(Some(Value::from(*word))),
                    name if name == *member => Some(Some(sample(schema, dice))),
                    name if union.members.iter().any(|(_, member)| *member == name) => Some(None),
                    _ => None,
                });
                let there = *need == Need::Required || (*need == Need::Optional && dice().is_multiple_of(2));
                let value = by_union.unwrap_or_else(|| there.then(|| sample(schema, dice)));
                members.extend(value.map(|value| ((*name).to_owned(), value)));
            }
            Value::Object(members)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_meant() {
        let known = ["name", "port", "protocol", "hostname", "tls", "allowedRoutes"];
        let table = [
            ("prot", Some("port")),
            ("Port", Some("port")),
            ("tsl", Some("tls")),
            ("hostnames", Some("hostname")),
            ("allowedroute", Some("allowedRoutes")),
            ("protcol", Some("protocol")),
            ("x", None),
            ("certificate", None),
        ];
        for (written, meant) in table {
            assert_eq!(nearest(written, known.into_iter()), meant, "{written}");
        }
    }

    #[test]
    fn a_grave_fault_is_not_lost_behind_light_ones() {
        let mut faults = Faults::default();
        for _ in 0..100 {
            let fault = Fault {
                code: Code::UnknownField,
                severity: Severity::Warning,
                field: String::new(),
                message: String::new(),
                help: None,
            };
            faults.push(fault);
        }
        faults.error(Code::MissingField, "spec", "");
        assert!(!faults.none_grave());
        let list = faults.finish();
        assert_eq!(list.len(), FAULTS_MAX + 2);
        assert_eq!(list.last().unwrap().message, "50 more faults in this object");
    }
}
