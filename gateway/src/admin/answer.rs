//! From an admin request to its answer.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::server::{ADMIN_CONNECTION_LIFE, Surface};
use super::{AdminState, Command, NotUpgraded, Readiness, Upgraded, dump, page};
use crate::model::deny::{DenyChange, network};
use crate::telemetry::ReloadResult;
use crate::telemetry::listing::{Listing, Query};

/// How long a command may take until its answer is given up (the command itself goes on).
const ADMIN_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// The same of an upgrade, which has a limit of its own: as long as the connection may live.
const UPGRADE_TIMEOUT: Duration = ADMIN_CONNECTION_LIFE;

/// Connections in a listing that says nothing of its length.
const CONNECTIONS_LISTED: usize = 1000;

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers one request.
pub(super) async fn answer<B>(state: &AdminState, surface: Surface, request: &Request<B>) -> Answer {
    let path = request.uri().path();
    match *request.method() {
        Method::GET | Method::HEAD if surface == Surface::Loopback && !is_local(request.headers()) => {
            // A page of another site may have its name resolve to 127.0.0.1 (DNS rebinding) and would read the answer.
            text(
                StatusCode::MISDIRECTED_REQUEST,
                "this listener answers to loopback addresses and localhost\n",
            )
        }
        Method::GET | Method::HEAD if path == "/connections" => {
            connections(state, request.uri().query().unwrap_or_default()).await
        }
        Method::GET | Method::HEAD => read(state, path, request.uri().query()),
        Method::POST if surface == Surface::Socket => match path.strip_prefix("/deny/") {
            Some(action) => deny(state, action, request.uri().query().unwrap_or_default()).await,
            None => command(state, path).await,
        },
        _ => {
            let mut answer =
                text(StatusCode::METHOD_NOT_ALLOWED, "commands are taken on the admin socket alone\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
    }
}

fn read(state: &AdminState, path: &str, query: Option<&str>) -> Answer {
    match path {
        "/" => page(state),
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" | "/healthz" => readiness(&state.readiness.load(), query == Some("verbose")),
        "/metrics" => typed(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            state.telemetry.metrics.render(),
        ),
        "/report" => json(&**state.report.load()),
        "/status" => json(&**state.status.load()),
        "/config_dump" => json(&dump::plan(&state.plan.load())),
        "/certs" => json(&**state.certificates.load()),
        "/crls" => json(&**state.crls.load()),
        "/deny" => json(&**state.deny.load()),
        _ => text(StatusCode::NOT_FOUND, "no such page; / lists them\n"),
    }
}

fn readiness(readiness: &Readiness, verbose: bool) -> Answer {
    let ready = readiness.is_ready();
    let mut words = String::new();
    if verbose {
        words += &format!("[+] process: {}, version {}\n", std::process::id(), env!("CARGO_PKG_VERSION"));
    }
    for (name, holds, detail) in readiness.checks().iter().filter(|(_, holds, _)| verbose || !holds) {
        words += &format!("[{}] {name}: {detail}\n", if *holds { '+' } else { '-' });
    }
    words += if ready { "ready\n" } else { "not ready\n" };
    text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, words)
}

/// Open connections: `limit=COUNT`, `client=CIDR`.
async fn connections(state: &AdminState, query: &str) -> Answer {
    let mut wanted = Query { rows_max: CONNECTIONS_LISTED, client: None };
    for (name, value) in pairs(query) {
        let fault = match name {
            "limit" => value
                .parse()
                .map(|count| wanted.rows_max = count)
                .err()
                .map(|_| "limit is no number".to_owned()),
            "client" => network(value).map(|client| wanted.client = Some(client)).err(),
            _ => Some(format!("`{name}` is neither limit nor client")),
        };
        if let Some(fault) = fault {
            return text(StatusCode::BAD_REQUEST, fault + "\n");
        }
    }
    let directory = state.connections.load_full();
    let Listing { rows, open, is_cut, unanswered } = directory.list(&wanted).await;
    // Each connection is an object already, with the names of its record.
    let mut body =
        format!("{{\"open\":{open},\"cut\":{is_cut},\"unanswered\":{unanswered:?},\"connections\":[\n")
            .into_bytes();
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.extend_from_slice(b",\n");
        }
        body.extend_from_slice(&row.json);
    }
    body.extend_from_slice(b"\n]}\n");
    typed(StatusCode::OK, "application/json", body)
}

/// Changes the deny list: `network=CIDR`, as often as needed, and `ttl_s=SECONDS` for `add`.
async fn deny(state: &AdminState, action: &str, query: &str) -> Answer {
    let (mut networks, mut ttl_s) = (Vec::new(), None);
    for (name, value) in pairs(query) {
        let fault = match name {
            "network" => network(value).map(|network| networks.push(network)).err(),
            "ttl_s" if action == "add" => {
                let fault = || format!("`{value}` is no number of seconds");
                value
                    .parse()
                    .ok()
                    .filter(|seconds| *seconds > 0)
                    .map(|seconds| ttl_s = Some(seconds))
                    .ok_or_else(fault)
                    .err()
            }
            _ => Some(format!("`{name}` says nothing here")),
        };
        if let Some(fault) = fault {
            return text(StatusCode::BAD_REQUEST, fault + "\n");
        }
    }
    if networks.is_empty() {
        return text(StatusCode::BAD_REQUEST, "a network is needed\n");
    }
    let change = match action {
        "add" => DenyChange::Add { networks, ttl_s },
        "remove" => DenyChange::Remove(networks),
        _ => return text(StatusCode::NOT_FOUND, "no such command; there are /deny/add and /deny/remove\n"),
    };
    let Some(outcome) = ask(state, |answer| Command::Deny(change, answer)).await else { return unanswered() };
    let mut answer = json(&outcome);
    if !outcome.left_out.is_empty() {
        *answer.status_mut() = StatusCode::INSUFFICIENT_STORAGE;
    }
    answer
}

/// The members of a query as they stand: neither networks nor numbers need an escape.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

async fn command(state: &AdminState, path: &str) -> Answer {
    match path {
        "/reload" => {
            let Some(reloaded) = ask(state, Command::Reload).await else { return unanswered() };
            let status = match reloaded.result {
                ReloadResult::Ok | ReloadResult::Partial => StatusCode::OK,
                ReloadResult::Rejected => StatusCode::CONFLICT,
            };
            let (result, generation, errors) =
                (reloaded.result.as_str(), reloaded.generation, reloaded.errors);
            let members = serde_json::json!({"result": result, "generation": generation, "errors": errors});
            let mut answer = json(&members);
            *answer.status_mut() = status;
            answer
        }
        "/drain" => match ask(state, Command::Drain).await {
            Some(()) => text(StatusCode::ACCEPTED, "draining\n"),
            None => unanswered(),
        },
        "/upgrade" => match ask_within(UPGRADE_TIMEOUT, state, Command::Upgrade).await {
            Some(Ok(Upgraded { process, generation })) => {
                json(&serde_json::json!({"result": "ok", "process": process, "generation": generation}))
            }
            Some(Err(NotUpgraded { result, words })) => {
                let mut answer = json(&serde_json::json!({"result": result.as_str(), "detail": words}));
                *answer.status_mut() = StatusCode::CONFLICT;
                answer
            }
            None => unanswered(),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "no such command; there are /reload, /drain, /upgrade, /deny/add and /deny/remove\n",
        ),
    }
}

/// Hands a command to the control loop and waits for its answer.
async fn ask<T>(state: &AdminState, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
    ask_within(ADMIN_COMMAND_TIMEOUT, state, command).await
}

async fn ask_within<T>(
    limit: Duration,
    state: &AdminState,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    timeout(limit, async {
        state.commands.send(command(answer)).await.ok()?;
        answered.await.ok()
    })
    .await
    .ok()?
}

fn unanswered() -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, "the control loop did not answer\n")
}

fn page(state: &AdminState) -> Answer {
    let mut answer = typed(StatusCode::OK, "text/html; charset=utf-8", page::render(state));
    let nothing_else =
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'");
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, nothing_else);
    answer
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            typed(StatusCode::OK, "application/json", body)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the answer: {error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Whether the request names this machine, or nothing.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<http::uri::Authority>().ok())
    else {
        return false;
    };
    let host = authority.host().to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok() || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;
    use crate::admin::Reloaded;
    use crate::telemetry::Telemetry;

    async fn ask_path(state: &AdminState, surface: Surface, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let (head, body) = answer(state, surface, &request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_page_is_there() {
        let (state, _commands) = AdminState::new(Telemetry::in_memory().0);
        for (path, status, contains) in [
            ("/", 200, "Yett"),
            ("/livez", 200, "ok"),
            ("/readyz", 503, "[-] snapshot: no usable configuration yet"),
            ("/healthz", 503, "not ready"),
            ("/metrics", 200, "yett_build_info"),
            ("/report", 200, "findings"),
            ("/status", 200, "List"),
            ("/config_dump", 200, "frontends"),
            ("/certs", 200, "[]"),
            ("/crls", 200, "[]"),
            ("/no-such-page", 404, ""),
            ("/../livez", 404, ""),
        ] {
            let (got, body) = ask_path(&state, Surface::Loopback, "GET", path).await;
            assert_eq!(got, status, "{path}: {body}");
            assert!(body.contains(contains), "{path}: {body}");
        }
    }

    #[tokio::test]
    async fn readiness_says_why_when_asked() {
        let (state, _commands) = AdminState::new(Telemetry::in_memory().0);
        state.readiness.store(Readiness { snapshot: Some(7), bound: 1, ..Readiness::default() }.into());
        assert_eq!(ask_path(&state, Surface::Open, "GET", "/readyz").await, (200, "ready\n".to_owned()));
        let (status, verbose) = ask_path(&state, Surface::Open, "GET", "/readyz?verbose").await;
        assert_eq!(status, 200);
        assert!(verbose.starts_with(&format!("[+] process: {}, ", std::process::id())), "{verbose}");
        assert!(verbose.contains("[+] snapshot: generation 7\n[+] listeners: 1 bound"), "{verbose}");
    }

    #[tokio::test]
    async fn commands_are_taken_on_the_socket_alone() {
        let (state, mut commands) = AdminState::new(Telemetry::in_memory().0);
        for surface in [Surface::Loopback, Surface::Open] {
            for (method, path) in [("POST", "/reload"), ("POST", "/drain"), ("PUT", "/"), ("DELETE", "/crls")]
            {
                assert_eq!(ask_path(&state, surface, method, path).await.0, 405, "{method} {path}");
            }
        }
        assert!(commands.try_recv().is_err());
        let served = async {
            let Some(Command::Reload(answer)) = commands.recv().await else { panic!("a reload") };
            answer.send(Reloaded { result: ReloadResult::Partial, generation: 4, errors: 1 }).unwrap();
            let Some(Command::Drain(answer)) = commands.recv().await else { panic!("a drain") };
            answer.send(()).unwrap();
            let Some(Command::Reload(answer)) = commands.recv().await else { panic!("a reload") };
            drop(answer);
        };
        let asked = async {
            let (status, body) = ask_path(&state, Surface::Socket, "POST", "/reload").await;
            let members: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &members["result"], &members["generation"]),
                (200, &"partial".into(), &4.into())
            );
            assert_eq!(ask_path(&state, Surface::Socket, "POST", "/drain").await.0, 202);
            assert_eq!(
                ask_path(&state, Surface::Socket, "POST", "/reload").await.0,
                503,
                "dropped unanswered"
            );
            assert_eq!(ask_path(&state, Surface::Socket, "POST", "/other").await.0, 404);
        };
        tokio::join!(served, asked);
    }

    #[tokio::test]
    async fn names_of_other_sites_are_not_answered_on_loopback() {
        let (state, _commands) = AdminState::new(Telemetry::in_memory().0);
        for (host, surface, status) in [
            ("127.0.0.1:9911", Surface::Loopback, 200),
            ("[::1]:9911", Surface::Loopback, 200),
            ("localhost:9911", Surface::Loopback, 200),
            ("LOCALHOST", Surface::Loopback, 200),
            ("evil.example", Surface::Loopback, 421),
            ("localhost.evil.example", Surface::Loopback, 421),
            ("yett.monitoring.svc:9911", Surface::Open, 200),
            ("admin", Surface::Socket, 200),
        ] {
            let request = Request::builder().uri("/livez").header(HOST, host).body(()).unwrap();
            assert_eq!(answer(&state, surface, &request).await.status().as_u16(), status, "{host}");
        }
    }
}
