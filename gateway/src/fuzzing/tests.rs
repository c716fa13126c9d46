//! The short drive: every property over the seeds of its target, and over mixtures and damages of them.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use super::TARGETS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("seeds").join(target);
    fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn each_property_has_a_target_with_seeds() {
    let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for part in ["fuzz_targets", "seeds", "dictionaries"] {
        assert_eq!(names(&folder().join(part)), known, "fuzz/{part}");
    }
}

/// What was once found stands among them.
#[test]
fn every_seed_holds() {
    for (name, property) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 4, "{name}");
        seeds.iter().for_each(|seed| property(seed));
    }
}

/// Bytes that mean something to one reader or another.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 1..4),
        select(b"\r\n\0 \t:;,-_/.%\\\"'[]{}019afAF\x7f\x80\xff".to_vec()).prop_map(|byte| vec![byte]),
        select(vec!["\r\n\r\n", "chunked", "\n---\n", "client_cert", "Connection: close", ": ", "65536"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

/// A seed, perhaps with a part of another one in it, and a few places that are others.
fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let graft = (select(seeds.clone()), any::<Index>(), any::<Index>(), any::<Index>());
    let change = (any::<Index>(), 0..3u8, piece());
    (select(seeds), prop::option::weighted(0.3, graft), vec(change, 0..4)).prop_map(
        |(mut bytes, graft, changes)| {
            if let Some((other, from, length, place)) = graft {
                let from = from.index(other.len() + 1);
                let length = length.index(other.len() - from + 1);
                let place = place.index(bytes.len() + 1);
                bytes.splice(place..place, other[from..from + length].iter().copied());
            }
            for (place, kind, piece) in changes {
                let place = place.index(bytes.len() + 1);
                let end = (place + piece.len()).min(bytes.len());
                match kind {
                    0 => drop(bytes.splice(place..end, piece)),
                    1 => drop(bytes.splice(place..place, piece)),
                    _ => drop(bytes.drain(place..end)),
                }
            }
            bytes
        },
    )
}

#[test]
fn every_property_holds_near_its_seeds() {
    for (name, property) in TARGETS {
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        let run = runner.run(&damaged(seeds(name)), |bytes| {
            property(&bytes);
            Ok::<(), TestCaseError>(())
        });
        match run {
            Err(TestError::Fail(why, bytes)) => {
                panic!("{name}: {why}: {:?}", String::from_utf8_lossy(&bytes))
            }
            run => run.unwrap(),
        }
    }
}
