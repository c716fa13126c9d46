//! Brings maps and programs into the kernel, or takes over those that are there.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapData, MapInfo};
use aya::programs::{CgroupSkb, ProgramError, SchedClassifier, SkReuseport, SockOps, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_obj::Object;
use gateway_common::object::{FRONTENDS_MAX, map, program, switch};

use super::object::OBJECT;
use super::pins::Pins;
use super::stage::{Stage, StageError, in_words};

/// What a map is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

impl Definition {
    /// What a map in the kernel was made as.
    pub(super) fn of(info: &MapInfo) -> Self {
        Self {
            kind: info.map_type().map_or(0, |kind| kind as u32),
            key_bytes: info.key_size(),
            value_bytes: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags(),
        }
    }
}

impl Definition {
    /// How many entries a map was made with.
    pub(super) fn entries(maps: &Maps, name: &str) -> Result<u32, StageError> {
        let failed =
            |error: &dyn fmt::Display| StageError::new(Stage::Load, format!("the map {name}: {error}"));
        let fd = maps.0.get(name).ok_or_else(|| failed(&"is missing"))?;
        let map = fd.try_clone().map_err(|error| failed(&error)).map(MapData::from_fd)?;
        Ok(map.and_then(|map| map.info()).map_err(|error| failed(&error))?.max_entries())
    }
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key_bytes, value_bytes, entries, flags } = self;
        write!(f, "type {kind}, {entries} entries of {key_bytes}+{value_bytes} bytes, flags {flags:#x}")
    }
}

/// What attaches a program to a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkName {
    /// The program.
    pub program: String,
    /// `native`, `skb`, `tcx`, `clsact` or `cgroup`.
    pub mode: String,
    /// The interface; of a control group, empty.
    pub place: String,
}

impl LinkName {
    /// By its three parts.
    pub(super) fn new(program: &str, mode: &str, place: &str) -> Self {
        Self { program: program.to_owned(), mode: mode.to_owned(), place: place.to_owned() }
    }

    /// As [`fmt::Display`] writes it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        Some(Self::new(parts.next()?, parts.next()?, parts.next()?))
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.program, self.mode, self.place)
    }
}

/// A program attached.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: LinkName,
    pub(super) fd: OwnedFd,
}

/// Maps by name, as descriptors.
#[derive(Debug, Default)]
pub(super) struct Maps(pub(super) BTreeMap<String, OwnedFd>);

impl Maps {
    /// A handle of its own to a map, as its own type.
    pub(super) fn typed<T: TryFrom<Map, Error: fmt::Display>>(&self, name: &str) -> Result<T, StageError> {
        let failed =
            |error: &dyn fmt::Display| StageError::new(Stage::Load, format!("the map {name}: {error}"));
        let fd = self.0.get(name).ok_or_else(|| failed(&"is missing"))?;
        let fd = fd.try_clone().map_err(|error| failed(&error))?;
        let map = MapData::from_fd(fd).and_then(Map::from_map_data).map_err(|error| failed(&error))?;
        T::try_from(map).map_err(|error| failed(&error))
    }
}

/// The shape that programs are loaded in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Workers at most: sockets of each front end.
    pub(super) stride: u32,
    /// The secret of the hashes.
    pub(super) seed: u64,
}

/// Programs in the kernel that can be attached.
pub(super) struct Programs(Ebpf);

impl Programs {
    /// A program's descriptor.
    pub(super) fn fd(&self, name: &str) -> io::Result<BorrowedFd<'_>> {
        let program = self.0.program(name).ok_or_else(|| io::Error::other("no such program"))?;
        Ok(program.fd().map_err(io::Error::other)?.as_fd())
    }

    /// A program of traffic control, for the attachment that is no link.
    pub(super) fn classifier(&mut self) -> Option<&mut SchedClassifier> {
        self.0.program_mut(program::INGRESS_TC)?.try_into().ok()
    }
}

/// What every map is made as, by name.
pub(super) fn definitions(shape: Shape) -> Result<BTreeMap<String, Definition>, StageError> {
    let object = Object::parse(OBJECT)
        .map_err(|error| StageError::new(Stage::Load, format!("the embedded object: {error}")))?;
    let of = |name: &str| {
        let is = object.maps.get(name)?;
        let entries = if name == map::SOCKETS { sockets(shape) } else { is.max_entries() };
        Some(Definition {
            kind: is.map_type(),
            key_bytes: is.key_size(),
            value_bytes: is.value_size(),
            entries,
            flags: is.map_flags(),
        })
    };
    Ok(map::ALL.iter().filter_map(|name| Some(((*name).to_owned(), of(name)?))).collect())
}

fn sockets(shape: Shape) -> u32 {
    FRONTENDS_MAX.saturating_mul(shape.stride)
}

/// Loads programs with maps of their own, or with those that are pinned.
pub(super) fn load(shape: Shape, pins: Option<&Pins>) -> Result<(Maps, Programs), StageError> {
    let mut loader = EbpfLoader::new();
    loader.override_global(switch::SEED, &shape.seed, true);
    loader.map_max_entries(map::SOCKETS, sockets(shape));
    if let Some(pins) = pins {
        map::ALL.iter().for_each(|name| {
            loader.map_pin_path(name, pins.map(name));
        });
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| failed("maps", &error))?;
    for name in program::ALL {
        load_program(&mut ebpf, name).map_err(|error| failed(name, &error.into()))?;
    }
    let mut maps = Maps::default();
    for name in map::ALL {
        let taken =
            ebpf.take_map(name).ok_or_else(|| StageError::new(Stage::Load, format!("no map {name}")))?;
        maps.0.insert(name.to_owned(), descriptor(&taken).map_err(|error| failed(name, &error))?);
    }
    Ok((maps, Programs(ebpf)))
}

/// A map's descriptor, whatever its type.
fn descriptor(map: &Map) -> Result<OwnedFd, EbpfError> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LpmTrie(data)
    | Map::PerCpuArray(data)
    | Map::ReusePortSockArray(data)
    | Map::RingBuf(data)
    | Map::SkStorage(data)) = map
    else {
        return Err(EbpfError::UnexpectedPinningType { name: 0 });
    };
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| EbpfError::FileError { path: "/proc/self/fd".into(), error })
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    match name {
        program::INGRESS_XDP => <&mut Xdp>::try_from(program)?.load(),
        program::INGRESS_TC => <&mut SchedClassifier>::try_from(program)?.load(),
        program::PICK => <&mut SkReuseport>::try_from(program)?.load(),
        program::TRACK => <&mut SockOps>::try_from(program)?.load(),
        program::WIRE => <&mut CgroupSkb>::try_from(program)?.load(),
        // What tests measure against is loaded by them alone.
        _ => Ok(()),
    }
}

/// aya's errors name the call in one place and what the system said in another, below.
fn failed(what: &str, error: &EbpfError) -> StageError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(system) = error.downcast_ref::<io::Error>() {
            return StageError::new(Stage::Load, format!("{what}: {}", in_words(system)));
        }
        cause = error.source();
    }
    // The verifier's words are many lines; the last ones say what it minds.
    let words = error.to_string();
    let last: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).rev().take(2).collect();
    StageError::new(Stage::Load, format!("{what}: {}", last.into_iter().rev().collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_of_the_object_has_a_definition() {
        let definitions = definitions(Shape { stride: 2, seed: 1 }).unwrap();
        assert_eq!(definitions.len(), map::ALL.len());
        assert_eq!(definitions[map::SOCKETS].entries, 2048);
        assert_eq!(definitions[map::FRONTENDS].key_bytes, 24);
    }

    #[test]
    fn a_link_is_named_by_program_mode_and_place() {
        for text in ["ingress_tc:tcx:eth0.5", "track:cgroup:"] {
            assert_eq!(LinkName::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(LinkName::parse("track"), None);
    }
}
