//! What this process finds at its start: from a predecessor that it is to take over from, or kept by a service manager
//! for one that died.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;

use crate::handover::{Channel, Facts, HandoverError, Item, Kind, Verdict, Word, left_by_predecessor};
use crate::listener::bind::Inherited;
use crate::tls::TicketKeys;

/// How long what was left may take to arrive. It was sent before this process was started.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the predecessor may take for its last word, which it says at once, until it counts as gone.
const RELIEF_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Default)]
pub(super) struct Estate {
    /// Listening sockets.
    pub(super) listeners: Inherited,
    /// Whom this process is to take over from.
    pub(super) predecessor: Option<Predecessor>,
    items: Vec<Item>,
}

/// The process that serves until this one does.
pub(super) struct Predecessor {
    channel: Channel,
    /// What it says of itself.
    pub(super) facts: Facts,
}

impl Estate {
    /// Looks for it. `kept`: by a service manager.
    ///
    /// # Errors
    /// A predecessor left something that this process does not understand.
    pub(super) async fn find(kept: Vec<(String, OwnedFd)>) -> anyhow::Result<Self> {
        let mut estate = Self::default();
        for (name, fd) in kept {
            if let Err(error) = estate.listeners.add(fd) {
                tracing::warn!(name, %error, "the service manager passed something that is no use");
            }
        }
        let Some(channel) = left_by_predecessor()? else { return Ok(estate) };
        let taken = timeout(ARRIVAL_TIMEOUT, channel.take()).await.unwrap_or(Err(HandoverError::Gone));
        let (facts, items) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                // It may have gone itself: then nobody needs to know.
                let _ = channel.tell(&Verdict::Failed { words: error.to_string() });
                return Err(error).context("cannot take over");
            }
        };
        for Item { kind, name, fd } in items {
            match kind {
                Kind::Listener => {
                    if let Err(error) = estate.listeners.add(fd) {
                        tracing::warn!(name, %error, "the predecessor left a socket that is no use");
                    }
                }
                _ => estate.items.push(Item { kind, name, fd }),
            }
        }
        estate.predecessor = Some(Predecessor { channel, facts });
        Ok(estate)
    }

    /// A descriptor that was left; once.
    pub(super) fn item(&mut self, kind: Kind, name: &str) -> Option<OwnedFd> {
        let at = self.items.iter().position(|item| item.kind == kind && item.name == name)?;
        Some(self.items.swap_remove(at).fd)
    }

    /// Every descriptor of a kind that was left; once.
    pub(super) fn items(&mut self, kind: Kind) -> Vec<Item> {
        self.items.extract_if(.., |item| item.kind == kind).collect()
    }

    /// The keys of the predecessor's tickets.
    pub(super) fn tickets(&mut self) -> Option<TicketKeys> {
        let mut file = File::from(self.item(Kind::Tickets, TICKETS)?);
        let keys = TicketKeys::inherit(&mut file);
        keys.inspect_err(|error| tracing::warn!(%error, "sessions do not go on: their keys cannot be read"))
            .ok()
    }

    /// The predecessor's deny list.
    pub(super) fn denied(&mut self) -> Option<File> {
        self.item(Kind::Deny, DENY).map(File::from)
    }

    /// Closes what nobody has asked for. Says what it was.
    pub(super) fn give_up(&mut self) -> Vec<String> {
        self.items.drain(..).map(|item| item.name).collect()
    }
}

/// The name of the tickets' secret.
pub(super) const TICKETS: &str = "tickets";
/// The name of the deny list.
pub(super) const DENY: &str = "deny";

impl Predecessor {
    /// Tells that this process serves `generation` and has no use for what is `left`; comes back when the predecessor no
    /// longer accepts, or is gone.
    pub(super) async fn relieve(&self, generation: u64, left: Vec<String>) {
        let ready = Verdict::Ready { process: std::process::id(), generation, left };
        let relieved = async {
            self.channel.tell(&ready)?;
            self.channel.hear::<Word>().await
        };
        match timeout(RELIEF_TIMEOUT, relieved).await {
            Ok(Ok(Word::Relieved)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the predecessor is gone; this process serves alone"),
            Err(_) => tracing::warn!("the predecessor says nothing; this process takes over all the same"),
        }
    }

    /// Tells that this process cannot serve.
    pub(super) fn refuse(&self, words: String) {
        if let Err(error) = self.channel.tell(&Verdict::Failed { words }) {
            tracing::debug!(%error, "the predecessor is gone");
        }
    }
}
