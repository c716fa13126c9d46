//! Accepting TLS: from a client's stream to a connection with its credential, or to a reason and an alert.
//!
//! The ClientHello is read by rustls alone; its server name chooses the listener once, before anything is answered.
//! The handshake is driven here, and not by tokio-rustls, because a failed one must still tell what it had agreed on and
//! must have written its alert before the stream is handed back for lingering. Dropping the future at any point ends the
//! handshake and drops the stream.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;

use rustls::server::Acceptor;
use rustls::{
    AlertDescription, CertificateError, CipherSuite, Error, HandshakeKind, NamedGroup, PeerMisbehaved,
    ProtocolVersion, ServerConfig, ServerConnection,
};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::identity::identity_of;
use super::material::{ALPN_H2, ServerTls};
use super::peer::{Credential, Peer};
use super::trust::TrustDomain;
use super::verifier::{RefusedCertificate, take_refused};
use crate::model::{Identity, Reason, ValidationMode};

/// How much of a handshake is read at once, bytes.
const READ_BYTES: usize = 4096;

/// An accepted TLS connection.
#[derive(Debug)]
pub struct Accepted<S, L> {
    /// The connection, its handshake complete and its tickets sent.
    pub io: TlsStream<S>,
    /// What was agreed on.
    pub tls: TlsFacts,
    /// What the client has shown.
    pub credential: Credential,
    /// Whether the client's certificate is verified and an X.509 v1 one.
    pub x509_v1: bool,
    /// The listener that the server name chose.
    pub listener: L,
}

/// What a handshake agreed on.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The protocol version.
    pub version: ProtocolVersion,
    /// Cipher suite, IANA's name.
    pub cipher: Option<&'static str>,
    /// Key exchange group, IANA's name; `None` where there was no key exchange (resumption in TLS 1.2).
    pub group: Option<&'static str>,
    /// The server name that the client asked for, lower case.
    pub server_name: Option<Arc<str>>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// What is spoken next.
    pub alpn: Alpn,
}

/// The application protocol, by ALPN alone; a client that offers none speaks HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`
    H2,
    /// `http/1.1`, or nothing.
    Http1,
}

/// A handshake that failed. Its alert has been written.
#[derive(Debug)]
pub struct Refused<S, L> {
    /// To shut down and linger on, so that the alert arrives.
    pub stream: Option<S>,
    /// Why.
    pub reason: Reason,
    /// In words, for the log.
    pub detail: String,
    /// What the client was told, as far as that is known.
    pub alert: Option<AlertDescription>,
    /// What the certificate says that was presented and refused.
    pub identity: Option<Arc<Identity>>,
    /// Whether a ClientHello was read.
    pub hello: bool,
    /// The server name of the ClientHello, lower case.
    pub server_name: Option<Arc<str>>,
    /// The listener, once the server name had chosen one.
    pub listener: Option<L>,
    /// What had been agreed on, once there was a version.
    pub tls: Option<TlsFacts>,
}

/// Accepts TLS on a client's stream. `select` maps the server name (lower case, without a trailing dot) to a listener;
/// with `None` the client gets the alert unrecognized_name (RFC 6066 §3). At `deadline` the handshake is given up.
/// `now`: Unix seconds.
///
/// # Errors
/// Whatever kept the handshake from completing.
pub async fn accept<S, L>(
    stream: S,
    select: impl FnOnce(Option<&str>) -> Option<(L, ServerTls)>,
    deadline: Instant,
    now: i64,
) -> Result<Accepted<S, L>, Box<Refused<S, L>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = Handshake { stream, hello: false, server_name: None, chosen: None, connection: None };
    let failure = match timeout_at(deadline, handshake.run(select)).await {
        Ok(Ok(())) => return handshake.complete(now).await,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(Reason::HandshakeTimeout, "the handshake took too long"),
    };
    Err(handshake.refused(failure))
}

/// A handshake on its way.
struct Handshake<S, L> {
    stream: S,
    hello: bool,
    server_name: Option<Arc<str>>,
    chosen: Option<(L, ServerTls)>,
    connection: Option<ServerConnection>,
}

/// Why a handshake ends, with what is known of the refused certificate and of the alert.
struct Failure {
    reason: Reason,
    detail: String,
    alert: Option<AlertDescription>,
    identity: Option<Arc<Identity>>,
}

/// What stopped a step of the handshake.
enum Stop {
    Closed,
    Io(io::Error),
    Tls(Box<Error>, Option<Box<RefusedCertificate>>),
}

impl Stop {
    /// rustls takes no more octets: a message is longer than any of the handshake may be.
    fn from_buffer(error: &io::Error) -> Self {
        Self::Tls(Box::new(Error::General(error.to_string())), None)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, L> Handshake<S, L> {
    async fn run(
        &mut self,
        select: impl FnOnce(Option<&str>) -> Option<(L, ServerTls)>,
    ) -> Result<(), Failure> {
        let hello = self.read_hello().await?;
        self.hello = true;
        let name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
        self.server_name = name.map(|name| name.strip_suffix('.').unwrap_or(&name).into());
        let Some(chosen) = select(self.server_name.as_deref()) else {
            let alert = AlertDescription::UnrecognisedName;
            write(&mut self.stream, &[21, 3, 3, 0, 2, 2, alert.into()]).await;
            let failure = Failure::new(Reason::UnrecognizedName, "no listener serves this server name");
            return Err(Failure { alert: Some(alert), ..failure });
        };
        let config = chosen.1.config.clone();
        self.chosen = Some(chosen);
        match hello.into_connection(config) {
            Ok(connection) => self.connection = Some(connection),
            Err((error, mut alert)) => {
                let mut record = Vec::new();
                let _ = alert.write_all(&mut record);
                return Err(self.fail(Stop::Tls(Box::new(error), None), &record).await);
            }
        }
        self.exchange().await
    }

    async fn read_hello(&mut self) -> Result<rustls::server::Accepted, Failure> {
        let mut acceptor = Acceptor::default();
        loop {
            let step = |octets: &[u8]| {
                let mut rest = octets;
                while !rest.is_empty() {
                    acceptor.read_tls(&mut rest).map_err(|error| (Stop::from_buffer(&error), Vec::new()))?;
                }
                acceptor.accept().map_err(|(error, mut alert)| {
                    let mut record = Vec::new();
                    let _ = alert.write_all(&mut record);
                    (Stop::Tls(Box::new(error), None), record)
                })
            };
            let step = match read(&mut self.stream, step).await {
                Ok(Some(step)) => step,
                Ok(None) => Err((Stop::Closed, Vec::new())),
                Err(error) => Err((Stop::Io(error), Vec::new())),
            };
            match step {
                Ok(Some(hello)) => return Ok(hello),
                Ok(None) => {}
                Err((stop, alert)) => return Err(self.fail(stop, &alert).await),
            }
        }
    }

    /// The rest of the handshake, up to our last flight.
    async fn exchange(&mut self) -> Result<(), Failure> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut step = process(connection, &[]);
        loop {
            let mut flight = Vec::new();
            while connection.wants_write()
                && connection.write_tls(&mut flight).is_ok_and(|written| written > 0)
            {}
            if let Err(stop) = step {
                return Err(self.fail(stop, &flight).await);
            }
            if let Err(error) = self.stream.write_all(&flight).await {
                return Err(self.fail(Stop::Io(error), &[]).await);
            }
            if let Err(error) = self.stream.flush().await {
                return Err(self.fail(Stop::Io(error), &[]).await);
            }
            if !connection.is_handshaking() {
                return Ok(());
            }
            step = match read(&mut self.stream, |octets| process(connection, octets)).await {
                Ok(Some(step)) => step,
                Ok(None) => Err(Stop::Closed),
                Err(error) => Err(Stop::Io(error)),
            };
        }
    }

    /// Writes what rustls had to say, which ends with an alert if there is one.
    async fn fail(&mut self, stop: Stop, last_words: &[u8]) -> Failure {
        write(&mut self.stream, last_words).await;
        let mut failure = Failure::from(stop);
        if let Some(alert) = plaintext_alert(last_words) {
            failure.alert = Some(alert);
        }
        failure
    }

    async fn complete(mut self, now: i64) -> Result<Accepted<S, L>, Box<Refused<S, L>>> {
        let facts = self.facts();
        let (Some(connection), Some((listener, tls)), Some(facts)) =
            (self.connection.take(), self.chosen.take(), facts)
        else {
            return Err(self.refused(Failure::new(Reason::Internal, "the handshake is not complete")));
        };
        let (credential, x509_v1) = credential(connection.peer_certificates(), tls.trust.as_ref(), now);
        match stream_of(&tls.config, self.stream, connection).await {
            Ok(io) => Ok(Accepted { io, tls: facts, credential, x509_v1, listener }),
            Err((error, stream)) => {
                let handshake = Self { stream, chosen: Some((listener, tls)), ..self };
                Err(handshake.refused(Failure::from(Stop::Io(error))))
            }
        }
    }

    fn facts(&self) -> Option<TlsFacts> {
        let connection = self.connection.as_ref()?;
        Some(TlsFacts {
            version: connection.protocol_version()?,
            cipher: connection.negotiated_cipher_suite().and_then(|suite| cipher_name(suite.suite())),
            group: connection.negotiated_key_exchange_group().and_then(|group| group_name(group.name())),
            server_name: self.server_name.clone(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: if connection.alpn_protocol() == Some(ALPN_H2) { Alpn::H2 } else { Alpn::Http1 },
        })
    }

    fn refused(self, failure: Failure) -> Box<Refused<S, L>> {
        let tls = self.facts();
        Box::new(Refused {
            stream: Some(self.stream),
            reason: failure.reason,
            detail: failure.detail,
            alert: failure.alert,
            identity: failure.identity,
            hello: self.hello,
            server_name: self.server_name,
            listener: self.chosen.map(|(listener, _)| listener),
            tls,
        })
    }
}

impl Failure {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), alert: None, identity: None }
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Closed => Self::new(Reason::HandshakeClosed, "the client closed during the handshake"),
            Stop::Io(error) => Self::new(Reason::HandshakeClosed, error.to_string()),
            Stop::Tls(error, Some(refused)) => Self {
                reason: refused.error.reason(),
                detail: refused.error.to_string(),
                alert: alert_of(&error),
                identity: Some(refused.identity),
            },
            Stop::Tls(error, None) => {
                let reason = match &*error {
                    Error::NoCertificatesPresented => Reason::NoCertificate,
                    Error::AlertReceived(_) => Reason::PeerAlert,
                    Error::InvalidCertificate(_) => Reason::CertificateUnknown,
                    _ => Reason::HandshakeProtocol,
                };
                Self { alert: alert_of(&error), ..Self::new(reason, error.to_string()) }
            }
        }
    }
}

/// The alerts that are sent encrypted; those in plaintext are read off the record.
fn alert_of(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::NoCertificatesPresented => Some(AlertDescription::CertificateRequired),
        Error::NoApplicationProtocol => Some(AlertDescription::NoApplicationProtocol),
        Error::InvalidCertificate(error) => Some(CertificateError::clone(error).into()),
        Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) => {
            Some(AlertDescription::IllegalParameter)
        }
        _ => None,
    }
}

fn plaintext_alert(records: &[u8]) -> Option<AlertDescription> {
    match records.last_chunk::<7>()? {
        [21, 3, _, 0, 2, _, alert] => Some((*alert).into()),
        _ => None,
    }
}

/// Writes as much as the client takes; whether it does changes nothing.
async fn write<S: AsyncWrite + Unpin>(stream: &mut S, octets: &[u8]) {
    if stream.write_all(octets).await.is_ok() {
        let _ = stream.flush().await;
    }
}

/// Gives what is read next to `step`; `None` at the end of the stream.
async fn read<S: AsyncRead + Unpin, T>(
    stream: &mut S,
    mut step: impl FnMut(&[u8]) -> T,
) -> io::Result<Option<T>> {
    std::future::poll_fn(|cx| {
        let mut octets = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut octets);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        let octets = buffer.filled();
        std::task::Poll::Ready(Ok((!octets.is_empty()).then(|| step(octets))))
    })
    .await
}

/// Takes the handshake as far as the octets go.
fn process(connection: &mut ServerConnection, mut octets: &[u8]) -> Result<(), Stop> {
    loop {
        // The verifier runs in here, on this thread: what it leaves there belongs to this connection.
        let state = match connection.process_new_packets() {
            Ok(state) => state,
            Err(error) => return Err(Stop::Tls(Box::new(error), take_refused().map(Box::new))),
        };
        if state.peer_has_closed() && connection.is_handshaking() {
            return Err(Stop::Closed);
        }
        if octets.is_empty() || state.peer_has_closed() {
            return Ok(());
        }
        connection.read_tls(&mut octets).map_err(|error| Stop::from_buffer(&error))?;
    }
}

/// A tokio-rustls stream of a connection whose handshake is complete. Such a stream begins only with a connection of its
/// own making, which is given away for ours.
async fn stream_of<S: AsyncRead + AsyncWrite + Unpin>(
    config: &Arc<ServerConfig>,
    stream: S,
    connection: ServerConnection,
) -> Result<TlsStream<S>, (io::Error, S)> {
    TlsAcceptor::from(config.clone()).accept_with(stream, |fresh| *fresh = connection).into_fallible().await
}

/// What a client has shown, resumed or not: rustls keeps the chain with the session and does not verify it again.
fn credential(
    chain: Option<&[CertificateDer<'static>]>,
    trust: Option<&Arc<TrustDomain>>,
    now: i64,
) -> (Credential, bool) {
    let (Some(chain @ [leaf, ..]), Some(trust)) = (chain, trust) else { return (Credential::None, false) };
    let verified = trust.verify_chain(chain, now).ok().or_else(|| match trust.mode() {
        // A session outlives its certificate: the gate shall say that it has expired.
        ValidationMode::AllowValidOnly => trust.verify_expired(chain, now),
        ValidationMode::AllowInsecureFallback => None,
    });
    match verified {
        Some(known) => {
            let peer = Peer::new(known.identity.clone(), known.chain.clone(), trust, known.path.clone());
            (Credential::Verified(peer), known.x509_v1)
        }
        None => (Credential::Unverified(Arc::new(identity_of(leaf))), false),
    }
}

/// rustls writes TLS 1.3 suites with a prefix of its own.
fn cipher_name(suite: CipherSuite) -> Option<&'static str> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some("TLS_AES_128_GCM_SHA256"),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some("TLS_AES_256_GCM_SHA384"),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some("TLS_CHACHA20_POLY1305_SHA256"),
        other => other.as_str(),
    }
}

fn group_name(group: NamedGroup) -> Option<&'static str> {
    match group {
        NamedGroup::X25519 => Some("x25519"),
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests;
