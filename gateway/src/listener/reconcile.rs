//! Makes the bound sockets those of the snapshot. The control thread's side hands sockets out; each worker's side
//! runs an accept loop for every one it was given.
//!
//! Sockets are named by address, not by Gateway: one that is still wanted is never touched, whoever it belongs to now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::accept::{self, Arrival, Shortage};
use super::bind::{self, BindError, Bound};
use super::steer::Steer;
use crate::runtime::Vital;

/// Commands that may wait for a worker. It takes them at once unless it hangs.
pub const WORKER_COMMANDS_MAX: usize = 4096;

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Accept from this socket.
    Accept(SocketAddr, TcpListener),
    /// Take what has queued at this address, then close its socket.
    Close(SocketAddr),
}

/// The control thread's side: what is bound, and whom to tell.
#[derive(Debug)]
pub struct Sockets {
    workers: Vec<mpsc::Sender<Command>>,
    bound: BTreeSet<SocketAddr>,
}

/// Sockets bound for a snapshot that is not published yet.
#[derive(Debug, Default)]
pub struct Prepared {
    new: Vec<(SocketAddr, Bound)>,
    /// Addresses that could not be bound.
    pub failed: BTreeMap<SocketAddr, BindError>,
}

impl Sockets {
    /// Nothing bound yet; one sender for each worker, of a queue of [`WORKER_COMMANDS_MAX`].
    pub fn new(workers: Vec<mpsc::Sender<Command>>) -> Self {
        Self { workers, bound: BTreeSet::new() }
    }

    /// Binds what `wanted` has and is not bound yet. Nothing listens before [`Sockets::commit`].
    pub fn prepare(&self, wanted: &BTreeSet<SocketAddr>) -> Prepared {
        let mut prepared = Prepared::default();
        for address in wanted.difference(&self.bound) {
            let beside_own = self.bound.iter().any(|held| held.port() == address.port());
            match bind::bind(*address, self.workers.len(), beside_own) {
                Ok(bound) => prepared.new.push((*address, bound)),
                Err(error) => {
                    prepared.failed.insert(*address, error);
                }
            }
        }
        prepared
    }

    /// Opens what was prepared and closes what is no longer wanted; to be called when the snapshot that serves them is
    /// published. Returns the addresses that failed at this late point.
    pub fn commit(
        &mut self,
        prepared: Prepared,
        wanted: &BTreeSet<SocketAddr>,
    ) -> BTreeMap<SocketAddr, BindError> {
        let mut failed = BTreeMap::new();
        for (address, bound) in prepared.new {
            match bound.listen().and_then(|listeners| self.hand_out(address, listeners)) {
                Ok(()) => {
                    self.bound.insert(address);
                }
                Err(error) => {
                    failed.insert(address, error);
                }
            }
        }
        for address in self.bound.difference(wanted) {
            self.tell_to_close(*address);
        }
        self.bound.retain(|address| wanted.contains(address));
        failed
    }

    fn hand_out(&self, address: SocketAddr, listeners: Vec<TcpListener>) -> Result<(), BindError> {
        for (worker, listener) in self.workers.iter().zip(listeners) {
            if worker.try_send(Command::Accept(address, listener)).is_err() {
                // Rather no worker than some: the whole address is tried again later.
                self.tell_to_close(address);
                let source = io::Error::other("a worker has ended or hangs and takes no sockets");
                return Err(BindError { address, source });
            }
        }
        Ok(())
    }

    fn tell_to_close(&self, address: SocketAddr) {
        for worker in &self.workers {
            // A worker that is gone has closed its sockets, and one that hangs accepts nothing.
            let _ = worker.try_send(Command::Close(address));
        }
    }

    /// Closes everything, after what has queued is taken.
    pub fn close(&mut self) {
        self.commit(Prepared::default(), &BTreeSet::new());
    }

    /// How many workers there are; each address has a socket for every one.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What is bound.
    pub fn bound(&self) -> &BTreeSet<SocketAddr> {
        &self.bound
    }
}

/// A worker's side: obeys until the control thread lets go of the sender and every accept loop has ended.
/// `serve` gets each arrival and must not block.
pub async fn follow(
    mut commands: mpsc::Receiver<Command>,
    steer: Rc<Steer>,
    serve: Rc<dyn Fn(Arrival)>,
    short_of: Rc<dyn Fn(Shortage)>,
) {
    let mut loops: BTreeMap<SocketAddr, oneshot::Sender<()>> = BTreeMap::new();
    let running = TaskTracker::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Accept(address, listener) => {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { continue };
                let (stop, stopped) = oneshot::channel();
                loops.insert(address, stop);
                let (steer, serve, short_of) = (steer.clone(), serve.clone(), short_of.clone());
                running.spawn_local(async move {
                    let _vital = Vital("accept");
                    accept::run(
                        listener,
                        address,
                        &steer,
                        stopped,
                        |arrival| serve(arrival),
                        |shortage| short_of(shortage),
                    )
                    .await;
                });
            }
            // Dropping the sender is the signal.
            Command::Close(address) => drop(loops.remove(&address)),
        }
    }
    drop(loops);
    running.close();
    running.wait().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::steer::Shares;
    use std::net::TcpStream;
    use tokio::task::LocalSet;

    fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_kept_socket_goes_on_and_a_dropped_one_closes() {
        let (kept, dropped) = (free_address(), free_address());
        let (sender, receiver) = mpsc::channel(WORKER_COMMANDS_MAX);
        let mut sockets = Sockets::new(vec![sender]);
        let both = BTreeSet::from([kept, dropped]);
        let only = BTreeSet::from([kept]);
        let (arrived, mut arrivals) = mpsc::channel(8);
        let local = LocalSet::new();
        let worker = local.run_until(async move {
            let prepared = sockets.prepare(&both);
            assert!(prepared.failed.is_empty());
            assert!(TcpStream::connect(kept).is_err(), "bound, but not listening");
            assert!(sockets.commit(prepared, &both).is_empty());
            let serve: Rc<dyn Fn(Arrival)> = Rc::new(move |arrival| arrived.try_send(arrival.bound).unwrap());
            let steer = Rc::new(Steer::new(Shares::new(1), 0, None));
            let follow = tokio::task::spawn_local(follow(receiver, steer, serve, Rc::new(|_| {})));
            let queued = TcpStream::connect(dropped).unwrap();
            sockets.commit(sockets.prepare(&only), &only);
            assert_eq!(arrivals.recv().await, Some(dropped), "what had queued is served");
            let more = TcpStream::connect(kept).unwrap();
            assert_eq!(arrivals.recv().await, Some(kept));
            assert_eq!(sockets.bound(), &only);
            sockets.close();
            drop((sockets, queued, more));
            follow.await.unwrap();
        });
        worker.await;
        assert!(TcpStream::connect(kept).is_err() && TcpStream::connect(dropped).is_err());
    }
}
