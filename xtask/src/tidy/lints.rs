//! What the lints ask for, held where a lint cannot see: unsafe by file, exceptions with reasons, panics, the lints'
//! own presence in the manifests, and the length of files.

use super::Rule;
use super::source::Source;
use super::tree::File;

/// The only places where `unsafe` may stand, and what for.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("gateway-common/src/pod.rs", "reads and writes the kernel's plain-old-data maps"),
    ("gateway-ebpf/", "runs in the kernel, on raw packets and maps"),
    ("gateway/src/runtime/allocator.rs", "asks the allocator to give memory back"),
    (
        "gateway/src/handover/environment.rs",
        "makes descriptors its own that a service manager passes by number",
    ),
    ("gateway/src/runtime/confine/tests.rs", "makes the system calls that are refused"),
    ("gateway/src/datapath/", "asks the kernel through bpf(2) and socket options"),
];

/// Lines of its own that a file may have before it is pointed out.
const OWN_LINES_MAX: usize = 600;

/// The rules over one source file.
pub(super) fn source(source: &Source, add: &mut impl FnMut(usize, Rule, String)) {
    if !UNSAFE_FILES.iter().any(|(place, _)| source.file.starts_with(place)) {
        for fact in &source.unsafe_words {
            add(
                fact.line,
                Rule::Unsafe,
                "unsafe outside the files named in xtask/src/tidy/lints.rs".to_owned(),
            );
        }
    }
    for fact in source.exceptions.iter().filter(|fact| !fact.what) {
        add(fact.line, Rule::Exceptions, "a lint exception without a reason".to_owned());
    }
    if source.file.starts_with("gateway/src/") || source.file.starts_with("gateway-common/src/") {
        for fact in source.panics.iter().filter(|fact| !fact.test) {
            add(fact.line, Rule::Panics, format!("{} on a product path: return an error", fact.what));
        }
    }
    if source.own_lines > OWN_LINES_MAX {
        add(
            1,
            Rule::Size,
            format!("{} lines of its own; more than {OWN_LINES_MAX} want splitting", source.own_lines),
        );
    }
}

/// Lints that the workspace must keep on for the rules above to hold.
const LINTS_KEPT: &[&str] = &[
    "unsafe_code",
    "missing_docs",
    "unwrap_used",
    "expect_used",
    "panic",
    "allow_attributes_without_reason",
];

/// The rules over one manifest: the root keeps the lints, each member takes them.
pub(super) fn manifest(file: &File, add: &mut impl FnMut(usize, Rule, String)) {
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let has = |table: &str| lines.contains(&table);
    if has("[workspace.lints.clippy]") || (has("[workspace]") && has("[workspace.package]")) {
        for lint in LINTS_KEPT {
            if !lines.iter().any(|line| line.starts_with(lint) && !line.contains("\"allow\"")) {
                add(1, Rule::Lints, format!("the workspace no longer keeps the lint {lint}"));
            }
        }
    }
    // A workspace of its own, another target's, states its lints itself.
    let inherits = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
    if has("[package]") && !has("[workspace]") && !inherits {
        add(1, Rule::Lints, "the crate does not take the workspace's lints".to_owned());
    }
}
