//! A snapshot, a backend and a client.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::http::roll::Roll;
use crate::http::{Client, HalfClose, Limits, Pool, Server, Wire, serve};
use crate::model::backend::EndpointHost;
use crate::model::route::{RuleHost, WeightedBackend};
use crate::model::{
    Action, Backend, BackendKey, BackendProtocol, CrlMaterial, Endpoint, FrontendId, Hostname, Listener,
    ObjectName, PathMatch, Protocol, RequestMatch, Rule, TrustBundle, ValidationMode,
};
use crate::runtime::Published;
use crate::runtime::drain::Drain;
use crate::snapshot::{ServedFrontend, ServedListener, Snapshot};
use crate::telemetry::access::{Connection as Facts, Lines};
use crate::telemetry::connections::Origin;
use crate::telemetry::{OpenConnection, Telemetry, TlsFacts, TlsVersion};
use crate::tls::pki::Ca;
use crate::tls::{Credential, Peer, ServerTls, TrustDomain, identity_of, provider};
use crate::upstream::{self, Upstream};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(10);

impl HalfClose for DuplexStream {
    fn half_close(&mut self) {}
}

/// What is served, and what it tells.
pub(super) struct World {
    pub(super) server: Rc<Server>,
    pub(super) drain: Drain,
    pub(super) lines: Lines,
    frontend: FrontendId,
}

/// A rule for `prefix` on `host` ("": any).
pub(super) fn rule(host: &str, prefix: &str, action: Action) -> Rule {
    let host = Hostname::parse(host);
    Rule {
        route: ObjectName::new("default", "route"),
        created: None,
        index: 0,
        name: None,
        hosts: vec![RuleHost { matches: host.clone(), own: host }],
        matches: vec![RequestMatch {
            path: PathMatch::Prefix(prefix.into()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }],
        filters: Vec::new(),
        action,
        request_timeout: None,
        backend_timeout: None,
    }
}

/// All requests to one backend.
pub(super) fn forward() -> Action {
    Action::Forward(vec![WeightedBackend { weight: 1, target: Ok(key()), filters: Vec::new() }])
}

fn key() -> BackendKey {
    BackendKey::Backend(ObjectName::new("default", "backend"))
}

/// A listener of rules; `""` takes every host.
pub(super) fn listener(hostname: &str, rules: Vec<Rule>) -> Listener {
    Listener {
        name: format!("default/gw/{hostname}").into(),
        hostname: Hostname::parse(hostname),
        tls: None,
        rules,
    }
}

/// What is asked of a world beyond its listeners.
#[derive(Clone, Default)]
pub(super) struct Plan {
    pub(super) protocol: Option<BackendProtocol>,
    pub(super) limits: Limits,
    pub(super) upstream: upstream::Limits,
    pub(super) trust: Option<Arc<TrustDomain>>,
    pub(super) is_tls: bool,
    pub(super) trusted_proxies: Vec<ipnet::IpNet>,
    /// The backend's endpoints beside the first one.
    pub(super) others: Vec<SocketAddr>,
}

impl World {
    pub(super) fn new(listeners: &[Listener], backend: Option<SocketAddr>, plan: &Plan) -> Self {
        let (telemetry, lines) = Telemetry::in_memory();
        let frontend = FrontendId { gateway: ObjectName::new("default", "gw"), port: 443 };
        let world = Self {
            server: Rc::new(Server {
                snapshots: Arc::new(Published::new(Arc::new(Snapshot::default()))),
                limits: plan.limits,
                trusted_proxies: plan.trusted_proxies.clone(),
                refuse_ambiguous_paths: true,
                pressure: Arc::default(),
                pool: Pool::new(plan.upstream, Arc::default(), &telemetry.metrics),
                roll: Roll::default(),
                telemetry,
            }),
            drain: Drain::default(),
            lines,
            frontend,
        };
        world.publish(listeners, backend, plan);
        world
    }

    pub(super) fn publish(&self, listeners: &[Listener], backend: Option<SocketAddr>, plan: &Plan) {
        let metrics = &self.server.telemetry.metrics;
        let endpoints = backend
            .into_iter()
            .chain(plan.others.iter().copied())
            .map(|address| Endpoint { host: EndpointHost::Address(address.ip()), port: address.port() })
            .collect();
        let protocol = plan.protocol.unwrap_or(BackendProtocol::Http1);
        let upstream = Arc::new(Upstream::new(
            Arc::new(Backend { key: key(), protocol, endpoints }),
            metrics.backend(&key().to_string()),
        ));
        let served = |listener: &Listener| {
            let tls = plan.is_tls.then(|| ServerTls { config: server_config(), trust: plan.trust.clone() });
            ServedListener::new(
                listener,
                tls,
                metrics.listener(&listener.name),
                |route| metrics.route(&listener.name, &route.to_string()),
                |wanted| (*wanted == key()).then(|| Arc::clone(&upstream)),
            )
        };
        let protocol = if plan.is_tls { Protocol::Https } else { Protocol::Http };
        let frontend = ServedFrontend::new(
            self.frontend.clone(),
            protocol,
            listeners.iter().map(served).collect(),
            metrics.listener("default/gw:443"),
        );
        self.server.snapshots.store(Arc::new(Snapshot::new(1, [frontend], [], [Arc::clone(&upstream)])));
    }

    /// A connection in clear.
    pub(super) fn connect(&self) -> DuplexStream {
        self.connect_as(Wire::ByPreface, None, Credential::None)
    }

    /// A connection as if a handshake had been made.
    pub(super) fn connect_as(
        &self,
        wire: Wire,
        sni: Option<Option<&str>>,
        credential: Credential,
    ) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        self.serve(theirs, wire, sni, credential);
        ours
    }

    /// The same over another stream.
    pub(super) fn serve(
        &self,
        io: impl HalfClose + 'static,
        wire: Wire,
        sni: Option<Option<&str>>,
        credential: Credential,
    ) {
        let telemetry = &self.server.telemetry;
        let peer = SocketAddr::from(([192, 0, 2, 1], 1234));
        let local = SocketAddr::from(([192, 0, 2, 2], 443));
        let metrics = telemetry.metrics.listener("default/gw:443");
        let origin = Origin { peer, local, worker: 0, is_local: true, rtt: None };
        let open = OpenConnection::begin(telemetry, &metrics, origin);
        let mut facts = Facts::cleartext(open.id, peer, local);
        facts.tls = sni.map(|sni| TlsFacts {
            version: TlsVersion::Tls13,
            cipher: None,
            group: None,
            resumed: false,
            sni: sni.map(Into::into),
            handshake: Duration::ZERO,
        });
        let client = Client {
            frontend: self.frontend.clone(),
            metrics,
            open,
            facts: Arc::new(facts),
            credential,
            wire,
        };
        tokio::task::spawn_local(serve(Rc::clone(&self.server), client, io, self.drain.follow()));
    }

    /// The access log's lines, once there are so many.
    pub(super) async fn lines(&self, count: usize) -> Vec<serde_json::Value> {
        let found = async {
            loop {
                let lines = self.lines.all();
                if lines.len() >= count {
                    return lines;
                }
                tokio::task::yield_now().await;
            }
        };
        within(found).await
    }
}

fn server_config() -> Arc<rustls::ServerConfig> {
    #[derive(Debug)]
    struct None;
    impl rustls::server::ResolvesServerCert for None {
        fn resolve(
            &self,
            _hello: rustls::server::ClientHello<'_>,
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Option::None
        }
    }
    let builder = rustls::ServerConfig::builder_with_provider(provider().clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(None)))
}

/// A trust domain with revocation data that is still to come, and a client whose chain it has verified.
pub(super) fn trust() -> (Arc<TrustDomain>, Credential, CertificateDer<'static>) {
    let ca = Ca::root("root");
    let holder = ca.client("client", |_| {});
    let bundle = TrustBundle {
        source: "Secret default/ca".into(),
        anchors: vec![ca.der.clone()],
        crls: vec![CrlMaterial { source: "Secret default/ca ca.crl".into(), data: Arc::from(&b""[..]) }],
    };
    let domain =
        Arc::new(TrustDomain::new(Arc::new(bundle), ValidationMode::AllowValidOnly, Vec::new()).unwrap());
    let path = domain.verify(&holder.chain, 1_800_000_000).unwrap();
    let identity = Arc::new(identity_of(holder.leaf()));
    let peer = Peer::new(identity, holder.chain.clone(), &domain, path);
    (domain, Credential::Verified(peer), holder.leaf().clone())
}

/// What the backend saw.
pub(super) type Seen = Rc<RefCell<Vec<String>>>;

/// A backend that answers each request head (and body, by content-length or chunks as they stand on the wire) with raw
/// bytes; without any it leaves the connection open and says nothing.
pub(super) async fn backend(answer: impl Fn(&str) -> Reply + 'static) -> (SocketAddr, Seen) {
    let (address, seen, _) = counting_backend(answer).await;
    (address, seen)
}

/// The same with the number of connections it has got.
pub(super) async fn counting_backend(
    answer: impl Fn(&str) -> Reply + 'static,
) -> (SocketAddr, Seen, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let connections = Rc::new(Cell::new(0));
    let (answer, log, count) = (Rc::new(answer), Rc::clone(&seen), Rc::clone(&connections));
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.set(count.get() + 1);
            tokio::task::spawn_local(converse(stream, Rc::clone(&answer), Rc::clone(&log)));
        }
    });
    (address, seen, connections)
}

/// What a backend does.
pub(super) enum Reply {
    /// Answers and waits for the next request.
    Keep(String),
    /// Answers and closes.
    Close(String),
    /// Says nothing.
    Hang,
}

/// An answer with a body.
pub(super) fn ok(body: &str) -> Reply {
    Reply::Keep(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

async fn converse(mut stream: TcpStream, answer: Rc<impl Fn(&str) -> Reply>, log: Seen) {
    let mut bytes = Vec::new();
    loop {
        let Some(request) = read_message(&mut stream, &mut bytes).await else { return };
        log.borrow_mut().push(request.clone());
        match answer(&request) {
            Reply::Keep(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Close(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            Reply::Hang => std::future::pending().await,
        }
    }
}

/// One whole message as it stands on the wire; `None` at the end of the stream.
pub(super) async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some(length) = message_length(&text) {
            bytes.drain(..length);
            return Some(text[..length].to_owned());
        }
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn message_length(text: &str) -> Option<usize> {
    let head = text.find("\r\n\r\n")? + 4;
    let lower = text[..head].to_ascii_lowercase();
    let field = |name: &str| {
        lower.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::trim))
    };
    if field("transfer-encoding") == Some("chunked") {
        let end = text[head..].find("0\r\n")? + head;
        return text[end..].find("\r\n\r\n").map(|length| end + length + 4);
    }
    let length = field("content-length").map_or(0, |length| length.parse().unwrap());
    (text.len() >= head + length).then_some(head + length)
}

/// Sends raw requests and reads everything until the server closes.
pub(super) async fn talk(mut stream: DuplexStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends one raw request and reads one answer.
pub(super) async fn ask(stream: &mut DuplexStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    within(read_message(stream, &mut Vec::new())).await.expect("an answer")
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// Runs a test as a worker runs its connections.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A request without peculiarities.
pub(super) const GET: &str = "GET /x?q=1 HTTP/1.1\r\nHost: A.example\r\n\r\n";

pub(super) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}

pub(super) fn reason(answer: &str) -> Option<&str> {
    answer.lines().find_map(|line| line.strip_prefix("yett-reason: "))
}
