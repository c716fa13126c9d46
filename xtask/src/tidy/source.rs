//! One Rust file as facts: the paths it names, and where it is unsafe, panics, or turns a lint off. Each fact knows its
//! line and whether it stands in test code.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The facts of a file.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path within the tree.
    pub(super) file: String,
    /// Its module path within the package `gateway`; none for files elsewhere. The crate's root is empty.
    pub(super) module: Option<Vec<String>>,
    /// Every path with its leading `crate`, `self` and `super` resolved to `crate`, in `use` and anywhere else.
    pub(super) paths: Vec<Fact<Vec<String>>>,
    pub(super) unsafe_words: Vec<Fact<()>>,
    /// Lint exceptions, and whether each has a reason.
    pub(super) exceptions: Vec<Fact<bool>>,
    /// What would panic, where no lint exception covers it.
    pub(super) panics: Vec<Fact<String>>,
    /// Lines of product code: neither test code nor whole-line comments.
    pub(super) own_lines: usize,
    /// Files and directories that modules declared for tests only may live in, within the tree.
    pub(super) test_places: Vec<PathBuf>,
}

/// Something found, and where.
#[derive(Debug)]
pub(super) struct Fact<T> {
    pub(super) line: usize,
    pub(super) test: bool,
    pub(super) what: T,
}

/// A file that is no Rust.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) line: usize,
    pub(super) said: String,
}

impl Source {
    /// Reads a file; `test` where another file declares it for tests only.
    ///
    /// # Errors
    /// When it is not a sequence of Rust tokens.
    pub(super) fn read(path: &Path, text: &str, test: bool) -> Result<Source, Unreadable> {
        let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| Unreadable {
            line: error.span().start().line,
            said: error.to_string(),
        })?;
        let file = path.to_string_lossy().into_owned();
        let module = module_of(&file);
        let mut walk = Walk {
            module: module.clone().unwrap_or_default(),
            source: Source {
                module,
                paths: Vec::new(),
                unsafe_words: Vec::new(),
                exceptions: Vec::new(),
                panics: Vec::new(),
                own_lines: 0,
                test_places: Vec::new(),
                file,
            },
            test_lines: Vec::new(),
        };
        let state = State { test: test || in_test_directory(&walk.source.file), panics_excepted: false };
        walk.stream(stream, state);
        let Walk { mut source, test_lines, .. } = walk;
        if !state.test {
            let own = |(at, line): &(usize, &str)| {
                !line.trim_start().starts_with("//")
                    && !test_lines.iter().any(|(from, to)| (*from..=*to).contains(&(at + 1)))
            };
            source.own_lines = text.lines().enumerate().filter(own).count();
        }
        Ok(source)
    }
}

/// `gateway/src/tls/accept.rs` → `tls`, `accept`.
fn module_of(file: &str) -> Option<Vec<String>> {
    let within = file.strip_prefix("gateway/src/")?.strip_suffix(".rs")?;
    let mut module: Vec<String> = within.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || within == "lib" || within == "main" {
        module.pop();
    }
    Some(module)
}

/// Integration tests and benchmarks, which no attribute marks.
fn in_test_directory(file: &str) -> bool {
    file.split('/').rev().skip(1).any(|directory| directory == "tests" || directory == "benches")
}

/// Where the file of `mod name;` may be: beside `mod.rs` and its like, else below a directory of the file's own name.
fn places_of(file: &str, name: &str, path: Option<String>) -> Vec<PathBuf> {
    let file = Path::new(file);
    let beside = file.parent().unwrap_or(Path::new(""));
    if let Some(path) = path {
        return vec![beside.join(path)];
    }
    let stem = file.file_stem().unwrap_or_default();
    let below = if ["mod", "lib", "main"].iter().any(|root| stem == *root) {
        beside.into()
    } else {
        beside.join(stem)
    };
    vec![below.join(format!("{name}.rs")), below.join(name)]
}

#[derive(Clone, Copy)]
struct State {
    test: bool,
    panics_excepted: bool,
}

struct Walk {
    /// Where we are, inline modules included.
    module: Vec<String>,
    source: Source,
    /// First and last line of each item of test code.
    test_lines: Vec<(usize, usize)>,
}

impl Walk {
    fn stream(&mut self, stream: TokenStream, state: State) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        self.tokens(&tokens, state);
    }

    fn tokens(&mut self, tokens: &[TokenTree], outer: State) {
        let mut state = outer;
        let mut at = 0;
        while at < tokens.len() {
            at += match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => match attribute(&tokens[at..]) {
                    Some((group, true)) => {
                        state = self.attribute(group, state);
                        3
                    }
                    Some((_, false)) => self.item(&tokens[at..], state),
                    None => 1,
                },
                TokenTree::Punct(punct) => {
                    self.method(punct.as_char(), &tokens[at..], state);
                    1
                }
                TokenTree::Ident(word) if word == "mod" => self.inline_module(&tokens[at..], state),
                TokenTree::Ident(word) if word == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    self.import(&tokens[at..], state)
                }
                TokenTree::Ident(_) => self.path(&tokens[at..], state),
                TokenTree::Group(group) => {
                    self.stream(group.stream(), state);
                    1
                }
                TokenTree::Literal(_) => 1,
            };
        }
    }

    /// An item with its outer attributes, or one attribute that no item follows; gives the number of tokens taken.
    fn item(&mut self, tokens: &[TokenTree], outer: State) -> usize {
        let mut state = outer;
        let mut at = 0;
        while let Some((group, false)) = attribute(&tokens[at..]) {
            state = self.attribute(group, state);
            at += 2;
        }
        if state.test == outer.test && state.panics_excepted == outer.panics_excepted {
            return at;
        }
        let end = tokens[at..].iter().position(ends_item).map_or(tokens.len(), |end| at + end + 1);
        if state.test
            && !outer.test
            && let (Some(first), Some(last)) = (tokens.first(), tokens.get(end - 1))
        {
            self.test_lines.push((first.span().start().line, last.span().end().line));
            let declared =
                tokens[at..end].iter().skip_while(|token| !is_word(token, "mod")).collect::<Vec<_>>();
            if let [_, TokenTree::Ident(name), TokenTree::Punct(_)] = declared.as_slice() {
                let places = places_of(&self.source.file, &name.to_string(), path_given(&tokens[..at]));
                self.source.test_places.extend(places);
            }
        }
        self.tokens(&tokens[at..end], state);
        end
    }

    /// Reads an attribute's facts, and gives the state of what it stands on.
    fn attribute(&mut self, group: &Group, outer: State) -> State {
        let mut state = outer;
        let words = words(group.stream());
        let first = words.first().map_or("", |(_, word)| word.as_str());
        let has = |word: &str| words.iter().any(|(_, have)| have == word);
        if first == "cfg" && has("test") && !has("not") {
            state.test = true;
        }
        for (line, word) in &words {
            if word == "unsafe" {
                self.source.unsafe_words.push(Fact { line: *line, test: state.test, what: () });
            }
        }
        if matches!(first, "allow" | "expect") || (first == "cfg_attr" && (has("allow") || has("expect"))) {
            let line = group.span_open().start().line;
            self.source.exceptions.push(Fact { line, test: state.test, what: has("reason") });
            let covered = ["unwrap_used", "expect_used", "panic", "unreachable"].iter().any(|lint| has(lint));
            // An exception that holds in test builds only excuses nothing in the product.
            state.panics_excepted |= covered && !(first == "cfg_attr" && has("test"));
        }
        self.paths_within(group.stream(), state);
        state
    }

    /// The paths in an attribute, `#[tracing::instrument]` for one.
    fn paths_within(&mut self, stream: TokenStream, state: State) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at += match &tokens[at] {
                TokenTree::Ident(_) => self.path(&tokens[at..], state),
                TokenTree::Group(group) => {
                    self.paths_within(group.stream(), state);
                    1
                }
                _ => 1,
            };
        }
    }

    /// `mod name { … }`; gives the number of tokens taken.
    fn inline_module(&mut self, tokens: &[TokenTree], state: State) -> usize {
        if let [_, TokenTree::Ident(name), TokenTree::Group(body), ..] = tokens {
            self.module.push(name.to_string());
            self.stream(body.stream(), state);
            self.module.pop();
            return 3;
        }
        1
    }

    /// `use …;` gives the number of tokens taken.
    fn import(&mut self, tokens: &[TokenTree], state: State) -> usize {
        let end = tokens.iter().position(|token| is_punct(Some(token), ';')).unwrap_or(tokens.len());
        self.import_tree(&tokens[1..end], &[], state);
        end
    }

    /// One level of a use tree, behind what stands before its braces.
    fn import_tree(&mut self, tokens: &[TokenTree], before: &[String], state: State) {
        for tree in tokens.split(|token| is_punct(Some(token), ',')) {
            let mut path = before.to_vec();
            for (at, token) in tree.iter().enumerate() {
                match token {
                    TokenTree::Ident(word) if word == "as" => break,
                    // `{self}` names what stands before the braces.
                    TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                    TokenTree::Ident(word) => path.push(word.to_string()),
                    TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
                    TokenTree::Group(group) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.import_tree(&inner, &path, state);
                        path.clear();
                        debug_assert_eq!(at + 1, tree.len(), "braces end a use tree");
                    }
                    _ => {}
                }
            }
            if let (Some(first), false) = (tree.first(), path.is_empty()) {
                self.name(first.span().start().line, &path, state);
            }
        }
    }

    /// A path in code, macros included; gives the number of tokens taken.
    fn path(&mut self, tokens: &[TokenTree], state: State) -> usize {
        let mut path = Vec::new();
        let mut taken = 0;
        while let Some(TokenTree::Ident(word)) = tokens.get(taken) {
            path.push(word.to_string());
            taken += 1;
            if !(is_punct(tokens.get(taken), ':') && is_punct(tokens.get(taken + 1), ':')) {
                break;
            }
            taken += 2;
        }
        let line = tokens[0].span().start().line;
        let called =
            is_punct(tokens.get(taken), '!') && matches!(tokens.get(taken + 1), Some(TokenTree::Group(_)));
        match path.as_slice() {
            [word] if word == "unsafe" => {
                self.source.unsafe_words.push(Fact { line, test: state.test, what: () });
            }
            [word] if called => {
                if ["panic", "unreachable", "todo", "unimplemented"].contains(&word.as_str()) {
                    self.panic(line, format!("{word}!"), state);
                }
                self.name(line, &[format!("{word}!")], state);
            }
            // A plain word is a name of any kind.
            [_] => {}
            _ => self.name(line, &path, state),
        }
        taken
    }

    /// `.unwrap()`, and `.expect("…")` with a literal: other types have methods of that name.
    fn method(&mut self, punct: char, tokens: &[TokenTree], state: State) {
        if let ('.', [_, TokenTree::Ident(name), TokenTree::Group(arguments), ..]) = (punct, tokens)
            && arguments.delimiter() == Delimiter::Parenthesis
        {
            let first = arguments.stream().into_iter().next();
            let panics = (name == "unwrap" && first.is_none())
                || (name == "expect"
                    && matches!(first, Some(TokenTree::Literal(text)) if text.to_string().contains('"')));
            if panics {
                self.panic(name.span().start().line, format!(".{name}(…)"), state);
            }
        }
    }

    fn panic(&mut self, line: usize, what: String, state: State) {
        if !state.panics_excepted {
            self.source.panics.push(Fact { line, test: state.test, what });
        }
    }

    /// Notes a path, seen from the crate's root where it starts within the crate.
    fn name(&mut self, line: usize, path: &[String], state: State) {
        let resolved = match path[0].as_str() {
            "self" | "super" => {
                let up = path.iter().filter(|word| *word == "super").count();
                let down = path.iter().skip_while(|word| *word == "self" || *word == "super");
                let base = &self.module[..self.module.len().saturating_sub(up)];
                let from_root = std::iter::once("crate".to_owned()).chain(base.iter().cloned());
                from_root.chain(down.cloned()).collect()
            }
            _ => path.to_vec(),
        };
        self.source.paths.push(Fact { line, test: state.test, what: resolved });
    }
}

/// `#[…]` or `#![…]`: its brackets, and whether it is an inner one.
fn attribute(tokens: &[TokenTree]) -> Option<(&Group, bool)> {
    let bracketed = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket);
    let inner = is_punct(tokens.get(1), '!');
    let group = tokens.get(if inner { 2 } else { 1 });
    match group {
        Some(TokenTree::Group(found)) if is_punct(tokens.first(), '#') && bracketed(group) => {
            Some((found, inner))
        }
        _ => None,
    }
}

/// What `#[path = "…"]` says, among an item's attributes.
fn path_given(attributes: &[TokenTree]) -> Option<String> {
    attributes.iter().find_map(|token| {
        let TokenTree::Group(group) = token else { return None };
        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
        match inner.as_slice() {
            [key, _, TokenTree::Literal(path)] if is_word(key, "path") => {
                Some(path.to_string().trim_matches('"').to_owned())
            }
            _ => None,
        }
    })
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(found) if found == word)
}

fn ends_item(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
        || is_punct(Some(token), ';')
}

fn is_punct(token: Option<&TokenTree>, punct: char) -> bool {
    matches!(token, Some(TokenTree::Punct(found)) if found.as_char() == punct)
}

/// Every word in a stream at any depth, with its line.
fn words(stream: TokenStream) -> Vec<(usize, String)> {
    stream
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(word) => vec![(word.span().start().line, word.to_string())],
            TokenTree::Group(group) => words(group.stream()),
            _ => Vec::new(),
        })
        .collect()
}
