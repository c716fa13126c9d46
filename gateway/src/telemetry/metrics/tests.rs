use std::time::Duration;

use gateway_common::value::Counters;

use super::*;
use crate::model::{Finding, Reason, Report, Severity};
use crate::telemetry::certificates::Certificate;
use crate::telemetry::connections::{KernelRecord, TcpInfo};
use crate::telemetry::labels::*;

/// Uses every metric once.
fn exercised() -> Arc<Metrics> {
    let metrics = Metrics::new();
    let listener = metrics.listener("ns/gw/l");
    let route = metrics.route("ns/gw/l", "ns/r");
    let backend = metrics.backend("ns/echo:80");
    let crl = metrics.crl("Secret ns/ca ca.crl");
    let worker = metrics.worker(0);
    drop(listener.accepted());
    let span = Some(Duration::from_millis(1));
    let kernel = KernelRecord {
        established_to_accept: span,
        syn_to_hello: span,
        hello_to_read: span,
        ..KernelRecord::default()
    };
    listener.connection_closed(span, Some(&TcpInfo::default()), &kernel);
    listener.handshake_completed(TlsVersion::Tls12, true, Duration::from_millis(1));
    listener.handshake_failed(Reason::UnknownCa, TlsVersion::Tls13);
    for code in [0, 200, 418, 999] {
        route.request(Method::Get, code, Duration::from_millis(1), 1, 1);
        backend.exchange(code, Duration::from_millis(1));
    }
    drop(backend.connected());
    crl.loaded(CrlResult::Ok);
    crl.load_took(Duration::from_millis(1));
    worker.connection(true);
    metrics.frontend("ns/gw:443").counted(&Counters::default(), &Counters { syns: 1, ..Counters::default() });
    metrics.datapath.stages([["load", "ok"]]);
    metrics.datapath.attached([["ingress_tc", "eth0", "tcx"]]);
    metrics.revocation.checked(CheckResult::Good, CheckPhase::Live);
    metrics.upgraded(UpgradeResult::Failed);
    metrics.config.reloaded(ReloadResult::Ok, 1, 1_700_000_000);
    metrics.config.findings(&Report { findings: vec![finding(0, Severity::Error)], objects: Vec::new() });
    metrics.config.certificates(&[certificate(5), certificate(3)]);
    metrics
}

fn finding(line: u32, severity: Severity) -> Finding {
    Finding {
        code: "YT0104",
        severity,
        file: Some("gateway.yaml".into()),
        line,
        column: 1,
        object: "Gateway ns/gw".into(),
        field: "spec.listeners[0]".into(),
        message: String::new(),
        help: None,
    }
}

fn certificate(not_after: i64) -> Certificate {
    Certificate {
        name: "Secret ns/tls CN=a".into(),
        role: CertificateRole::Server,
        subject: "CN=a".into(),
        issuer: "CN=a".into(),
        serial: "01".into(),
        fingerprint: "ab".repeat(32),
        not_after,
    }
}

/// Family name, type and help of an exposition.
fn families(text: &str) -> Vec<(String, String, String)> {
    let after = |prefix: &str, line: &str| line.strip_prefix(prefix).map(str::to_owned);
    let helps = text.lines().filter_map(|line| after("# HELP ", line));
    let types = text.lines().filter_map(|line| after("# TYPE ", line));
    helps
        .zip(types)
        .map(|(help, kind)| {
            let ((name, help), (same, kind)) = (help.split_once(' ').unwrap(), kind.split_once(' ').unwrap());
            assert_eq!(name, same);
            (name.to_owned(), kind.to_owned(), help.to_owned())
        })
        .collect()
}

#[test]
fn every_name_is_there_and_follows_the_conventions() {
    let text = exercised().render();
    let families = families(&text);
    let own: Vec<_> =
        families.iter().map(|(name, ..)| &**name).filter(|name| name.starts_with("yett_")).collect();
    assert_eq!(
        own,
        [
            "yett_access_log_dropped_total",
            "yett_bpf_allowed_total",
            "yett_bpf_chosen_total",
            "yett_bpf_connections_total",
            "yett_bpf_connections_unaccepted_total",
            "yett_bpf_connections_unmatched_total",
            "yett_bpf_drops_total",
            "yett_bpf_events_lost_total",
            "yett_bpf_fragments_total",
            "yett_bpf_migrated_total",
            "yett_bpf_observed_total",
            "yett_bpf_packets_total",
            "yett_bpf_programs_attached",
            "yett_bpf_stage",
            "yett_bpf_syn_retries_total",
            "yett_bpf_syn_slots_overwritten_total",
            "yett_bpf_syns_total",
            "yett_bpf_unreadable_total",
            "yett_bpf_wire_bytes_total",
            "yett_bpf_wire_packets_total",
            "yett_build_info",
            "yett_certificate_not_after_timestamp_seconds",
            "yett_config_findings",
            "yett_config_generation",
            "yett_config_last_reload_success_timestamp_seconds",
            "yett_config_last_reload_successful",
            "yett_config_reloads_total",
            "yett_connection_established_to_accept_seconds",
            "yett_connection_hello_to_read_seconds",
            "yett_connection_retransmits",
            "yett_connection_syn_to_established_seconds",
            "yett_connection_syn_to_hello_seconds",
            "yett_connection_wire_bytes",
            "yett_connections_active",
            "yett_connections_total",
            "yett_crl_entries",
            "yett_crl_last_update_timestamp_seconds",
            "yett_crl_load_duration_seconds",
            "yett_crl_loads_total",
            "yett_crl_next_update_timestamp_seconds",
            "yett_crl_size_bytes",
            "yett_deny_connections_total",
            "yett_deny_entries",
            "yett_http_refusals_total",
            "yett_http_request_duration_seconds",
            "yett_http_request_size_bytes",
            "yett_http_requests_active",
            "yett_http_requests_total",
            "yett_http_response_size_bytes",
            "yett_limit_hits_total",
            "yett_memory_pressure",
            "yett_panics_total",
            "yett_revocation_checks_total",
            "yett_revocation_connections_closed_total",
            "yett_tls_handshake_duration_seconds",
            "yett_tls_handshakes_total",
            "yett_tls_v1_client_certificates_total",
            "yett_upgrades_total",
            "yett_upstream_connect_failures_total",
            "yett_upstream_connections_active",
            "yett_upstream_endpoints",
            "yett_upstream_lookups_total",
            "yett_upstream_request_duration_seconds",
            "yett_upstream_requests_total",
            "yett_upstream_retries_total",
            "yett_worker_connections_total",
        ]
    );
    assert!(families.iter().any(|(name, ..)| name == "process_resident_memory_bytes"));
    for (name, kind, help) in &families {
        assert!(!help.is_empty(), "{name} has no help");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        for unit in
            ["_ms", "_millis", "_kb", "_minutes", "_hours", "_days", "_percent", "_count", "_sum", "_bucket"]
        {
            assert!(!name.ends_with(unit) && !name.contains(&format!("{unit}_")), "{name}: {unit}");
        }
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{name}"
        );
    }
}

#[test]
fn a_successor_goes_on_counting_upgrades() {
    let former = Metrics::new();
    former.upgraded(UpgradeResult::Timeout);
    former.upgraded(UpgradeResult::Ok);
    let metrics = Metrics::new();
    metrics.upgraded(UpgradeResult::Ok);
    metrics.upgrades_before(&former.upgrades());
    let text = metrics.render();
    for series in ["{result=\"ok\"} 2", "{result=\"timeout\"} 1", "{result=\"failed\"} 0"] {
        assert!(text.contains(&format!("yett_upgrades_total{series}")), "{series} in\n{text}");
    }
}

#[test]
fn values_stand_where_they_belong() {
    let text = exercised().render();
    for series in [
        r#"yett_connections_total{listener="ns/gw/l",result="accepted"} 1"#,
        r#"yett_connections_active{listener="ns/gw/l"} 0"#,
        r#"yett_tls_handshakes_total{listener="ns/gw/l",result="ok",resumed="true",version="1.2"} 1"#,
        r#"yett_tls_handshakes_total{listener="ns/gw/l",result="unknown_ca",resumed="false",version="1.3"} 1"#,
        r#"yett_http_requests_total{code="0",listener="ns/gw/l",method="GET",route="ns/r"} 1"#,
        r#"yett_http_requests_total{code="200",listener="ns/gw/l",method="GET",route="ns/r"} 1"#,
        r#"yett_http_requests_total{code="418",listener="ns/gw/l",method="GET",route="ns/r"} 1"#,
        r#"yett_http_requests_total{code="_other",listener="ns/gw/l",method="GET",route="ns/r"} 1"#,
        r#"yett_upstream_requests_total{backend="ns/echo:80",code="_other"} 1"#,
        r#"yett_crl_loads_total{crl="Secret ns/ca ca.crl",result="ok"} 1"#,
        r#"yett_worker_connections_total{local="true",worker="0"} 1"#,
        r#"yett_revocation_checks_total{phase="live",result="good"} 1"#,
        r#"yett_certificate_not_after_timestamp_seconds{name="Secret ns/tls CN=a",role="server"} 3"#,
        r#"yett_config_findings{code="YT0104",field="spec.listeners[0]",file="gateway.yaml",line="0",object="Gateway ns/gw",severity="error"} 1"#,
    ] {
        assert!(text.lines().any(|line| line == series), "{series} in\n{text}");
    }
}

#[test]
fn an_unchanged_name_keeps_its_counts_and_a_deleted_one_vanishes() {
    let metrics = Metrics::new();
    let has =
        |text: &str, name: &str| text.contains(&format!("yett_connections_active{{listener=\"{name}\"}}"));
    let (kept, deleted) = (metrics.listener("ns/gw/kept"), metrics.listener("ns/gw/deleted"));
    drop(kept.accepted());
    assert!(Arc::ptr_eq(&kept, &metrics.listener("ns/gw/kept")));
    drop(deleted);
    let last = metrics.render();
    assert!(has(&last, "ns/gw/kept") && has(&last, "ns/gw/deleted"), "the last values are shown once more");
    let text = metrics.render();
    assert!(has(&text, "ns/gw/kept") && !has(&text, "ns/gw/deleted"), "{text}");
    assert!(text.contains(r#"yett_connections_total{listener="ns/gw/kept",result="accepted"} 1"#));
    let again = metrics.listener("ns/gw/deleted");
    drop(again.accepted());
    assert!(metrics.render().contains(r#"{listener="ns/gw/deleted",result="accepted"} 1"#));
}

#[test]
fn a_name_dropped_and_asked_for_between_scrapes_keeps_its_counts() {
    let metrics = Metrics::new();
    metrics.backend("ns/b:80").retried();
    metrics.backend("ns/b:80").retried();
    assert!(metrics.render().contains(r#"yett_upstream_retries_total{backend="ns/b:80"} 2"#));
}

#[test]
fn deleted_names_do_not_pile_up_where_nobody_scrapes() {
    let metrics = Metrics::new();
    let kept: Vec<_> = (0..10).map(|index| metrics.crl(&format!("kept {index}"))).collect();
    for index in 0..2000 {
        metrics.crl(&format!("Secret ns/{index} ca.crl"));
    }
    let text = metrics.render();
    let shown = |name: &str| text.matches(&format!("yett_crl_entries{{crl=\"{name}")).count();
    assert!(shown("Secret") <= SWEEP_AT_MIN, "{}", shown("Secret"));
    assert_eq!(shown("kept"), kept.len());
}

#[test]
fn series_of_configured_crls_stay_though_nobody_else_holds_them() {
    let metrics = Metrics::new();
    let shown = || {
        metrics.render();
        let text = metrics.render();
        ["a", "b"]
            .map(|name| text.contains(&format!("yett_crl_loads_total{{crl=\"{name}\",result=\"parse\"}} 1")))
    };
    metrics.crls(["a", "b"]);
    for name in ["a", "b"] {
        metrics.crl(name).loaded(CrlResult::Parse);
    }
    assert_eq!(shown(), [true, true]);
    metrics.crls(["b"]);
    assert_eq!(shown(), [false, true]);
}

#[test]
fn findings_are_bounded_errors_first_and_replaced() {
    let metrics = Metrics::new();
    let count = |text: &str| text.lines().filter(|line| line.starts_with("yett_config_findings{")).count();
    let warnings = (1..=150).map(|line| finding(line, Severity::Warning));
    let findings = warnings.chain([finding(151, Severity::Error)]).collect();
    assert_eq!(metrics.config.findings(&Report { findings, objects: Vec::new() }), 51);
    let text = metrics.render();
    assert_eq!(count(&text), 100);
    assert!(text.contains(r#"line="151""#));
    assert_eq!(metrics.config.findings(&Report::default()), 0);
    assert_eq!(count(&metrics.render()), 0);
}
