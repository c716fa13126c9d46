//! What the API server asks a node: the logs of its containers. It has to show the certificate of whoever may ask.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::future::Future;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::SinkExt as _;
use futures::channel::mpsc;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Node;
use super::container::{log_of, previous};

/// Where kubelets are asked.
pub(super) const PORT: u16 = 10250;
/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is asked about a log.
#[derive(Debug, Default)]
struct Wish {
    file: PathBuf,
    since: Option<Timestamp>,
    /// So many lines of the end.
    tail: Option<usize>,
    has_times: bool,
    is_followed: bool,
}

/// Listens; the future answers for as long as it runs.
pub(super) async fn serve(node: Arc<Node>, pki: &Path) -> Result<impl Future<Output = ()> + use<>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.join("ca.crt"))?)?;
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let file = |end: &str| pki.join(format!("{}-kubelet.{end}", node.name));
    let chain = vec![CertificateDer::from_pem_file(file("crt"))?];
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(file("key"))?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener =
        TcpListener::bind((node.number.address(), PORT)).await.context("listening as a kubelet")?;
    Ok(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (acceptor, node) = (acceptor.clone(), Arc::clone(&node));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| {
                    let answer = answer(&node, &request);
                    async { Ok::<_, Infallible>(answer) }
                });
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            });
        }
    })
}

type Body = StreamBody<mpsc::Receiver<Result<Frame<Bytes>, Infallible>>>;

fn answer(node: &Node, request: &Request<Incoming>) -> Response<Body> {
    let (mut sender, receiver) = mpsc::channel(16);
    let mut response = Response::new(StreamBody::new(receiver));
    match wish(node, request.uri().path(), request.uri().query().unwrap_or_default()) {
        Some(wish) if wish.file.exists() => {
            tokio::spawn(async move {
                // The reader has gone: nobody is left to tell.
                send(wish, &mut sender).await.ok();
            });
        }
        _ => {
            *response.status_mut() = StatusCode::NOT_FOUND;
            sender.try_send(Ok(Frame::data("no such log".into()))).ok();
        }
    }
    response
}

/// `/containerLogs/NAMESPACE/POD/CONTAINER?…`
fn wish(node: &Node, path: &str, query: &str) -> Option<Wish> {
    let mut parts = path.strip_prefix("/containerLogs/")?.split('/');
    let file = log_of(node, parts.next()?, parts.next()?, parts.next()?);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let asked: BTreeMap<&str, String> = pairs.map(|(name, value)| (name, decode(value))).collect();
    let is = |name: &str| asked.get(name).is_some_and(|value| value == "true");
    let ago = asked.get("sinceSeconds").and_then(|seconds| seconds.parse().ok());
    let ago = ago.and_then(|seconds| Timestamp::now().checked_sub(Duration::from_secs(seconds)).ok());
    Some(Wish {
        file: if is("previous") { previous(&file) } else { file },
        since: asked.get("sinceTime").and_then(|time| time.parse().ok()).or(ago),
        tail: asked.get("tailLines").and_then(|lines| lines.parse().ok()),
        has_times: is("timestamps"),
        is_followed: is("follow"),
    })
}

/// Undoes the percent signs of a query.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn send(wish: Wish, to: &mut mpsc::Sender<Result<Frame<Bytes>, Infallible>>) -> Result<()> {
    let mut file = BufReader::new(File::open(&wish.file)?);
    let (mut is_first, mut at) = (true, 0);
    loop {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            at += line.len() as u64;
            lines.extend(shown(&wish, &line));
            line.clear();
        }
        // Half a line is read again when it is whole.
        file.seek(SeekFrom::Start(at))?;
        if let (true, Some(tail)) = (is_first, wish.tail) {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        is_first = false;
        if !lines.is_empty() {
            to.send(Ok(Frame::data(lines.concat().into()))).await?;
        }
        if !wish.is_followed || to.is_closed() {
            return Ok(());
        }
        // Its container has been started again, and this log is the former one now, or gone.
        let is_current = fs::metadata(&wish.file).is_ok_and(|now| now.len() >= at);
        if !is_current {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A line as it is asked for; nothing when it is too old.
fn shown(wish: &Wish, line: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(line.get(..30)?).ok()?;
    let time: Timestamp = text.parse().ok()?;
    if wish.since.is_some_and(|since| time < since) {
        return None;
    }
    // `TIME stdout F TEXT`; behind P the line goes on.
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (_, _, whole, said) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let mut out = if wish.has_times { format!("{text} ").into_bytes() } else { Vec::new() };
    out.extend_from_slice(if whole == b"P" { &said[..said.len() - 1] } else { said });
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_as_they_are_asked_for() {
        let line = b"2026-01-02T03:04:05.000000006Z stdout F hello there\n";
        let cut = b"2026-01-02T03:04:05.000000006Z stdout P hello\n";
        let at = |time: &str| Wish { since: Some(time.parse().unwrap()), ..Wish::default() };
        let show = |wish: &Wish, line: &[u8]| shown(wish, line).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(show(&Wish::default(), line).as_deref(), Some("hello there\n"));
        assert_eq!(show(&Wish::default(), cut).as_deref(), Some("hello"));
        assert_eq!(show(&at("2026-01-02T03:04:05Z"), line).as_deref(), Some("hello there\n"));
        assert_eq!(show(&at("2026-01-02T03:04:06Z"), line), None);
        let timed = Wish { has_times: true, ..Wish::default() };
        assert_eq!(show(&timed, line).as_deref(), Some("2026-01-02T03:04:05.000000006Z hello there\n"));
    }

    #[test]
    fn queries_are_undone() {
        assert_eq!(decode("2026-01-02T03%3A04%3A05Z+x%"), "2026-01-02T03:04:05Z x%");
    }
}
