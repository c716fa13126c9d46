//! The text of documents to JSON values with the place of every part.
//!
//! YAML is read as `kubectl` reads it, into JSON, by the core schema of YAML 1.2; JSON files are YAML too. A text is cut
//! into documents first, at the lines that YAML itself reserves for that, so that a fault in one document spares the
//! next. Every growth is bounded: depth, and values counted with what aliases repeat.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::spans::{Place, Spans};

/// Nesting of one document. The deepest field of any kind read lies at about 16.
const DEPTH_MAX: usize = 64;
/// Values of one document, with those that aliases repeat. An EndpointSlice of full size has about 20 thousand.
const VALUES_MAX: usize = 200_000;
/// Prefix of the tags that YAML itself defines.
const CORE_TAGS: &str = "tag:yaml.org,2002:";

/// One document of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment<'a> {
    /// Its text, with the `---` line that opens it.
    pub(super) text: &'a str,
    /// How many lines stand before it in the file.
    pub(super) lines_before: u32,
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) spans: Spans,
}

/// Why a document could not be read. The message quotes nothing of the text but names of members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) place: Place,
    pub(super) message: String,
}

/// Cuts a text into its documents, leaving out those without content.
pub(super) fn segments(text: &str) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    let mut start = 0;
    let mut start_line = 0;
    let mut offset = 0;
    let mut cut = |from: usize, to: usize, lines_before: u32| {
        let text = text.get(from..to).unwrap_or_default();
        if has_content(text) {
            segments.push(Segment { text, lines_before });
        }
    };
    for (line, line_number) in text.split_inclusive('\n').zip(0..) {
        if is_marker(line, "---") {
            cut(start, offset, start_line);
            (start, start_line) = (offset, line_number);
        } else if is_marker(line, "...") {
            cut(start, offset, start_line);
            (start, start_line) = (offset + line.len(), line_number + 1);
        }
        offset += line.len();
    }
    cut(start, offset, start_line);
    segments
}

/// Whether a line is a document marker: the three characters at its start, alone or before white space (YAML 1.2.2,
/// 9.1.2); nothing else in a document may begin like this.
fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there is anything but blank lines, comments, directives and the marker itself.
fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start_matches('\u{feff}');
        let line = if is_marker(line, "---") { line.get(3..).unwrap_or_default() } else { line }.trim();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
    })
}

/// Reads one document. `Ok(None)` where it holds nothing.
pub(super) fn read(segment: Segment<'_>) -> Result<Option<Tree>, SyntaxError> {
    let mut composer = Composer { lines_before: segment.lines_before, ..Composer::default() };
    let syntax_error = |marker: &serde_saphyr::granit_parser::Marker, message: String| {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).saturating_add(segment.lines_before);
        let column = u32::try_from(marker.col() + 1).unwrap_or(u32::MAX);
        SyntaxError { place: Place { line, column }, message }
    };
    for event in Parser::new_from_str(segment.text) {
        let (event, span) = event.map_err(|error| syntax_error(error.marker(), error.info()))?;
        composer.take(event, span).map_err(|message| syntax_error(&span.start, message))?;
    }
    Ok(composer.root.filter(|tree| !tree.value.is_null()))
}

/// Builds the tree from the parser's events.
#[derive(Default)]
struct Composer {
    lines_before: u32,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    values: usize,
    /// Values kept a second time, under their anchors.
    copied: usize,
    root: Option<Tree>,
}

/// What an alias stands for.
#[derive(Clone)]
struct Anchored {
    tree: Tree,
    depth: usize,
    values: usize,
}

/// A collection whose end is still to come.
struct Open {
    place: Place,
    anchor: usize,
    /// `values` when it began.
    values_before: usize,
    /// Depth of the deepest part so far.
    depth: usize,
    parts: OpenParts,
}

enum OpenParts {
    Sequence(Vec<Value>, Vec<Spans>),
    Mapping {
        members: Map<String, Value>,
        spans: Vec<(Box<str>, Spans)>,
        key: Option<(String, Place)>,
        merged: Vec<Tree>,
    },
}

impl Composer {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let place = self.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(text, style, tag.as_deref())?;
                let tree = Tree { value, spans: Spans::leaf(place) };
                self.finish(Anchored { tree, depth: 0, values: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.start(place, anchor, tag.as_deref(), "seq", OpenParts::Sequence(Vec::new(), Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                let parts = OpenParts::Mapping {
                    members: Map::new(),
                    spans: Vec::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.start(place, anchor, tag.as_deref(), "map", parts)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id).cloned() else {
                    return Err("an alias of something it is part of".to_owned());
                };
                self.finish(anchored, 0)
            }
            _ => Ok(()),
        }
    }

    fn start(
        &mut self,
        place: Place,
        anchor: usize,
        tag: Option<&Tag>,
        kind: &str,
        parts: OpenParts,
    ) -> Result<(), String> {
        if let Some(tag) = tag
            && core_tag(tag) != Some(kind)
        {
            return Err("this tag is not known".to_owned());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels of nesting"));
        }
        if self.key_expected() {
            return Err("a member's name has to be text".to_owned());
        }
        self.open.push(Open { place, anchor, values_before: self.values, depth: 0, parts });
        Ok(())
    }

    /// Whether the next scalar is the name of a member.
    fn key_expected(&self) -> bool {
        matches!(self.open.last(), Some(Open { parts: OpenParts::Mapping { key: None, .. }, .. }))
    }

    fn scalar(&self, text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
        let tag = match tag {
            Some(tag) => Some(core_tag(tag).ok_or_else(|| "this tag is not known".to_owned())?),
            None => None,
        };
        // Names are text, whatever they look like: `443:` and `true:` are valid keys of a ConfigMap.
        match (tag, style) {
            _ if self.key_expected() => Ok(Value::String(text.into_owned())),
            (Some("str"), _) | (None, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) => {
                Ok(Value::String(text.into_owned()))
            }
            (None, ScalarStyle::Literal | ScalarStyle::Folded) => Ok(Value::String(text.into_owned())),
            (None | Some("null" | "bool" | "int" | "float"), _) => plain(text),
            _ => Err("this tag is not supported".to_owned()),
        }
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, done: Anchored, anchor: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(done.values);
        if self.values > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values in one document"));
        }
        if self.open.len() + done.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels of nesting"));
        }
        if anchor != 0 {
            self.copied = self.copied.saturating_add(done.values);
            if self.copied > VALUES_MAX {
                return Err(format!("more than {VALUES_MAX} values under anchors"));
            }
            self.anchors.insert(anchor, done.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(done.tree);
            return Ok(());
        };
        open.depth = open.depth.max(done.depth + 1);
        let Tree { value, mut spans } = done.tree;
        match &mut open.parts {
            OpenParts::Sequence(values, places) => {
                values.push(value);
                places.push(spans);
            }
            OpenParts::Mapping { members, spans: places, key, merged } => match key.take() {
                None => match value {
                    Value::String(name) if members.contains_key(&name) => {
                        return Err(format!("`{name}` is written twice"));
                    }
                    Value::String(name) => *key = Some((name, spans.place)),
                    _ => return Err("a member's name has to be text".to_owned()),
                },
                Some((name, _)) if name == "<<" => merge(value, spans, merged)?,
                Some((name, place)) => {
                    spans.place = place;
                    places.push((name.as_str().into(), spans));
                    members.insert(name, value);
                }
            },
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let values = self.values - open.values_before + 1;
        // `finish` counts the parts again together with their holder.
        self.values = open.values_before;
        let tree = match open.parts {
            OpenParts::Sequence(values, places) => {
                Tree { value: Value::Array(values), spans: Spans::items(open.place, places) }
            }
            OpenParts::Mapping { mut members, mut spans, merged, .. } => {
                for Tree { value, spans: mut from } in merged {
                    let Value::Object(defaults) = value else { continue };
                    for (name, value) in defaults {
                        if !members.contains_key(&name) {
                            spans.push((name.as_str().into(), from.take_member(&name)));
                            members.insert(name, value);
                        }
                    }
                }
                Tree { value: Value::Object(members), spans: Spans::members(open.place, spans) }
            }
        };
        self.finish(Anchored { tree, depth: open.depth, values }, open.anchor)
    }

    fn place(&self, span: Span) -> Place {
        Place {
            line: u32::try_from(span.start.line()).unwrap_or(u32::MAX).saturating_add(self.lines_before),
            column: u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX),
        }
    }
}

/// `<<`: members that hold where the mapping does not name them itself; of several, the earlier ones hold.
fn merge(value: Value, mut spans: Spans, merged: &mut Vec<Tree>) -> Result<(), String> {
    match value {
        Value::Object(_) => merged.push(Tree { value, spans }),
        Value::Array(values) if values.iter().all(Value::is_object) => {
            let trees = values
                .into_iter()
                .enumerate()
                .map(|(index, value)| Tree { value, spans: spans.take_item(index) });
            merged.extend(trees);
        }
        _ => return Err("`<<` takes a mapping, or a sequence of mappings".to_owned()),
    }
    Ok(())
}

fn core_tag(tag: &Tag) -> Option<&str> {
    match tag.parts() {
        (CORE_TAGS, suffix) => Some(suffix),
        (prefix, "") => prefix.strip_prefix(CORE_TAGS),
        _ => None,
    }
}

/// A plain scalar by the core schema (YAML 1.2.2, 10.3.2).
fn plain(text: Cow<'_, str>) -> Result<Value, String> {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Ok(Value::String(text.into_owned()));
    }
    Ok(number(&text).map_or_else(|| Value::String(text.into_owned()), Value::Number))
}

fn number(text: &str) -> Option<Number> {
    let radix = |prefix, radix| text.strip_prefix(prefix).map(|digits| u64::from_str_radix(digits, radix));
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return number.ok().map(Number::from);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        if let Ok(number) = unsigned.parse::<i64>() {
            return Some(number.into());
        }
        if let Ok(number) = unsigned.parse::<u64>() {
            return Some(number.into());
        }
    }
    // What `parse` would take beyond the schema's floats (`inf`, `nan`, `infinity`) has other letters.
    let float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.bytes().any(|b| b.is_ascii_digit());
    if float { Number::from_f64(text.parse().ok()?) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Result<Value, SyntaxError> {
        read(Segment { text, lines_before: 0 }).map(|tree| tree.map_or(Value::Null, |tree| tree.value))
    }

    #[test]
    fn documents_are_cut_where_yaml_cuts_them() {
        type Row = (&'static str, &'static str, &'static [(u32, &'static str)]);
        let table: [Row; 9] = [
            ("one", "a: 1\n", &[(0, "a: 1\n")]),
            ("two", "a: 1\n---\nb: 2\n", &[(0, "a: 1\n"), (1, "---\nb: 2\n")]),
            ("a leading marker", "---\na: 1\n", &[(0, "---\na: 1\n")]),
            ("content on the marker's line", "--- {a: 1}\n", &[(0, "--- {a: 1}\n")]),
            ("a marker with a comment", "--- # first\na: 1", &[(0, "--- # first\na: 1")]),
            ("nothing between markers", "---\n# empty\n---\n\n---\na: 1", &[(4, "---\na: 1")]),
            ("four dashes are no marker", "a: |\n  x\n----: 1", &[(0, "a: |\n  x\n----: 1")]),
            ("an end marker", "a: 1\n...\nb: 2", &[(0, "a: 1\n"), (2, "b: 2")]),
            ("windows line ends", "a: 1\r\n---\r\nb: 2\r\n", &[(0, "a: 1\r\n"), (1, "---\r\nb: 2\r\n")]),
        ];
        for (description, text, expected) in table {
            let found: Vec<_> =
                segments(text).iter().map(|segment| (segment.lines_before, segment.text)).collect();
            assert_eq!(found, expected, "{description}");
        }
    }

    #[test]
    fn values() {
        let table = [
            ("integers", "a: 443", json!({"a": 443})),
            ("negative", "a: -1", json!({"a": -1})),
            ("hexadecimal and octal", "[0x1F, 0o17]", json!([31, 15])),
            ("large", "a: 18446744073709551615", json!({"a": 18_446_744_073_709_551_615_u64})),
            ("floats", "[1.5, 1e3, .5, -2.]", json!([1.5, 1000.0, 0.5, -2.0])),
            (
                "what is no number",
                "[1.2.3.4, +, ., 1-2, 12h, -x, 0xg, +-1, '']",
                json!(["1.2.3.4", "+", ".", "1-2", "12h", "-x", "0xg", "+-1", ""]),
            ),
            ("booleans of YAML 1.2 alone", "[true, False, yes, on]", json!([true, false, "yes", "on"])),
            ("null", "[null, ~, ]", json!([null, null])),
            ("quotes make text", "['443', \"true\"]", json!(["443", "true"])),
            ("a tag makes text", "a: !!str 443", json!({"a": "443"})),
            ("block scalars are text", "a: |\n  443\n", json!({"a": "443\n"})),
            ("names are text", "443: a\ntrue: b", json!({"443": "a", "true": "b"})),
            ("aliases repeat", "a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}})),
            (
                "merge keys",
                "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}",
                json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
            ),
            ("merge of several", "<<: [{a: 1}, {a: 2, b: 3}]", json!({"a": 1, "b": 3})),
            ("JSON", "{\"a\": [1, \"\\u0041\"], \"b\": null}", json!({"a": [1, "A"], "b": null})),
        ];
        for (description, text, expected) in table {
            assert_eq!(value(text).unwrap(), expected, "{description}");
        }
    }

    #[test]
    fn faults() {
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let before = level - 1;
            laughs += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
        }
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..70 {
            chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        let anchors =
            (0..60).map(|n| format!("&a{n} [")).collect::<String>() + &"x,".repeat(10_000) + &"]".repeat(60);
        let table = [
            ("a member written twice", "a: 1\nb: 2\na: 3", "3:1", "twice"),
            ("an open bracket", "a: [1, 2", "1:4", "bracket"),
            ("a tab", "a:\n\t- b", "2:2", "tab"),
            ("a mapping as name", "? {a: 1}\n: b", "1:3", "name"),
            ("an unknown tag", "a: !mine b", "1:10", "tag"),
            ("binary", "a: !!binary aGVsbG8=", "1:13", "tag"),
            ("an unknown alias", "a: *b", "1:4", "anchor"),
            ("a merge of text", "<<: a", "1:5", "mapping"),
            ("too deep", deep.as_str(), "1:65", "levels"),
            ("too deep by aliases", chain.as_str(), "64:12", "levels"),
            ("anchors within anchors", anchors.as_str(), "1:20370", "anchors"),
            ("a thousand million laughs", laughs.as_str(), "6:10", "values"),
        ];
        for (description, text, place, message) in table {
            let error = value(text).expect_err(description);
            let at = format!("{}:{}", error.place.line, error.place.column);
            assert!(error.message.contains(message) && at == place, "{description}: {at} {}", error.message);
        }
    }

    #[test]
    fn places_count_from_the_start_of_the_file() {
        let text = "x: 1\n---\nspec:\n  listeners:\n  - name: a\n    port: 80\n  - name: b\n";
        let tree = read(segments(text)[1]).unwrap().unwrap();
        let table = [
            ("spec", (3, 1)),
            ("spec.listeners", (4, 3)),
            ("spec.listeners[0]", (5, 5)),
            ("spec.listeners[0].port", (6, 5)),
            ("spec.listeners[1].name", (7, 5)),
        ];
        for (path, (line, column)) in table {
            assert_eq!(tree.spans.locate(path), Place { line, column }, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            for segment in segments(&text) {
                let _ = read(segment);
            }
        }

        #[test]
        fn anything_like_yaml_is_read_or_refused(
            text in "([a-z&*!<>|{}\\[\\],:?#'\"%@`~0-9. \\n-]|\\n  |\\n- |: |---\\n|\\.\\.\\.\\n|<<: |&a |\\*a |!!str )*"
        ) {
            for segment in segments(&text) {
                let _ = read(segment);
            }
        }

        #[test]
        fn what_json_writes_is_read_back(text in "\\PC{0,20}", number: i64, flag: bool) {
            let written = json!({"t": text, "n": number, "f": [flag, null, {"x": text}]});
            let read = value(&serde_json::to_string_pretty(&written).unwrap()).unwrap();
            prop_assert_eq!(read, written);
        }
    }
}
