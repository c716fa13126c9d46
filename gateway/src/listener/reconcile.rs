//! Makes the bound sockets those of the snapshot. The control thread's side hands sockets out; each worker's side
//! runs an accept loop for every one it was given.
//!
//! Sockets are named by address, not by Gateway: one that is still wanted is never touched, whoever it belongs to now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use socket2::Socket;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::accept::{self, Arrival, Shortage, Stop};
use super::bind::{self, BindError, Bound, Inherited};
use super::steer::Steer;
use crate::runtime::Vital;

/// Commands that may wait for a worker. It takes them at once unless it hangs.
pub const WORKER_COMMANDS_MAX: usize = 4096;

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Accept from this socket.
    Accept(SocketAddr, TcpListener),
    /// Stop at this address so, and close its sockets.
    Close(SocketAddr, Stop),
}

/// The control thread's side: what is bound, and whom to tell.
#[derive(Debug)]
pub struct Sockets {
    workers: Vec<mpsc::Sender<Command>>,
    /// The sockets once more, to be left to a successor. They must go before a worker closes its own: a socket that
    /// somebody holds takes connections, whether or not anybody accepts them.
    bound: BTreeMap<SocketAddr, Vec<TcpListener>>,
    inherited: Inherited,
}

/// Sockets bound for a snapshot that is not published yet.
#[derive(Debug, Default)]
pub struct Prepared {
    new: Vec<(SocketAddr, Bound)>,
    /// Addresses that could not be bound.
    pub failed: BTreeMap<SocketAddr, BindError>,
}

impl Prepared {
    /// The sockets by address, before they listen.
    pub fn sockets(&self) -> impl Iterator<Item = (SocketAddr, &[Socket])> {
        self.new.iter().map(|(address, bound)| (*address, bound.sockets()))
    }

    /// How many sockets of each address a former process has left.
    pub fn inherited(&self) -> BTreeMap<SocketAddr, usize> {
        self.new.iter().map(|(address, bound)| (*address, bound.inherited())).collect()
    }
}

impl Sockets {
    /// Nothing bound yet but what a former process has left; one sender for each worker, of a queue of
    /// [`WORKER_COMMANDS_MAX`].
    pub fn new(workers: Vec<mpsc::Sender<Command>>, inherited: Inherited) -> Self {
        Self { workers, bound: BTreeMap::new(), inherited }
    }

    /// Binds what `wanted` has and is not bound yet. Nothing new listens before [`Sockets::commit`].
    pub fn prepare(&mut self, wanted: &BTreeSet<SocketAddr>) -> Prepared {
        let mut prepared = Prepared::default();
        for address in wanted.iter().filter(|address| !self.bound.contains_key(address)) {
            let port = address.port();
            let beside_own =
                self.inherited.holds_port(port) || self.bound.keys().any(|held| held.port() == port);
            let bound = match self.inherited.take(*address, self.workers.len()) {
                Some(bound) => Ok(bound),
                None => bind::bind(*address, self.workers.len(), beside_own),
            };
            match bound {
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
                Ok(listeners) => {
                    self.bound.insert(address, listeners);
                }
                Err(error) => {
                    failed.insert(address, error);
                }
            }
        }
        let unwanted: Vec<_> =
            self.bound.keys().filter(|address| !wanted.contains(address)).copied().collect();
        for address in unwanted {
            self.bound.remove(&address);
            self.tell_to_close(address, Stop::Drain);
        }
        failed
    }

    /// Gives every worker its sockets, in turn where there are more; what stays here are the same sockets.
    fn hand_out(
        &self,
        address: SocketAddr,
        listeners: Vec<TcpListener>,
    ) -> Result<Vec<TcpListener>, BindError> {
        for (listener, worker) in listeners.iter().zip(self.workers.iter().cycle()) {
            let given = listener.try_clone().and_then(|listener| {
                let ended = |_| io::Error::other("a worker has ended or hangs and takes no sockets");
                worker.try_send(Command::Accept(address, listener)).map_err(ended)
            });
            if let Err(source) = given {
                // Rather no worker than some: the whole address is tried again later.
                self.tell_to_close(address, Stop::Drain);
                return Err(BindError { address, source });
            }
        }
        Ok(listeners)
    }

    fn tell_to_close(&self, address: SocketAddr, stop: Stop) {
        for worker in &self.workers {
            // A worker that is gone has closed its sockets, and one that hangs accepts nothing.
            let _ = worker.try_send(Command::Close(address, stop));
        }
    }

    /// Closes everything, after what has queued is taken.
    pub fn close(&mut self) {
        self.commit(Prepared::default(), &BTreeSet::new());
    }

    /// Leaves every socket to a process that holds it too, but for those of `unwanted`, which it has no use for.
    pub fn leave(&mut self, unwanted: &BTreeSet<SocketAddr>) {
        for address in std::mem::take(&mut self.bound).into_keys() {
            let stop = if unwanted.contains(&address) { Stop::Drain } else { Stop::Leave };
            self.tell_to_close(address, stop);
        }
    }

    /// Gives up what a former process has left and nobody asked for. Says which addresses.
    pub fn give_up(&mut self) -> Vec<SocketAddr> {
        self.inherited.give_up()
    }

    /// What is bound, with its sockets.
    pub fn bound(&self) -> &BTreeMap<SocketAddr, Vec<TcpListener>> {
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
    let mut loops: BTreeMap<SocketAddr, Vec<oneshot::Sender<Stop>>> = BTreeMap::new();
    let running = TaskTracker::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Accept(address, listener) => {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { continue };
                let (stop, stopped) = oneshot::channel();
                loops.entry(address).or_default().push(stop);
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
            Command::Close(address, how) => {
                for stop in loops.remove(&address).into_iter().flatten() {
                    // A loop that has ended has closed its socket.
                    let _ = stop.send(how);
                }
            }
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
        let mut sockets = Sockets::new(vec![sender], Inherited::default());
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
            let prepared = sockets.prepare(&only);
            sockets.commit(prepared, &only);
            assert_eq!(arrivals.recv().await, Some(dropped), "what had queued is served");
            let more = TcpStream::connect(kept).unwrap();
            assert_eq!(arrivals.recv().await, Some(kept));
            assert!(sockets.bound().keys().eq(&only));
            sockets.close();
            drop((sockets, queued, more));
            follow.await.unwrap();
        });
        worker.await;
        assert!(TcpStream::connect(kept).is_err() && TcpStream::connect(dropped).is_err());
    }

    #[tokio::test]
    async fn what_is_left_to_a_successor_is_served_by_it() {
        let (address, dropped) = (free_address(), free_address());
        let wanted = BTreeSet::from([address, dropped]);
        // Three sockets of the one, for a successor with a single worker.
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..3).map(|_| mpsc::channel(WORKER_COMMANDS_MAX)).unzip();
        let mut former = Sockets::new(senders, Inherited::default());
        let prepared = former.prepare(&wanted);
        assert!(former.commit(prepared, &wanted).is_empty());
        let mut inherited = Inherited::default();
        for listener in former.bound().values().flatten() {
            inherited.add(listener.try_clone().unwrap().into()).unwrap();
        }
        let queued: Vec<_> = (0..12).map(|_| TcpStream::connect(address).unwrap()).collect();
        let (sender, receiver) = mpsc::channel(WORKER_COMMANDS_MAX);
        let mut sockets = Sockets::new(vec![sender], inherited);
        let only = BTreeSet::from([address]);
        let prepared = sockets.prepare(&only);
        assert!(sockets.commit(prepared, &only).is_empty());
        assert_eq!(sockets.give_up(), [dropped]);
        assert_eq!(sockets.bound()[&address].len(), 3);
        former.leave(&BTreeSet::from([dropped]));
        drop(former);
        let (arrived, mut arrivals) = mpsc::channel(16);
        LocalSet::new()
            .run_until(async move {
                let steer = Rc::new(Steer::new(Shares::new(1), 0, None));
                let nobody: Rc<dyn Fn(Arrival)> = Rc::new(|_| panic!("left to the successor"));
                for receiver in receivers {
                    follow(receiver, Rc::clone(&steer), Rc::clone(&nobody), Rc::new(|_| {})).await;
                }
                let serve: Rc<dyn Fn(Arrival)> =
                    Rc::new(move |arrival| arrived.try_send(arrival.bound).unwrap());
                let follow = tokio::task::spawn_local(follow(receiver, steer, serve, Rc::new(|_| {})));
                for _ in &queued {
                    assert_eq!(arrivals.recv().await, Some(address));
                }
                sockets.close();
                drop((sockets, queued));
                follow.await.unwrap();
            })
            .await;
        assert!(TcpStream::connect(address).is_err() && TcpStream::connect(dropped).is_err());
    }
}
