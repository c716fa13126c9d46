//! The probes of a container: whether it has started, is ready, lives.

use std::future::pending;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Container, ContainerPort, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::container::Exec;
use super::state::State;

/// What an answer's first line holds at most.
const STATUS_BYTES_MAX: usize = 1024;

/// Probes a container for as long as it runs; returns when it has to be started again.
pub(super) async fn watch(state: &State, container: &Container, address: Ipv4Addr, exec: &Exec) {
    let ports = container.ports.as_deref().unwrap_or_default();
    let name = container.name.as_str();
    if let Some(probe) = &container.startup_probe {
        let mut series = Series::new(probe, false);
        while series.answer != Some(true) {
            series.next(probe, address, ports, exec).await;
            if series.answer == Some(false) {
                println!("{name}: did not start");
                return;
            }
        }
        state.container(name, |status| {
            (status.started, status.ready) = (Some(true), container.readiness_probe.is_none());
        });
    }
    let ready = async {
        let Some(probe) = &container.readiness_probe else { return pending().await };
        let mut series = Series::new(probe, true);
        loop {
            let before = series.answer;
            series.next(probe, address, ports, exec).await;
            if series.answer != before {
                state.container(name, |status| status.ready = series.answer == Some(true));
            }
        }
    };
    let alive = async {
        let Some(probe) = &container.liveness_probe else { return pending().await };
        let mut series = Series::new(probe, false);
        while series.answer != Some(false) {
            series.next(probe, address, ports, exec).await;
        }
        println!("{name}: does not live");
    };
    tokio::select! {
        () = ready => {}
        () = alive => {}
    }
}

/// Answers of one probe, and what they come to.
struct Series {
    answer: Option<bool>,
    good: i32,
    bad: i32,
    pause: Duration,
}

impl Series {
    fn new(probe: &Probe, is_bad_at_first: bool) -> Self {
        let delay = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        let answer = is_bad_at_first.then_some(false);
        Self { answer, good: 0, bad: 0, pause: Duration::from_secs(delay) }
    }

    /// Waits for its time and asks once more.
    async fn next(&mut self, probe: &Probe, address: Ipv4Addr, ports: &[ContainerPort], exec: &Exec) {
        sleep(self.pause).await;
        let seconds = |given: Option<i32>, otherwise: u64| {
            Duration::from_secs(given.and_then(|given| u64::try_from(given).ok()).unwrap_or(otherwise).max(1))
        };
        self.pause = seconds(probe.period_seconds, 10);
        let asked = timeout(seconds(probe.timeout_seconds, 1), ask(probe, address, ports, exec)).await;
        if matches!(asked, Ok(Ok(()))) {
            (self.good, self.bad) = (self.good + 1, 0);
        } else {
            (self.good, self.bad) = (0, self.bad + 1);
        }
        if self.good >= probe.success_threshold.unwrap_or(1) {
            self.answer = Some(true);
        } else if self.bad >= probe.failure_threshold.unwrap_or(3) {
            self.answer = Some(false);
        }
    }
}

async fn ask(probe: &Probe, address: Ipv4Addr, ports: &[ContainerPort], exec: &Exec) -> Result<()> {
    if let Some(action) = &probe.http_get {
        return get(action, address, ports).await;
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.clone().unwrap_or_else(|| address.to_string());
        TcpStream::connect((host.as_str(), port(&action.port, ports)?)).await?;
        return Ok(());
    }
    let action = probe.exec.as_ref().context("this kind of probe is not known")?;
    let status = exec.command(action.command.as_deref().unwrap_or_default()).status().await?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

/// Asks by HTTP/1.1; answers below 400 are good.
pub(super) async fn get(action: &HTTPGetAction, address: Ipv4Addr, ports: &[ContainerPort]) -> Result<()> {
    ensure!(action.scheme.as_deref() != Some("HTTPS"), "a probe by HTTPS is not known");
    let host = action.host.clone().unwrap_or_else(|| address.to_string());
    let port = port(&action.port, ports)?;
    let mut stream = TcpStream::connect((host.as_str(), port)).await?;
    let path = action.path.as_deref().unwrap_or("/");
    let mut fields = format!("Host: {host}:{port}\r\n");
    for header in action.http_headers.iter().flatten() {
        fields.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    let request =
        format!("GET {path} HTTP/1.1\r\n{fields}User-Agent: kube-probe/1.37\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    let mut answer = BufReader::with_capacity(STATUS_BYTES_MAX, stream);
    answer.read_line(&mut line).await?;
    let status: u16 =
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no answer of HTTP")?;
    ensure!((200..400).contains(&status), "answered {status}");
    Ok(())
}

fn port(wanted: &IntOrString, ports: &[ContainerPort]) -> Result<u16> {
    let number = match wanted {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = ports.iter().find(|port| port.name.as_ref() == Some(name));
            named.with_context(|| format!("there is no port {name}"))?.container_port
        }
    };
    Ok(u16::try_from(number)?)
}
