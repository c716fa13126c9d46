//! What an operator sees: metrics, access log, operational log.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use gateway_tests::manifests::route;
use gateway_tests::scene::Stage;
use gateway_tests::{Ca, Curl, Scene, ports, tools, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One of everything: served, refused in the handshake, revoked, without a route, with a failed backend.
fn eventful() -> Scene {
    let stage = Stage::new();
    stage.site.service("empty", &[]);
    let rules = json!([
        {"backendRefs": [{"name": "echo", "port": 80}]},
        {"matches": [{"path": {"value": "/empty"}}], "backendRefs": [{"name": "empty", "port": 80}]},
    ]);
    stage.site.apply(route("all", "gw", &rules));
    let scene = stage.start();
    let mallory = scene.ca.client("mallory");
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    assert_eq!(scene.curl(&scene.alice).http2().get("https://gw.test/empty").status, 503);
    assert_eq!(scene.curl(&mallory).get("https://gw.test/").status, 400);
    assert_eq!(Curl::to(scene.node.https()).get("https://gw.test/").status, 0);
    assert_eq!(scene.curl(&Ca::root("x").client("eve")).get("https://gw.test/").status, 0);
    scene.node.lines(5, |_| true);
    scene
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let Some(promtool) = tools::need("promtool", "promtool_finds_nothing_to_say_about_the_metrics") else {
        return;
    };
    let scene = eventful();
    let (_, text) = scene.node.admin("/metrics");
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The series that a scrape must bring, whatever their labels.
const SERIES: &[&str] = &[
    "yett_connections_total",
    "yett_connections_active",
    "yett_tls_handshakes_total",
    "yett_tls_handshake_duration_seconds_bucket",
    "yett_http_requests_total",
    "yett_http_requests_active",
    "yett_http_request_duration_seconds_bucket",
    "yett_http_refusals_total",
    "yett_upstream_requests_total",
    "yett_upstream_connections_active",
    "yett_upstream_endpoints",
    "yett_crl_entries",
    "yett_crl_last_update_timestamp_seconds",
    "yett_crl_next_update_timestamp_seconds",
    "yett_crl_size_bytes",
    "yett_crl_loads_total",
    "yett_crl_load_duration_seconds_bucket",
    "yett_revocation_checks_total",
    "yett_certificate_not_after_timestamp_seconds",
    "yett_config_reloads_total",
    "yett_config_last_reload_successful",
    "yett_config_last_reload_success_timestamp_seconds",
    "yett_config_generation",
    "yett_access_log_dropped_total",
    "yett_limit_hits_total",
    "yett_build_info",
    "yett_upstream_request_duration_seconds_bucket",
    "yett_http_request_size_bytes_bucket",
    "yett_http_response_size_bytes_bucket",
    "yett_upstream_connect_failures_total",
    "yett_upstream_retries_total",
    "yett_revocation_connections_closed_total",
    "yett_worker_connections_total",
    "process_resident_memory_bytes",
];

struct Prometheus {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Prometheus {
    fn start(target: &str) -> Option<Self> {
        let program = tools::need("prometheus", "a_real_prometheus_scrapes_every_named_series")?;
        let folder = TempDir::with_prefix("yett-prometheus-").unwrap();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: yett, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        fs::write(&config, text).unwrap();
        let address = format!("127.0.0.1:{}", ports::free());
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Some(Self { child: command.spawn().unwrap(), address, _folder: folder })
    }

    fn query(&self, expression: &str) -> Vec<Value> {
        let answer = Curl::to(self.address.parse().unwrap())
            .arg("--get")
            .with("--data-urlencode", &format!("query={expression}"))
            .get(&format!("http://{}/api/v1/query", self.address));
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return Vec::new() };
        body["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

#[test]
fn a_real_prometheus_scrapes_every_named_series() {
    let scene = eventful();
    let Some(prometheus) = Prometheus::start(&scene.node.admin_address().to_string()) else { return };
    wait::soon("up = 1", || {
        prometheus.query("up{job=\"yett\"}").first().is_some_and(|sample| sample["value"][1] == "1")
    });
    let missing: Vec<&str> =
        SERIES.iter().copied().filter(|name| prometheus.query(name).is_empty()).collect();
    assert!(missing.is_empty(), "not scraped: {missing:?}");
}

#[test]
fn the_metrics_count_what_happened() {
    let scene = eventful();
    let metrics = scene.node.metrics();
    for (name, labels, count) in [
        ("yett_http_requests_total", &[("code", "200")][..], 1.0),
        ("yett_http_requests_total", &[("code", "503")], 1.0),
        ("yett_http_requests_total", &[("code", "400")], 1.0),
        ("yett_http_refusals_total", &[("reason", "no_endpoints")], 1.0),
        ("yett_http_refusals_total", &[("reason", "certificate_revoked")], 1.0),
        ("yett_tls_handshakes_total", &[("result", "ok")], 3.0),
        ("yett_tls_handshakes_total", &[("result", "no_certificate")], 1.0),
        ("yett_tls_handshakes_total", &[("result", "unknown_ca")], 1.0),
        ("yett_revocation_checks_total", &[("result", "revoked")], 1.0),
        ("yett_upstream_requests_total", &[], 1.0),
        ("yett_build_info", &[], 1.0),
    ] {
        let sum = metrics.sum(name, labels);
        assert!((sum - count).abs() < f64::EPSILON, "{name}{labels:?} is {sum}, not {count}");
    }
}

#[test]
fn no_label_comes_from_the_wire() {
    let scene = eventful();
    for path in ["/unique-path-on-the-wire", "/?secret=unique-query-on-the-wire"] {
        let curl =
            scene.curl(&scene.alice).with("--request", "UNIQUEMETHOD").header("Host: unique-host.test");
        curl.get(&format!("https://gw.test{path}"));
    }
    let (_, text) = scene.node.admin("/metrics");
    for wire in ["unique-", "UNIQUEMETHOD", "alice", "mallory"] {
        assert!(!text.contains(wire), "a label names {wire}");
    }
    assert!(scene.node.metrics().sum("yett_http_requests_total", &[("method", "_other")]) >= 2.0);
}

#[test]
fn the_access_log_has_one_line_for_each_request_and_each_refused_handshake() {
    let scene = eventful();
    let lines = scene.node.access_log();
    assert_eq!(lines.len(), 5, "{lines:?}");
    for line in &lines {
        assert_eq!(line["v"], 1, "{line}");
        assert!(line["ts"].is_string(), "{line}");
        assert!(line["listener"].as_str().is_some_and(|listener| listener.contains("mtls")), "{line}");
        assert!(line["client"]["addr"].as_str().is_some_and(|addr| addr.starts_with("127.0.0.1")), "{line}");
        assert!(line["connection"]["id"].is_string() || line["connection"]["id"].is_number(), "{line}");
    }
    let served = lines.iter().find(|line| line["status"] == 200).expect("the request that was served");
    assert_eq!(served["http"]["method"], "GET");
    assert_eq!(served["http"]["host"], "gw.test");
    assert_eq!(served["http"]["path"], "/");
    assert_eq!(served["sni"], "gw.test");
    assert!(served["tls"]["version"].as_str().is_some_and(|version| version.contains("1.3")), "{served}");
    assert_eq!(served["tls"]["resumed"], false);
    assert_eq!(served["client"]["serial"].as_str(), Some(&*scene.alice.serial_hex()));
    assert!(served["client"]["issuer"].as_str().is_some_and(|issuer| issuer.contains("clients")), "{served}");
    assert!(served["route"].as_str().is_some_and(|route| route.contains("all")), "{served}");
    assert!(served["backend"].as_str().is_some_and(|backend| backend.contains("echo")), "{served}");
    assert_eq!(served["endpoint"].as_str(), Some(&*scene.backend.address().to_string()));
    assert!(served["bytes_out"].as_u64().is_some_and(|bytes| bytes > 0), "{served}");
    assert!(served["t"]["total_ms"].is_number(), "{served}");
    assert!(served["request_id"].is_string(), "{served}");
    let reasons: Vec<&str> = lines.iter().filter_map(|line| line["reason"].as_str()).collect();
    for reason in ["no_endpoints", "certificate_revoked", "no_certificate", "unknown_ca"] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
}

#[test]
fn query_values_and_forged_text_do_not_enter_the_access_log() {
    let scene = Scene::start();
    let curl = scene.curl(&scene.alice).header("Host: gw.test").header("X-Request-Id: \"},{\"v\":2");
    curl.get("https://gw.test/?token=hunter2&name");
    let lines = scene.node.lines(1, |_| true);
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].to_string().contains("hunter2"), "{}", lines[0]);
}

#[test]
fn the_operational_log_goes_to_standard_error_as_json() {
    let scene = Scene::start();
    let log = scene.node.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for member in ["timestamp", "level", "target", "message"] {
            assert!(line[member].is_string(), "{line}");
        }
    }
    assert!(log.contains(&scene.node.https().port().to_string()), "a mapped port is said: {log}");
}
