//! A worker's open connections: entered when a socket is taken up, gone with it. Only the worker touches them; whoever
//! wants to know asks it, and it looks at a bounded number of them for each answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::datapath::socket::tcp_info;
use crate::datapath::{Notes, Seen};
use crate::telemetry::OpenConnection;
use crate::telemetry::access::ConnectionId;
use crate::telemetry::connections::{KernelRecord, TcpInfo};
use crate::telemetry::listing::{LOOKED_AT_MAX, Page, Question, Row};

/// The connections of one worker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Roster(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    worker: usize,
    notes: Notes,
    /// In the order they came. A descriptor is here for as long as it is open.
    open: RefCell<BTreeMap<ConnectionId, (RawFd, Rc<OpenConnection>)>>,
}

impl Roster {
    /// That of the worker with this number; `notes`: what the kernel noted.
    pub fn new(worker: usize, notes: Notes) -> Self {
        Self(Rc::new(Inner { worker, notes, open: RefCell::default() }))
    }

    /// The worker's number.
    pub fn worker(&self) -> usize {
        self.0.worker
    }

    /// A connection begins.
    pub(super) fn enter(&self, tcp: &TcpStream, open: &Rc<OpenConnection>) {
        self.0.notes.accepted(tcp.as_raw_fd());
        self.0.open.borrow_mut().insert(open.id, (tcp.as_raw_fd(), Rc::clone(open)));
    }

    /// A connection ends: its descriptor is about to be closed.
    pub(super) fn leave(&self, tcp: &TcpStream, open: &OpenConnection) {
        self.0.open.borrow_mut().remove(&open.id);
        let (info, kernel) = self.figures(tcp.as_raw_fd(), open);
        open.close(info, kernel);
    }

    /// Answers until nobody can ask any more.
    pub async fn answer(self, mut questions: mpsc::Receiver<Question>) {
        while let Some(question) = questions.recv().await {
            let page = self.page(&question);
            // Whoever asked may have given up.
            let _ = question.answer.send(page);
            // Another question waits until the connections have had their turn.
            tokio::task::yield_now().await;
        }
    }

    fn page(&self, question: &Question) -> Page {
        let open = self.0.open.borrow();
        let from = question.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page { open: open.len(), rows: Vec::new(), next: None };
        for (looked_at, (id, (socket, connection))) in open.range((from, Bound::Unbounded)).enumerate() {
            if looked_at == LOOKED_AT_MAX || page.rows.len() == question.rows_max {
                return page;
            }
            page.next = Some(*id);
            if question
                .client
                .is_none_or(|network| network.contains(&connection.client().ip().to_canonical()))
            {
                let (tcp, kernel) = self.figures(*socket, connection);
                page.rows.push(Row { id: *id, json: connection.describe(tcp, kernel) });
            }
        }
        page.next = None;
        page
    }

    fn figures(&self, socket: RawFd, open: &OpenConnection) -> (Option<TcpInfo>, KernelRecord) {
        let (accepted, first_read) = open.seen();
        (tcp_info(socket), self.0.notes.record(socket, Seen { accepted, first_read }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::socket::Socket;
    use crate::telemetry::Telemetry;
    use crate::telemetry::listing::{Directory, Query};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn open_connections_are_listed_page_by_page() {
        let (telemetry, _) = Telemetry::in_memory();
        let roster = Roster::new(0, Notes::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut clients, mut sockets) = (Vec::new(), Vec::new());
        let count = LOOKED_AT_MAX + 10;
        for _ in 0..count {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            sockets.push(Socket::of_tests(listener.accept().await.unwrap().0, &telemetry, &roster));
        }
        let (directory, mut questions) = Directory::new(1);
        let local = LocalSet::new();
        local.spawn_local(roster.clone().answer(questions.remove(0)));
        local
            .run_until(async {
                let query = |most, client: Option<&str>| Query {
                    rows_max: most,
                    client: client.map(|network| network.parse().unwrap()),
                };
                for (description, query, listed, cut) in [
                    ("more than one page", query(10_000, None), count, false),
                    ("cut short", query(7, None), 7, true),
                    ("just as many", query(count, None), count, false),
                    ("of one network", query(10_000, Some("127.0.0.0/8")), count, false),
                    ("of another", query(10_000, Some("10.0.0.0/8")), 0, false),
                ] {
                    let listing = directory.list(&query).await;
                    assert_eq!((listing.rows.len(), listing.is_cut), (listed, cut), "{description}");
                    assert_eq!((listing.open, listing.unanswered.len()), (count, 0), "{description}");
                    assert!(listing.rows.is_sorted_by_key(|row| row.id), "{description}");
                }
                sockets.truncate(3);
                let listing = directory.list(&query(10, None)).await;
                let first: serde_json::Value = serde_json::from_slice(&listing.rows[0].json).unwrap();
                let client = clients[0].local_addr().unwrap().to_string();
                assert_eq!((first["client"]["addr"].as_str(), listing.rows.len()), (Some(&*client), 3));
                assert!(
                    first["connection"]["end"].is_null() && first["tcp"]["rtt_ms"].is_number(),
                    "{first}"
                );
            })
            .await;
    }
}
