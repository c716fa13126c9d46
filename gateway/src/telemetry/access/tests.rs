use std::rc::Rc;

use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::model::{Endpoint, Reason, backend::EndpointHost};
use crate::telemetry::connections::{KernelRecord, OpenConnection, Origin, TcpInfo, Wire};
use crate::telemetry::{ConnectionEnd, HttpVersion, Telemetry};

const PEER: &str = "192.0.2.7:50000";
const LOCAL: &str = "198.51.100.1:443";

fn identity() -> Arc<Identity> {
    Arc::new(Identity {
        name: "spiffe://contoso.test/client".into(),
        subject: "CN=contoso-client,O=Contoso".into(),
        issuer: "CN=contoso-root".into(),
        serial: "7f01".into(),
        fingerprint: "ab".repeat(32).into(),
        not_after: 0,
        certificate: Vec::new().into(),
    })
}

fn facts() -> TlsFacts {
    TlsFacts {
        version: TlsVersion::Tls13,
        cipher: Some("TLS13_AES_256_GCM_SHA384"),
        group: Some("X25519MLKEM768"),
        resumed: false,
        sni: Some("gw.test".into()),
        handshake: Duration::ZERO,
    }
}

fn open(telemetry: &Arc<Telemetry>) -> Rc<OpenConnection> {
    let (peer, local) = (PEER.parse().unwrap(), LOCAL.parse().unwrap());
    let rtt = Some(Duration::from_micros(1500));
    let origin = Origin { peer, local, worker: 1, is_local: true, rtt };
    OpenConnection::begin(telemetry, &telemetry.metrics.listener("test-infra/gateway-01:443"), origin)
}

fn handshake(telemetry: &Arc<Telemetry>) -> HandshakeOutcome {
    let listener = telemetry.metrics.listener("test-infra/gateway-01/mtls-listener");
    HandshakeOutcome::begin(telemetry, &listener, &open(telemetry))
}

fn request(telemetry: &Arc<Telemetry>, connection: &Arc<Connection>, uri: &str) -> Outcome {
    let listener = telemetry.metrics.listener("test-infra/gateway-01/mtls-listener");
    let (parts, ()) = Request::get(uri).header("host", "gw.test").body(()).unwrap().into_parts();
    Outcome::begin(telemetry, connection, &listener, &parts)
}

/// Replaces what differs from run to run.
fn masked(mut line: Value) -> Value {
    line["ts"] = "TS".into();
    line["connection"]["id"] = "ID".into();
    if let Some(times) = line["t"].as_object_mut() {
        times.values_mut().for_each(|time| *time = 0.into());
    }
    line
}

#[test]
fn a_request_in_full() {
    let (telemetry, lines) = Telemetry::in_memory();
    let client = Client { identity: identity(), verified: true };
    let connection = Arc::new(handshake(&telemetry).complete(facts(), Some(client)));
    let mut outcome = request(&telemetry, &connection, "/a?token=secret");
    outcome.routed(
        &telemetry.metrics.route("test-infra/gateway-01/mtls-listener", "test-infra/https-route"),
        0,
        None,
    );
    outcome.request_id("r-1".parse().unwrap());
    let endpoint = Endpoint { host: EndpointHost::Address("10.0.0.1".parse().unwrap()), port: 8080 };
    outcome.attempt(&telemetry.metrics.backend("test-infra/echo:80"), &endpoint);
    outcome.upstream_answered(Duration::from_millis(2));
    outcome.received().fetch_add(3, Ordering::Relaxed);
    outcome.answered(StatusCode::OK);
    outcome.sent(5);
    outcome.complete();
    drop(outcome);
    let expected = json!({
        "v": 1, "ts": "TS", "kind": "request", "listener": "test-infra/gateway-01/mtls-listener",
        "connection": {"id": "ID"},
        "client": {
            "addr": PEER, "identity": "spiffe://contoso.test/client", "subject": "CN=contoso-client,O=Contoso",
            "issuer": "CN=contoso-root", "serial": "7f01", "fingerprint": "ab".repeat(32), "verified": true,
        },
        "tls": {"version": "1.3", "cipher": "TLS13_AES_256_GCM_SHA384", "group": "X25519MLKEM768", "resumed": false},
        "sni": "gw.test",
        "http": {"method": "GET", "host": "gw.test", "path": "/a?token=*", "version": "1.1"}, "status": 200,
        "route": "test-infra/https-route", "rule": "0",
        "backend": "test-infra/echo:80", "endpoint": "10.0.0.1:8080", "attempts": 1,
        "bytes_in": 3, "bytes_out": 5, "t": {"total_ms": 0, "handshake_ms": 0, "upstream_ms": 0}, "request_id": "r-1",
    });
    let all = lines.all();
    assert_eq!(all.len(), 1);
    let ts = all[0]["ts"].as_str().unwrap();
    assert!(ts.ends_with('Z') && ts.len() == "2026-01-01T00:00:00.000Z".len(), "{ts}");
    assert_eq!(masked(all[0].clone()), expected);
}

#[test]
fn a_refused_request_counts_and_names_its_reason() {
    let (telemetry, lines) = Telemetry::in_memory();
    let client = Client { identity: identity(), verified: true };
    let connection = Arc::new(handshake(&telemetry).complete(facts(), Some(client)));
    for _ in 0..2 {
        let mut outcome = request(&telemetry, &connection, "/");
        outcome.refuse(Reason::CertificateRevoked);
        outcome.answered(StatusCode::BAD_REQUEST);
        outcome.refuse(Reason::ClientClosed);
        outcome.complete();
    }
    let all = lines.all();
    assert_eq!(all[0]["connection"]["id"], all[1]["connection"]["id"]);
    assert_eq!((&all[1]["reason"], &all[1]["status"]), (&json!("certificate_revoked"), &json!(400)));
    let text = telemetry.metrics.render();
    let listener = "listener=\"test-infra/gateway-01/mtls-listener\"";
    for series in [
        format!("yett_http_refusals_total{{{listener},reason=\"certificate_revoked\"}} 2"),
        format!("yett_http_refusals_total{{{listener},reason=\"client_closed\"}} 0"),
        format!("yett_http_requests_total{{code=\"400\",{listener},method=\"GET\",route=\"_none\"}} 2"),
        format!("yett_http_requests_active{{{listener}}} 0"),
        format!("yett_tls_handshakes_total{{{listener},result=\"ok\",resumed=\"false\",version=\"1.3\"}} 1"),
    ] {
        assert!(text.lines().any(|line| line == series), "{series} in\n{text}");
    }
}

#[test]
fn a_client_that_goes_away_is_told_apart() {
    let (telemetry, lines) = Telemetry::in_memory();
    let id = telemetry.access.connection_id();
    let connection = Arc::new(Connection::cleartext(id, PEER.parse().unwrap(), LOCAL.parse().unwrap()));
    drop(request(&telemetry, &connection, "/"));
    let mut outcome = request(&telemetry, &connection, "/");
    outcome.answered(StatusCode::OK);
    drop(outcome);
    let all = lines.all();
    assert_eq!((&all[0]["status"], &all[0]["reason"]), (&json!(0), &json!("client_closed")));
    assert_eq!((&all[1]["status"], &all[1]["reason"]), (&json!(200), &json!("client_closed")));
    assert!(all[0].get("tls").is_none() && all[0]["client"] == json!({"addr": PEER}));
}

#[test]
fn a_refused_handshake_names_the_client_without_believing_it() {
    let (telemetry, lines) = Telemetry::in_memory();
    let mut outcome = handshake(&telemetry);
    outcome.hello(Some("gw.test\n"));
    outcome.version(TlsVersion::Tls13);
    outcome.client(identity());
    outcome.refuse(Reason::UnknownCa, Some(rustls::AlertDescription::UnknownCA));
    let expected = json!({
        "v": 1, "ts": "TS", "kind": "handshake", "listener": "test-infra/gateway-01/mtls-listener",
        "connection": {"id": "ID"},
        "client": {
            "addr": PEER, "subject": "CN=contoso-client,O=Contoso", "issuer": "CN=contoso-root",
            "serial": "7f01", "fingerprint": "ab".repeat(32), "verified": false,
        },
        "tls": {"version": "1.3", "alert": "unknown_ca"},
        "sni": "gw.test\n", "reason": "unknown_ca", "t": {"handshake_ms": 0},
    });
    assert_eq!(lines.all().into_iter().map(masked).collect::<Vec<_>>(), [expected]);
}

#[test]
fn handshakes_that_break_off() {
    let (telemetry, lines) = Telemetry::in_memory();
    drop(handshake(&telemetry));
    assert_eq!(lines.all().len(), 0, "a port probe is counted, not logged");
    let mut outcome = handshake(&telemetry);
    outcome.hello(None);
    drop(outcome);
    assert_eq!(lines.all()[0]["reason"], "closed");
    let counted = "yett_tls_handshakes_total{listener=\"test-infra/gateway-01/mtls-listener\",result=\"closed\",\
                   resumed=\"false\",version=\"unknown\"} 2";
    assert!(telemetry.metrics.render().contains(counted));
}

#[test]
fn a_log_that_is_off_still_counts() {
    let metrics = Metrics::new();
    let access = AccessLog::start(&AccessTarget::Off, 0, &metrics).unwrap();
    let telemetry = Telemetry::new(metrics, access);
    let id = telemetry.access.connection_id();
    let connection = Arc::new(Connection::cleartext(id, PEER.parse().unwrap(), LOCAL.parse().unwrap()));
    drop(request(&telemetry, &connection, "/"));
    assert!(telemetry.metrics.render().contains("reason=\"client_closed\"} 1"));
    telemetry.access.close(Instant::now());
}

fn figures() -> TcpInfo {
    TcpInfo {
        state: 8,
        rtt: Duration::from_micros(900),
        min_rtt: Some(Duration::from_micros(800)),
        bytes_received: 1001,
        bytes_sent: 2070,
        bytes_retransmitted: 70,
        segments_in: 9,
        segments_out: 11,
        retransmits: 1,
        out_of_order: 2,
        delivered_ce: 3,
    }
}

#[test]
fn a_connection_in_full() {
    let (telemetry, lines) = Telemetry::in_memory();
    let open = open(&telemetry);
    let listener = telemetry.metrics.listener("test-infra/gateway-01/mtls-listener");
    let client = Client { identity: identity(), verified: true };
    let handshake = HandshakeOutcome::begin(&telemetry, &listener, &open);
    open.established(&Arc::new(handshake.complete(facts(), Some(client))), &listener);
    open.handshake_cpu(Duration::from_micros(600));
    open.speaks(HttpVersion::Http2);
    open.request();
    open.request();
    open.refuse(Reason::CertificateRevoked);
    open.end(ConnectionEnd::Closed);
    open.end(ConnectionEnd::ClientClosed);
    let kernel = KernelRecord {
        syn_tries: Some(2),
        syn_to_established: Some(Duration::from_millis(3)),
        wire_in: Some(Wire { packets: 12, bytes: 1700 }),
        zero_windows: Some(1),
        ..KernelRecord::default()
    };
    open.close(Some(figures()), kernel);
    let expected = json!({
        "v": 1, "ts": "TS", "kind": "connection", "listener": "test-infra/gateway-01/mtls-listener",
        "connection": {
            "id": "ID", "worker": 1, "local": true, "protocol": "h2", "requests": 2, "end": "closed",
        },
        "client": {
            "addr": PEER, "identity": "spiffe://contoso.test/client", "subject": "CN=contoso-client,O=Contoso",
            "issuer": "CN=contoso-root", "serial": "7f01", "fingerprint": "ab".repeat(32), "verified": true,
        },
        "tls": {"version": "1.3", "cipher": "TLS13_AES_256_GCM_SHA384", "group": "X25519MLKEM768", "resumed": false},
        "sni": "gw.test", "verdict": "refused", "reason": "certificate_revoked",
        "bytes_in": 1000, "bytes_out": 2000,
        "tcp": {
            "min_rtt_ms": 0.8, "rtt_ms": 0.9, "segments_in": 9, "segments_out": 11, "retransmits": 1,
            "bytes_retransmitted": 70, "out_of_order": 2, "ce": 3,
        },
        "kernel": {"syn_tries": 2, "wire_packets_in": 12, "wire_bytes_in": 1700, "zero_windows": 1},
        "t": {
            "total_ms": 0, "handshake_ms": 0, "handshake_cpu_ms": 0, "handshake_rtt_ms": 0,
            "syn_to_established_ms": 0,
        },
    });
    assert_eq!(lines.all().into_iter().map(masked).collect::<Vec<_>>(), [expected]);
    let text = telemetry.metrics.render();
    let frontend = "listener=\"test-infra/gateway-01:443\"";
    for series in [
        format!("yett_connection_syn_to_established_seconds_count{{{frontend},source=\"ebpf\"}} 1"),
        format!("yett_connection_wire_bytes_sum{{direction=\"in\",{frontend},source=\"ebpf\"}} 1700"),
        format!("yett_connection_wire_bytes_sum{{direction=\"out\",{frontend},source=\"tcp_info\"}} 2070"),
        format!("yett_connection_retransmits_sum{{{frontend},source=\"tcp_info\"}} 1"),
    ] {
        assert!(text.lines().any(|line| line == series), "{series} in\n{text}");
    }
}

#[test]
fn connections_that_were_not_served() {
    let (telemetry, lines) = Telemetry::in_memory();
    let limited = open(&telemetry);
    limited.end(ConnectionEnd::Limited);
    limited.close(Some(figures()), KernelRecord::default());
    let gone = open(&telemetry);
    let listener = telemetry.metrics.listener("test-infra/gateway-01:443");
    drop(HandshakeOutcome::begin(&telemetry, &listener, &gone));
    gone.close(None, KernelRecord::default());
    let failed = open(&telemetry);
    failed.proxied("203.0.113.9:4711".parse().unwrap());
    let mut outcome = HandshakeOutcome::begin(&telemetry, &listener, &failed);
    outcome.hello(Some("gw.test"));
    outcome.client(identity());
    outcome.refuse(Reason::UnknownCa, Some(rustls::AlertDescription::UnknownCA));
    failed.close(None, KernelRecord::default());
    let records: Vec<Value> = lines.all().into_iter().filter(|line| line["kind"] == "connection").collect();
    let of = |record: &Value| {
        [&record["connection"]["end"], &record["verdict"], &record["reason"], &record["client"]["addr"]]
            .map(|member| member.as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(
        records.iter().map(of).collect::<Vec<_>>(),
        [
            ["limited", "limited", "-", PEER],
            ["client_closed", "allowed", "closed", PEER],
            ["handshake_refused", "refused", "unknown_ca", "203.0.113.9:4711"],
        ]
    );
    assert_eq!((&records[2]["sni"], &records[2]["proxy"]["addr"]), (&json!("gw.test"), &json!(PEER)));
    assert_eq!(records[2]["client"]["verified"], false);
    let text = telemetry.metrics.render();
    assert!(text.contains("yett_connection_syn_to_established_seconds_count"), "{text}");
    assert!(!text.contains("source=\"ebpf\""), "{text}");
    assert!(!text.contains("yett_connection_retransmits_count"), "one that was limited has no figures");
}

#[test]
fn records_of_connections_may_be_off() {
    let metrics = Metrics::new();
    let (access, lines) = AccessLog::in_memory(&metrics);
    let telemetry = Telemetry::new(metrics, access.with_connections(false));
    let open = open(&telemetry);
    open.end(ConnectionEnd::ClientClosed);
    open.close(Some(figures()), KernelRecord::default());
    assert!(lines.all().is_empty());
    assert!(telemetry.metrics.render().contains("yett_connection_retransmits_count"), "counted all the same");
}
