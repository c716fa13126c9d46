//! Which connections are open: what each worker is asked, and the answers put together.
//!
//! Workers answer between their other work and look at a bounded number of connections for each answer, so a listing costs
//! traffic little, however many there are; it is no picture of one moment.

use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::access::ConnectionId;

/// Connections that a worker looks at for one answer.
pub const LOOKED_AT_MAX: usize = 256;
/// Connections in one listing.
pub const LISTED_MAX: usize = 10_000;
/// Questions that may wait for a worker.
const QUESTIONS_MAX: usize = 4;
/// How long a worker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Which connections are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// At most so many; no more than [`LISTED_MAX`].
    pub rows_max: usize,
    /// Of clients in this network.
    pub client: Option<IpNet>,
}

/// Put together from all workers.
#[derive(Debug, Default)]
pub struct Listing {
    /// The connections that have been open longest come first.
    pub rows: Vec<Row>,
    /// How many are open in all.
    pub open: usize,
    /// Whether there are more.
    pub is_cut: bool,
    /// Workers that did not answer in time.
    pub unanswered: Vec<usize>,
}

/// An open connection.
#[derive(Debug)]
pub struct Row {
    /// Its number.
    pub id: ConnectionId,
    /// What is known of it: a JSON object with the names of its record.
    pub json: Vec<u8>,
}

/// What a worker is asked.
#[derive(Debug)]
pub struct Question {
    /// Connections after this one.
    pub after: Option<ConnectionId>,
    /// At most so many.
    pub rows_max: usize,
    /// Of clients in this network.
    pub client: Option<IpNet>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Page>,
}

/// A worker's answer.
#[derive(Debug)]
pub struct Page {
    /// Some of its connections.
    pub rows: Vec<Row>,
    /// Ask again after this one; `None`: that was all.
    pub next: Option<ConnectionId>,
    /// How many it has open.
    pub open: usize,
}

/// The workers, by number.
#[derive(Debug, Default)]
pub struct Directory(Vec<mpsc::Sender<Question>>);

impl Directory {
    /// For so many workers, with the end that each of them answers at.
    pub fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Question>>) {
        let (ask, answer) = (0..workers).map(|_| mpsc::channel(QUESTIONS_MAX)).unzip();
        (Self(ask), answer)
    }

    /// Asks every worker.
    pub async fn list(&self, query: &Query) -> Listing {
        let rows_max = query.rows_max.min(LISTED_MAX);
        let mut listing = Listing::default();
        for (worker, questions) in self.0.iter().enumerate() {
            if !ask(questions, query.client, rows_max, &mut listing).await {
                listing.unanswered.push(worker);
            }
        }
        listing.rows.sort_unstable_by_key(|row| row.id);
        listing.is_cut |= listing.rows.len() > rows_max;
        listing.rows.truncate(rows_max);
        listing
    }
}

/// Adds a worker's connections; whether it has answered. One that has ended has none.
async fn ask(
    questions: &mpsc::Sender<Question>,
    client: Option<IpNet>,
    rows_max: usize,
    listing: &mut Listing,
) -> bool {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (mut after, mut left, mut open) = (None, rows_max, 0);
    loop {
        let (answer, answered) = oneshot::channel();
        let question = Question { after, rows_max: left, client, answer };
        let page = timeout_at(deadline, async {
            questions.send(question).await.ok()?;
            answered.await.ok()
        });
        match page.await {
            Ok(Some(page)) => {
                (after, left, open) = (page.next, left - page.rows.len(), page.open);
                listing.rows.extend(page.rows);
            }
            Ok(None) => break,
            Err(_) => return false,
        }
        if after.is_none() || left == 0 {
            listing.is_cut |= after.is_some();
            break;
        }
    }
    listing.open += open;
    true
}
