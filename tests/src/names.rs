//! A name server (RFC 1035) that says what a test wants, and a gateway's way to it.
//!
//! It listens on an address of its own, since the resolver knows no port but 53; the gateway sees a `/etc/resolv.conf`
//! that names it alone, by a mount that nobody else sees.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::{tools, wait};

const PORT: u16 = 53;
const TYPE_A: u16 = 1;
/// RFC 1035 §4.1.1
const NO_SUCH_NAME: u8 = 3;

/// The server. Its threads end with the test.
pub struct Names {
    shared: Arc<Shared>,
    folder: TempDir,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    asked: AtomicU32,
}

#[derive(Default)]
struct State {
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    mood: Mood,
}

/// How it takes questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    #[default]
    Quick,
    /// It answers after this time.
    Slow(Duration),
    /// It is not there.
    Gone,
}

impl Names {
    /// One that knows no name; `None`, with a loud line that `test` is skipped, where that cannot be.
    ///
    /// # Panics
    /// In continuous integration instead of skipping.
    pub fn start(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mount = ["--mount", "mount", "--bind", "/etc/resolv.conf", "/etc/resolv.conf"];
        let may_mount = Command::new("unshare").args(mount).stderr(Stdio::null()).status();
        // One address for each of the tests that run at once, in whatever process.
        let number = process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, high, middle, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(127, 64 | (high & 63), middle, low);
        let socket = UdpSocket::bind((address, PORT));
        let (true, Ok(socket)) = (may_mount.is_ok_and(|status| status.success()), socket) else {
            tools::skip(test, "there may be no name server of our own");
            return None;
        };
        let folder = TempDir::with_prefix("yett-names-").expect("a folder can be made");
        let shared = Arc::<Shared>::default();
        // Every question once, and for longer than any of these tests has patience.
        let conf = format!("nameserver {address}\noptions timeout:30 attempts:1\n");
        fs::write(folder.path().join("resolv.conf"), conf).expect("a file can be written");
        let theirs = Arc::clone(&shared);
        thread::spawn(move || serve(&Arc::new(socket), &theirs));
        Some(Self { shared, folder })
    }

    /// The file that a gateway is to see as `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    /// Gives a name these addresses; none: there is no such name.
    pub fn set(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.state().addresses.insert(name.to_owned(), addresses.to_vec());
    }

    /// Changes how questions are taken.
    pub fn mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// How many questions for an IPv4 address have come.
    pub fn asked(&self) -> u32 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Waits until it has been asked once more.
    pub fn wait_asked(&self) {
        let before = self.asked();
        wait::soon("a question to the name server", || self.asked() > before);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(socket: &Arc<UdpSocket>, shared: &Arc<Shared>) {
    let mut question = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut question) {
        let Some((name, kind)) = question.get(12..length).and_then(asked_for) else { continue };
        if kind == TYPE_A {
            shared.asked.fetch_add(1, Ordering::Relaxed);
        }
        let (addresses, mood) = {
            let state = shared.state();
            (state.addresses.get(&name).cloned().unwrap_or_default(), state.mood)
        };
        let answer = answer(&question[..length], name.len() + 6, kind, &addresses);
        match mood {
            Mood::Quick => send(socket, &answer, client),
            Mood::Gone => {}
            Mood::Slow(delay) => {
                let socket = Arc::clone(socket);
                thread::spawn(move || {
                    wait::pass(delay);
                    send(&socket, &answer, client);
                });
            }
        }
    }
}

fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    // Whoever asked may be gone.
    socket.send_to(answer, client).ok();
}

/// The name and the type of a question: labels with their lengths, an empty one, the type.
fn asked_for(mut rest: &[u8]) -> Option<(String, u16)> {
    let mut labels = Vec::new();
    loop {
        let (length, behind) = rest.split_first()?;
        if *length == 0 {
            let kind = behind.get(..2)?;
            return Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]])));
        }
        let (label, behind) = behind.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        rest = behind;
    }
}

/// The head, the question again (`question_bytes` of it), and a record for each address.
fn answer(question: &[u8], question_bytes: usize, kind: u16, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let records = if kind == TYPE_A { addresses } else { &[] };
    let code = if addresses.is_empty() { NO_SUCH_NAME } else { 0 };
    let mut answer = question[..2].to_vec();
    // An answer, of one who looks further for the client as it asked, recursion being at hand.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).expect("few"), 0, 0, 0, 0]);
    answer.extend_from_slice(&question[12..12 + question_bytes]);
    for address in records {
        // The name of the question, type A, class IN, no time to live, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
