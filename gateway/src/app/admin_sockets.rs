//! The sockets of the admin server: bound or inherited, served once this process speaks for itself, left to a successor.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::task::JoinHandle;

use super::estate::Estate;
use crate::admin::AdminState;
use crate::admin::server::{self, AdminListener, Leaving};
use crate::handover::{Item, Kind};
use crate::settings::Settings;

/// Those of this process.
#[derive(Default)]
pub(super) struct AdminSockets {
    waiting: Vec<AdminListener>,
    serving: Vec<JoinHandle<()>>,
    leaving: Vec<(Kind, String, Leaving)>,
}

impl AdminSockets {
    /// Takes up what a predecessor left and binds what it did not.
    ///
    /// # Errors
    /// The admin listener's address cannot be bound.
    pub(super) async fn bind(settings: &Settings, estate: &mut Estate) -> anyhow::Result<Self> {
        let mut sockets = Self::default();
        if let Some(address) = settings.admin.on() {
            let name = address.to_string();
            let listener = match estate.item(Kind::Admin, &name) {
                Some(fd) => server::inherit_tcp(fd),
                None => server::bind_tcp(*address).await,
            };
            let listener =
                listener.with_context(|| format!("cannot bind the admin listener {address} (--admin)"))?;
            sockets.add(Kind::Admin, name, listener)?;
        }
        if let Some(path) = settings.admin_socket.on() {
            let name = socket_name(path);
            let listener = match estate.item(Kind::AdminSocket, &name) {
                Some(fd) => server::inherit_socket(path, fd),
                None => server::bind_socket(path),
            };
            match listener {
                Ok(listener) => sockets.add(Kind::AdminSocket, name, listener)?,
                // Traffic does not depend on it, and an unprivileged process cannot make the default path.
                Err(error) => tracing::warn!(path = %path.display(), %error, "no admin socket"),
            }
        }
        Ok(sockets)
    }

    fn add(&mut self, kind: Kind, name: String, listener: AdminListener) -> io::Result<()> {
        self.leaving.push((kind, name, listener.leaving()?));
        self.waiting.push(listener);
        Ok(())
    }

    /// Answers from now on.
    pub(super) fn serve(&mut self, state: &Arc<AdminState>) {
        let tasks = self.waiting.drain(..);
        self.serving
            .extend(tasks.map(|listener| tokio::task::spawn_local(listener.serve(Arc::clone(state)))));
    }

    /// The same sockets for a successor.
    ///
    /// # Errors
    /// The system has no descriptors to give.
    pub(super) fn items(&self) -> io::Result<Vec<Item>> {
        let item = |(kind, name, leaving): &(Kind, String, Leaving)| {
            Ok(Item { kind: *kind, name: name.clone(), fd: leaving.fd()? })
        };
        self.leaving.iter().map(item).collect()
    }

    /// Accepts no longer: the successor does, but on those of `unwanted`. What is being answered is answered.
    pub(super) fn leave(&mut self, unwanted: &[String]) {
        for (_, name, leaving) in &self.leaving {
            if !unwanted.contains(name) {
                leaving.left();
            }
        }
        self.serving.drain(..).for_each(|task| task.abort());
        // Whoever still comes finds the successor, or nobody; nothing waits here unheard.
        self.leaving.clear();
    }
}

fn socket_name(path: &Path) -> String {
    path.display().to_string()
}
