//! The datapath's place in the life of a process: when it is loaded, what a successor is left, what it is told.

use std::os::fd::OwnedFd;

use crate::datapath::{Config, Datapath, Left, Legacy, Pick, StageError};
use crate::handover::{self, Item, Kind};
use crate::runtime::place::places;
use crate::runtime::worker;
use crate::settings::{Pin, Settings};

use super::estate::Estate;

/// The CPU of each of so many workers, where they keep to one.
pub(super) fn cpus(settings: &Settings, workers: usize) -> Vec<Option<usize>> {
    let places = if settings.datapath.pin == Pin::Off { None } else { places(workers, &worker::cpus()) };
    places.map_or_else(|| vec![None; workers], |cpus| cpus.into_iter().map(Some).collect())
}

/// What the settings say of it.
pub(super) fn config(settings: &Settings) -> Config {
    let datapath = &settings.datapath;
    Config {
        mode: datapath.mode,
        attach: datapath.attach,
        interfaces: datapath.interfaces.clone(),
        addresses: settings.address.clone(),
        pins: datapath.pins.on().cloned(),
        keep: datapath.keep,
        wire_metrics: datapath.wire_metrics,
        pick: match datapath.pin {
            Pin::Cpu => Pick::Cpu,
            Pin::Hash => Pick::Hash,
            Pin::Off => Pick::Kernel,
        },
        cpus: cpus(settings, worker::count(settings.workers)),
    }
}

/// Loads the programs, unless a predecessor leaves them. To be called while the process has its privileges.
///
/// # Errors
/// They are required and cannot be had.
pub(super) fn load(settings: &Settings) -> Result<Option<Datapath>, StageError> {
    if std::env::var_os(handover::VARIABLE).is_some() {
        return Ok(None);
    }
    Datapath::start(&config(settings)).map(Some)
}

/// What was loaded, or what a predecessor has left.
///
/// # Errors
/// As for [`load`].
pub(super) fn take_over(
    loaded: Option<Datapath>,
    settings: &Settings,
    estate: &mut Estate,
) -> Result<Datapath, StageError> {
    match loaded {
        Some(datapath) => Ok(datapath),
        None => {
            let left = [Kind::Map, Kind::Link, Kind::Program, Kind::Pins].into_iter().flat_map(|kind| {
                let items = estate.items(kind).into_iter();
                items.filter_map(|Item { kind, name, fd }| Some((left(kind)?, name, fd)))
            });
            let left: Vec<Legacy> = left.collect();
            let object = estate.predecessor.as_ref().and_then(|one| one.facts.object.clone());
            Datapath::inherit(&config(settings), left, object.as_deref())
        }
    }
}

/// What a successor is left of it.
pub(super) fn items(datapath: &Datapath) -> std::io::Result<Vec<Item>> {
    let item = |(left, name, fd): (Left, String, OwnedFd)| Item { kind: kind(left), name, fd };
    Ok(datapath.legacy()?.into_iter().map(item).collect())
}

fn kind(left: Left) -> Kind {
    match left {
        Left::Map => Kind::Map,
        Left::Link => Kind::Link,
        Left::Program => Kind::Program,
        Left::Pins => Kind::Pins,
    }
}

fn left(kind: Kind) -> Option<Left> {
    match kind {
        Kind::Map => Some(Left::Map),
        Kind::Link => Some(Left::Link),
        Kind::Program => Some(Left::Program),
        Kind::Pins => Some(Left::Pins),
        _ => None,
    }
}
