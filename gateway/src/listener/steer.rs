//! Which connections the kernel gives a worker's sockets: those of its CPU, as long as it has not more than its share.
//!
//! A listening socket with SO_INCOMING_CPU is preferred, in its SO_REUSEPORT group, for the connections whose packets
//! that CPU handles (Linux 6.2; before it the option changes little). A worker over its share withdraws the wish, and
//! the hash of the addresses decides until it is near the mean again: a network card with one queue must not put
//! everything on one worker.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;

use crate::datapath::Notes;
use crate::runtime::place::is_over_share;

/// How often a worker that is given nothing looks whether it is near the mean again.
const WEIGH_INTERVAL: Duration = Duration::from_secs(1);

/// What takes the wish back: -1 as the kernel reads it.
const ANY_CPU: usize = usize::MAX;

/// How many connections each worker has.
#[derive(Debug)]
pub struct Shares(Box<[AtomicUsize]>);

/// One worker's part of it.
#[derive(Debug)]
pub struct Steer {
    shares: Arc<Shares>,
    worker: usize,
    /// Its CPU, where it wants the connections of that.
    cpu: Option<usize>,
    over: Cell<bool>,
    notes: Notes,
}

/// A connection that counts as its worker's until this is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    worker: usize,
}

impl Shares {
    /// No connections yet.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| AtomicUsize::new(0)).collect()))
    }
}

impl Steer {
    /// For the worker with this number. With a CPU its sockets ask for the connections of that CPU.
    pub fn new(shares: Arc<Shares>, worker: usize, cpu: Option<usize>) -> Self {
        Self { shares, worker, cpu, over: Cell::new(false), notes: Notes::default() }
    }

    /// The same, which tells the program that chooses workers when this one has more than its share.
    pub fn telling(self, notes: Notes) -> Self {
        Self { notes, ..self }
    }

    /// Looks from time to time whether the worker has more than its share: one that is given nothing does not come to
    /// look by itself.
    pub async fn keep_weighing(&self) {
        loop {
            tokio::time::sleep(WEIGH_INTERVAL).await;
            self.wish();
        }
    }

    /// Counts a connection.
    pub fn share(&self) -> Share {
        self.shares.0[self.worker].fetch_add(1, Ordering::Relaxed);
        Share { shares: Arc::clone(&self.shares), worker: self.worker }
    }

    /// What a socket of this worker is to ask for now.
    fn wish(&self) -> usize {
        let Some(cpu) = self.cpu else { return ANY_CPU };
        let own = self.shares.0[self.worker].load(Ordering::Relaxed);
        let all = self.shares.0.iter().map(|share| share.load(Ordering::Relaxed)).sum();
        let is_over = is_over_share(own, all, self.shares.0.len(), self.over.get());
        if self.over.replace(is_over) != is_over {
            self.notes.over_share(is_over);
        }
        if is_over { ANY_CPU } else { cpu }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.0[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one listening socket asks for.
#[derive(Debug)]
pub struct Wish<'a> {
    steer: &'a Steer,
    /// `None`: not known, since a former process may have asked for something.
    asked: Option<usize>,
}

impl<'a> Wish<'a> {
    /// A socket, whatever was asked for it.
    pub fn new(steer: &'a Steer) -> Self {
        Self { steer, asked: None }
    }

    /// Has the socket ask for what the worker wants now; a system call only where that has changed.
    ///
    /// # Errors
    /// The system does not take it. That costs locality, nothing else.
    pub fn renew(&mut self, socket: &impl AsFd) -> io::Result<()> {
        let wish = self.steer.wish();
        if self.asked != Some(wish) {
            self.asked = Some(wish);
            SockRef::from(socket).set_cpu_affinity(wish)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_asks_for_its_cpu_until_its_worker_has_more_than_its_share() {
        let shares = Shares::new(2);
        let (first, second) =
            (Steer::new(Arc::clone(&shares), 0, Some(0)), Steer::new(Arc::clone(&shares), 1, Some(1)));
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let asks = || SockRef::from(&socket).cpu_affinity().unwrap();
        let mut wish = Wish::new(&second);
        wish.renew(&socket).unwrap();
        assert_eq!(asks(), 1);
        let mut held: Vec<Share> = (0..60).map(|_| second.share()).collect();
        wish.renew(&socket).unwrap();
        assert_eq!(asks(), ANY_CPU, "60 of 60 connections");
        let others: Vec<Share> = (0..60).map(|_| first.share()).collect();
        wish.renew(&socket).unwrap();
        assert_eq!(asks(), 1, "60 of 120 connections");
        held.clear();
        drop((held, others));
        assert!(shares.0.iter().all(|share| share.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn without_a_cpu_what_a_former_process_asked_for_is_taken_back() {
        let steer = Steer::new(Shares::new(1), 0, None);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let before = SockRef::from(&socket).cpu_affinity().unwrap();
        SockRef::from(&socket).set_cpu_affinity(0).unwrap();
        Wish::new(&steer).renew(&socket).unwrap();
        assert_eq!(SockRef::from(&socket).cpu_affinity().unwrap(), before);
    }
}
