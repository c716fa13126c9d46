//! Where the fields of a document stand, so that a finding made much later can still name line and column.
//!
//! Positions and member names alone are kept, never values: a Secret's document can be located into but not read.

/// A position in a file, both numbers from 1; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// The positions of a value and of everything in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans {
    /// Of the member's name, or of the value where it has none.
    pub place: Place,
    parts: Parts,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Parts {
    #[default]
    None,
    Members(Box<[(Box<str>, Spans)]>),
    Items(Box<[Spans]>),
}

impl Spans {
    /// A value without parts.
    pub fn leaf(place: Place) -> Spans {
        Spans { place, parts: Parts::None }
    }

    /// A mapping.
    pub fn members(place: Place, members: Vec<(Box<str>, Spans)>) -> Spans {
        Spans { place, parts: Parts::Members(members.into()) }
    }

    /// A sequence.
    pub fn items(place: Place, items: Vec<Spans>) -> Spans {
        Spans { place, parts: Parts::Items(items.into()) }
    }

    /// The place of `path`, written as in `spec.listeners[0].tls` or `data["ca.crt"]`. A part that is not there is
    /// answered by the nearest one around it.
    pub fn locate(&self, path: &str) -> Place {
        self.walk(path).0
    }

    /// The place of exactly `path`, if it is there.
    pub fn find(&self, path: &str) -> Option<Place> {
        let (place, rest) = self.walk(path);
        rest.is_empty().then_some(place)
    }

    /// The place of as much of a path as is there, and what is left of it.
    fn walk<'p>(&self, path: &'p str) -> (Place, &'p str) {
        let mut here = self;
        let mut rest = path;
        while !rest.is_empty() {
            let (step, tail) = next_step(rest);
            let Some(inner) = here.part(step) else { break };
            here = inner;
            rest = tail;
        }
        (here.place, rest)
    }

    /// Takes a member out; nothing known about it where it is not there.
    pub(super) fn take_member(&mut self, name: &str) -> Spans {
        let Parts::Members(members) = &mut self.parts else { return Spans::leaf(self.place) };
        let found = members.iter_mut().find(|(member, _)| **member == *name);
        found.map_or(Spans::leaf(self.place), |(_, spans)| std::mem::take(spans))
    }

    /// Takes an item out; nothing known about it where it is not there.
    pub(super) fn take_item(&mut self, index: usize) -> Spans {
        let Parts::Items(items) = &mut self.parts else { return Spans::leaf(self.place) };
        items.get_mut(index).map_or(Spans::leaf(self.place), std::mem::take)
    }

    fn part(&self, step: Step<'_>) -> Option<&Spans> {
        match (&self.parts, step) {
            (Parts::Members(members), Step::Member(name)) => {
                members.iter().find(|(member, _)| **member == *name).map(|(_, spans)| spans)
            }
            (Parts::Items(items), Step::Item(index)) => items.get(index),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

/// Splits the first step off a path.
fn next_step(path: &str) -> (Step<'_>, &str) {
    if let Some((name, tail)) = path.strip_prefix("[\"").and_then(|rest| rest.split_once("\"]")) {
        return (Step::Member(name), after(tail));
    }
    if let Some((index, tail)) = path.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && let Ok(index) = index.parse()
    {
        return (Step::Item(index), after(tail));
    }
    // Not at the first byte, so that every step takes something away.
    let end =
        path.char_indices().skip(1).find(|(_, c)| matches!(c, '.' | '[')).map_or(path.len(), |(at, _)| at);
    let (name, tail) = path.split_at(end);
    (Step::Member(name), after(tail))
}

fn after(tail: &str) -> &str {
    tail.strip_prefix('.').unwrap_or(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_place() {
        let at = |line| Place { line, column: 1 };
        let listener = Spans::members(
            at(4),
            vec![("name".into(), Spans::leaf(at(4))), ("tls".into(), Spans::leaf(at(5)))],
        );
        let spec = Spans::members(at(2), vec![("listeners".into(), Spans::items(at(3), vec![listener]))]);
        let data = Spans::members(at(6), vec![("ca.crt".into(), Spans::leaf(at(7)))]);
        let root = Spans::members(at(1), vec![("spec".into(), spec), ("data".into(), data)]);
        let table = [
            ("the object", "", 1),
            ("a member", "spec", 2),
            ("a member of a member", "spec.listeners", 3),
            ("an item", "spec.listeners[0]", 4),
            ("a member of an item", "spec.listeners[0].tls", 5),
            ("an unwritten member is answered by its holder", "spec.listeners[0].hostname", 4),
            ("and so is what would be inside", "spec.listeners[0].hostname.x[3]", 4),
            ("an index out of range", "spec.listeners[1].tls", 3),
            ("a quoted name", "data[\"ca.crt\"]", 7),
            ("nonsense", "..[[x]\"]", 1),
            ("an item of a mapping", "spec[0]", 2),
        ];
        for (description, path, line) in table {
            assert_eq!(root.locate(path).line, line, "{description}");
        }
    }
}
