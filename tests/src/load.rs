//! Clients that go on and on, and count what does not go as it should.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::Ended;
use crate::{Http, Scene, Tls};

const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Errors of one client that are kept; the rest is only counted.
const ERRORS_KEPT_MAX: usize = 5;

/// What became of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were answered by 200.
    pub answered: usize,
    /// Those that were not.
    pub failed: usize,
    /// The first of these.
    pub errors: Vec<String>,
}

/// Clients at work; they stop when this is dropped.
pub struct Load {
    done: Arc<AtomicBool>,
    clients: Vec<(&'static str, Arc<AtomicUsize>, JoinHandle<Tally>)>,
}

impl Load {
    /// No client yet.
    pub fn new() -> Self {
        Self { done: Arc::default(), clients: Vec::new() }
    }

    /// With one that opens a connection for every request.
    #[must_use]
    pub fn connections(self, address: SocketAddr) -> Self {
        self.client("connections", move || connection(address))
    }

    /// Whether a request on a connection of its own is answered.
    pub fn once(address: SocketAddr) -> bool {
        connection(address).is_ok()
    }

    /// With one that shakes hands for every request.
    #[must_use]
    pub fn handshakes(self, address: SocketAddr, tls: Tls) -> Self {
        self.client("handshakes", move || match tls.try_get(address) {
            Ended::Status(200) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    }

    /// With one that keeps its connection as long as it may.
    #[must_use]
    pub fn kept(self, name: &'static str, open: impl Fn() -> Http + Send + 'static) -> Self {
        let mut connection: Option<Http> = None;
        self.client(name, move || {
            loop {
                let http = connection.get_or_insert_with(&open);
                match http.try_get("/") {
                    Ok(answer) if answer.status == 200 && answer.broken.is_none() => return Ok(()),
                    Ok(answer) => return Err(format!("{answer:?}")),
                    // Nothing was sent: the server had said before that the connection ends.
                    Err(error) if error.is_closed() || error.is_canceled() => connection = None,
                    Err(error) => {
                        connection = None;
                        return Err(format!("{error:?}"));
                    }
                }
            }
        })
    }

    /// With every kind, against the clear and the mTLS listener of a scene.
    #[must_use]
    pub fn of_all_kinds(scene: &Scene) -> Self {
        let (clear, secured) = (scene.node.http(), scene.node.https());
        let tls = scene.tls(&scene.alice);
        let h2 = tls.clone().alpn(&["h2"]);
        Self::new()
            .connections(clear)
            .connections(clear)
            .handshakes(secured, tls.resuming())
            .kept("kept HTTP/1.1", move || Http::clear(clear))
            .kept("kept HTTP/2", move || h2.open(secured))
    }

    fn client(
        mut self,
        name: &'static str,
        mut request: impl FnMut() -> Result<(), String> + Send + 'static,
    ) -> Self {
        let (done, answered) = (Arc::clone(&self.done), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&answered);
        let thread = thread::spawn(move || {
            let mut tally = Tally::default();
            while !done.load(Ordering::Relaxed) {
                match request() {
                    Ok(()) => {
                        tally.answered += 1;
                        count.store(tally.answered, Ordering::Relaxed);
                    }
                    Err(error) => {
                        tally.failed += 1;
                        if tally.errors.len() < ERRORS_KEPT_MAX {
                            tally.errors.push(format!("{name}: {error}"));
                        }
                    }
                }
            }
            tally
        });
        self.clients.push((name, answered, thread));
        self
    }

    /// How many requests of each client have been answered.
    pub fn answered(&self) -> Vec<usize> {
        self.clients.iter().map(|(_, answered, _)| answered.load(Ordering::Relaxed)).collect()
    }

    /// Ends it and gives the sum, and what each client did.
    ///
    /// # Panics
    /// When a client panicked.
    pub fn end(mut self) -> (Tally, Vec<(&'static str, usize)>) {
        self.done.store(true, Ordering::Relaxed);
        let (mut sum, mut each) = (Tally::default(), Vec::new());
        for (name, _, thread) in std::mem::take(&mut self.clients) {
            let tally = thread.join().unwrap_or_else(|_| panic!("the client of {name} panicked"));
            each.push((name, tally.answered));
            sum.answered += tally.answered;
            sum.failed += tally.failed;
            sum.errors.extend(tally.errors);
        }
        (sum, each)
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

fn connection(address: SocketAddr) -> Result<(), String> {
    let answer = (|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })();
    match answer {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
        Err(error) => Err(error.to_string()),
    }
}
