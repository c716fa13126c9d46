//! The echo backend: answers each request with what it saw, and keeps a line of it in a log of its own.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tls::identity_of;

/// Larger request bodies are not echoed.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A backend on a thread of its own, for as long as the process lives.
#[derive(Debug)]
pub(super) struct Echo {
    address: SocketAddr,
    log: PathBuf,
}

impl Echo {
    /// Serves HTTP/1.1 on a free port of 127.0.0.1; its log stands in `folder`.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("echo.log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .context("cannot open the backend's log")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener =
            runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).context("cannot listen")?;
        let address = listener.local_addr()?;
        let log = Arc::new(Mutex::new(log));
        thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || runtime.block_on(serve(listener, log)))
            .context("cannot start the backend")?;
        Ok(Self { address, log: path })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have arrived, by its log.
    pub(super) fn requests(&self) -> usize {
        fs::read_to_string(&self.log).map(|text| text.lines().count()).unwrap_or_default()
    }
}

async fn serve(listener: TcpListener, log: Arc<Mutex<File>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request, &log).await) });
            // A connection that breaks off concerns nobody but its client.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn echo(request: Request<Incoming>, log: &Mutex<File>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    // Before the body: a request has arrived even when its body never ends.
    let line = json!({"time": jiff::Timestamp::now().to_string(), "method": head.method.as_str(), "path": path(&head.uri)});
    let _ = writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => format!("({error})"),
    };
    let seen = json!({
        "service": "echo",
        "method": head.method.as_str(),
        "path": path(&head.uri),
        "headers": headers(&head.headers),
        "body": body,
        "tls": {"client": identity(&head.headers)},
    });
    let mut answer = Response::new(Full::new(format!("{seen:#}\n").into()));
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    answer
}

fn path(uri: &http::Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

fn headers(headers: &HeaderMap) -> Value {
    let mut members = serde_json::Map::new();
    for name in headers.keys() {
        let values =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        members.insert(name.as_str().to_owned(), values.collect());
    }
    members.into()
}

/// Who the gateway says the client is: the certificate in `Client-Cert` (RFC 9440 §2.2, a structured byte sequence).
fn identity(headers: &HeaderMap) -> Value {
    let Some(value) = headers.get("client-cert").and_then(|value| value.to_str().ok()) else {
        return Value::Null;
    };
    let encoded = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
    let Some(der) = encoded.and_then(|encoded| BASE64.decode(encoded).ok()) else { return Value::Null };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return Value::Null };
    let version = certificate.version().0 + 1;
    let identity = identity_of(&der.as_slice().into());
    json!({
        "subject": identity.subject,
        "issuer": identity.issuer,
        "serial": identity.serial,
        "fingerprint": identity.fingerprint,
        "x509Version": version,
    })
}
