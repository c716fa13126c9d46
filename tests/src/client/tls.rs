//! A TLS client whose every step a test decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ResolvesClientCert, Resumption, Tls12Resumption, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, HandshakeKind, ProtocolVersion, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Http, block_on};
use crate::{Ca, Identity};

/// How long the server may take to close what is read to its end.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// How a TLS connection is to be made. A clone shares the sessions it may resume.
#[derive(Clone)]
pub struct Tls {
    config: ClientConfig,
    name: Option<String>,
    /// Sent ahead of the handshake.
    ahead: Vec<u8>,
}

/// A TLS connection whose client side of the handshake is done.
pub struct Link {
    pub(super) stream: TlsStream<TcpStream>,
    /// Read, and not given out.
    ahead: BytesMut,
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// By this alert.
    Alert(u8),
    /// With this HTTP status.
    Status(u16),
    /// Without a word, or with an error that is no alert.
    Otherwise(String),
}

impl Tls {
    /// TLS 1.2 and 1.3, no ALPN, no server name, no certificate, no resumption.
    pub fn new() -> Self {
        Self::with(&[&rustls::version::TLS13, &rustls::version::TLS12], None)
    }

    /// TLS 1.2 alone.
    pub fn v12() -> Self {
        Self::with(&[&rustls::version::TLS12], None)
    }

    /// TLS 1.3 alone.
    pub fn v13() -> Self {
        Self::with(&[&rustls::version::TLS13], None)
    }

    /// With this key exchange alone.
    pub fn group(group: &'static dyn SupportedKxGroup) -> Self {
        Self::with(&[&rustls::version::TLS13, &rustls::version::TLS12], Some(group))
    }

    fn with(
        versions: &[&'static SupportedProtocolVersion],
        group: Option<&'static dyn SupportedKxGroup>,
    ) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(group) = group {
            provider.kx_groups = vec![group];
        }
        let provider = Arc::new(provider);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the provider knows the versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Self { config, name: None, ahead: Vec::new() }
    }

    /// With a client certificate, as it is: neither parsed nor compared with its key.
    ///
    /// # Panics
    /// When the key cannot be used.
    #[must_use]
    pub fn cert(mut self, identity: &Identity) -> Self {
        let key = aws_lc_rs::sign::any_supported_type(&identity.key()).expect("the key can sign");
        let certified = CertifiedKey::new(identity.chain().to_vec(), key);
        self.config.client_auth_cert_resolver = Arc::new(Always(Arc::new(certified)));
        self
    }

    /// Taking only servers that one of these authorities speaks for, as any client should.
    ///
    /// # Panics
    /// When an authority is unusable.
    #[must_use]
    pub fn trusting(mut self, authorities: &[&Ca]) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.der().clone()).expect("an authority is an anchor");
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        self.config.dangerous().set_certificate_verifier(verifier.expect("there are anchors"));
        self
    }

    /// With this server name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.config.enable_sni = true;
        self.name = Some(name.to_owned());
        self
    }

    /// With these bytes ahead of the handshake.
    #[must_use]
    pub fn ahead(mut self, bytes: &[u8]) -> Self {
        self.ahead = bytes.to_vec();
        self
    }

    /// Offering these protocols.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Keeping sessions and resuming them.
    #[must_use]
    pub fn resuming(mut self) -> Self {
        let store = Arc::new(ClientSessionMemoryCache::new(64));
        self.config.resumption =
            Resumption::store(store).tls12_resumption(Tls12Resumption::SessionIdOrTickets);
        self
    }

    /// Asking for early data.
    #[must_use]
    pub fn early_data(mut self) -> Self {
        self.config.enable_early_data = true;
        self
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// What ended the handshake. With TLS 1.3 a client is done before the server has judged its
    /// certificate, so a refusal shows only at the first read.
    pub fn connect(&self, address: SocketAddr) -> Result<Link, Ended> {
        block_on(self.dial(address)).map(|stream| Link { stream, ahead: BytesMut::new() })
    }

    /// Shakes hands, beside the test.
    pub(super) async fn dial(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>, Ended> {
        let mut tcp =
            TcpStream::connect(address).await.map_err(|error| Ended::Otherwise(error.to_string()))?;
        tcp.set_nodelay(true).ok();
        // Where the server has closed already, the handshake tells.
        tcp.write_all(&self.ahead).await.ok();
        let name = self.name.clone().unwrap_or_else(|| address.ip().to_string());
        let name = ServerName::try_from(name).expect("a test uses a valid server name");
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        connector.connect(name, tcp).await.map_err(|error| ended(&error))
    }

    /// Shakes hands, asks for `/` over HTTP/1.1 and tells how it ended.
    pub fn try_get(&self, address: SocketAddr) -> Ended {
        match self.connect(address) {
            Ok(link) => link.get("/"),
            Err(ended) => ended,
        }
    }

    /// Connects and speaks the protocol that ALPN chose, HTTP/1.1 where it chose none.
    ///
    /// # Panics
    /// When the handshake fails.
    pub fn open(&self, address: SocketAddr) -> Http {
        self.connect(address).unwrap_or_else(|ended| panic!("the handshake ended in {ended:?}")).http()
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// Asks for `path` over HTTP/1.1 by hand, and tells how it ended.
    pub fn get(mut self, path: &str) -> Ended {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n");
        match self.exchange(request.as_bytes()) {
            Ok(answer) => {
                let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
                status.map_or_else(|| Ended::Otherwise(answer), Ended::Status)
            }
            Err(ended) => ended,
        }
    }

    /// Writes `bytes` and reads to the end.
    ///
    /// # Errors
    /// What ended the connection, if it was no orderly close.
    ///
    /// # Panics
    /// When the server does not close.
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<String, Ended> {
        block_on(async {
            // The refusal may be there already; the read tells which it is.
            self.stream.write_all(bytes).await.ok();
            self.stream.flush().await.ok();
            let mut answer = Vec::new();
            let read = timeout(READ_LIMIT, self.stream.read_to_end(&mut answer)).await;
            match read.unwrap_or_else(|_| panic!("the server did not close within {READ_LIMIT:?}")) {
                Ok(_) => Ok(String::from_utf8_lossy(&answer).into_owned()),
                Err(_) if !answer.is_empty() => Ok(String::from_utf8_lossy(&answer).into_owned()),
                Err(error) => Err(ended(&error)),
            }
        })
    }

    /// Sends bytes; whether they could be sent.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        block_on(async {
            self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
        })
    }

    /// Reads on until this has come; `None` if the connection ends before.
    ///
    /// # Panics
    /// When nothing comes for too long.
    pub fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.ahead.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let text = self.ahead.split_to(at + end.len());
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Reads so many bytes; `None` if the connection ends before.
    ///
    /// # Panics
    /// When nothing comes for too long.
    pub fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < length {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.ahead.split_to(length).to_vec())
    }

    /// Reads to the end of the connection, however it ends.
    ///
    /// # Panics
    /// When nothing comes for too long.
    pub fn rest(&mut self) -> String {
        while self.fill() > 0 {}
        String::from_utf8_lossy(&self.ahead.split()).into_owned()
    }

    /// Ends the writing side.
    pub fn end(&mut self) {
        block_on(async { self.stream.shutdown().await.ok() });
    }

    /// 0: the connection has ended or is broken.
    fn fill(&mut self) -> usize {
        let read = block_on(async { timeout(READ_LIMIT, self.stream.read_buf(&mut self.ahead)).await });
        read.unwrap_or_else(|_| panic!("nothing came within {READ_LIMIT:?}")).unwrap_or(0)
    }

    /// Speaks the protocol that ALPN chose.
    pub fn http(self) -> Http {
        Http::over(self)
    }

    /// The protocol version.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.stream.get_ref().1.protocol_version()
    }

    /// The protocol that ALPN chose.
    pub fn alpn(&self) -> Option<String> {
        let protocol = self.stream.get_ref().1.alpn_protocol();
        protocol.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Whether the session was resumed.
    pub fn resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether early data was accepted.
    pub fn early_data_accepted(&self) -> bool {
        self.stream.get_ref().1.is_early_data_accepted()
    }

    /// The name of the key exchange, as `X25519MLKEM768`.
    pub fn group(&self) -> String {
        let group = self.stream.get_ref().1.negotiated_key_exchange_group();
        group.map(|group| format!("{:?}", group.name())).unwrap_or_default()
    }

    /// The certificate that the server showed.
    pub fn server_certificate(&self) -> Option<CertificateDer<'static>> {
        let certs = self.stream.get_ref().1.peer_certificates();
        certs.and_then(|chain| chain.first()).map(|cert| cert.clone().into_owned())
    }
}

fn ended(error: &std::io::Error) -> Ended {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::AlertReceived(alert)) => Ended::Alert(number(*alert)),
        _ => Ended::Otherwise(error.to_string()),
    }
}

fn number(alert: AlertDescription) -> u8 {
    u8::from(alert)
}

/// Presents one certificate whatever the server asks for.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes every server for the right one, as `curl --insecure` does.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
