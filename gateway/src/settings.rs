//! Process settings: what an operator decides about the process, as opposed to what the manifests say of traffic.
//!
//! Four layers, each over the former: defaults, a TOML file, `YETT_*` variables, flags. [`Layers`] collects them as
//! TOML tables, remembers where each value came from, and makes one checked [`Settings`] of them. Reading files and
//! the environment is left to the command line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use crate::model::datapath::{Attach, DatapathMode};
use crate::model::deny::DenyMode;

/// The effective settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Files and directories with manifests.
    pub config: Vec<PathBuf>,
    /// Follow the Kubernetes API server that the pod's service account or `KUBECONFIG` names, instead of manifests.
    pub kube: bool,
    /// Controller names of GatewayClasses that are served in a cluster beside our own.
    pub claim: Vec<String>,
    /// Addresses to listen on where a Gateway names none; empty: every address of the machine.
    pub address: Vec<IpAddr>,
    /// Listener ports that are bound as others, `443=8443`.
    pub port_map: Vec<PortMapping>,
    /// Worker threads; 0: one for each CPU that the process may use.
    pub workers: usize,
    /// The admin listener's address, or `off`.
    pub admin: OrOff<SocketAddr>,
    /// The admin socket's path, or `off`.
    pub admin_socket: OrOff<PathBuf>,
    /// A file, `stdout`, or `off`.
    pub access_log: AccessLogTarget,
    /// Whether it has a record of each connection beside those of requests.
    pub access_log_connections: bool,
    /// Directory that gets the status of every object as YAML, or `off`.
    pub status_dir: OrOff<PathBuf>,
    /// Filter of the operational log (`info`, `gateway=debug,info`).
    pub log: String,
    /// How long a drain may take.
    pub drain_timeout: Span,
    /// How long to go on accepting, unready, before a drain begins.
    pub drain_delay: Span,
    /// How long a successor may take to become ready in an upgrade.
    pub upgrade_timeout: Span,
    /// Peers whose `x-forwarded-*` and `x-request-id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Refuse paths that a backend may take for others, where rules look at paths.
    pub refuse_ambiguous_paths: bool,
    /// Handling of certificates.
    pub tls: Tls,
    /// Where connections are served, and on what terms they come in.
    pub datapath: Datapath,
    /// Sizes and times.
    pub limits: Limits,
}

/// Settings of certificates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Accept X.509 v1 client certificates that a trust anchor issued directly (OpenSSL 3.0 makes them by default).
    pub v1_client_certificates: bool,
}

/// Settings of the way that connections come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Datapath {
    /// Whether programs are loaded into the kernel.
    pub mode: DatapathMode,
    /// In which way they are attached to interfaces.
    pub attach: Attach,
    /// To which interfaces; empty: to those that hold an address that is listened on.
    pub interfaces: Vec<String>,
    /// The directory in a BPF file system where maps and links have their names, so that a crash loses no count, or `off`.
    pub pins: OrOff<PathBuf>,
    /// Whether they keep them when the process ends in good order.
    pub keep: bool,
    /// Whether packets are counted by connection.
    pub wire_metrics: bool,
    /// Whether each worker keeps to one CPU, and which connections it is given.
    pub pin: Pin,
    /// Whose connections are not wanted.
    pub deny: Deny,
}

/// Settings of the deny list. What is on it is told the running process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deny {
    /// What becomes of connections from networks on the list.
    pub mode: DenyMode,
    /// Networks that are never denied, whatever is on the list.
    pub allow: Vec<IpNet>,
}

/// Whether each worker keeps to one CPU, and which connections it is given. Workers keep to no CPU where there are not
/// as many of them as the process may use CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pin {
    /// On its own CPU, given the connections whose packets that CPU handles while it has not more than its share.
    #[default]
    Cpu,
    /// On its own CPU, given connections by the hash of their addresses.
    Hash,
    /// Wherever the kernel runs it.
    Off,
}

/// Named limits. Sizes and counts have their unit last, times are texts such as `10s` or `500ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How full memory may be, in percent, before new work is turned away; 0: the kernel decides.
    pub memory_percent_max: u64,
    /// What is a hundred percent; 0: what the process's control groups allow.
    pub memory_bytes_max: u64,
    /// Connections of clients; 0: as many as come.
    pub connections_max: Cap,
    /// Those of one listener's port; 0: no limit of its own.
    pub connections_per_listener_max: usize,
    /// Those from one IPv4 address or IPv6 /64, but for trusted proxies; 0: no limit of its own.
    pub connections_per_source_max: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Span,
    /// Handshakes in flight over all workers; past it the one that has waited longest for its client is dropped.
    pub handshakes_max: usize,
    /// How long a client's connection may be without a request.
    pub idle_timeout: Span,
    /// From a request's first byte (of a connection: from its beginning) to the end of its head.
    pub request_head_timeout: Span,
    /// Bytes of a request's head, and of its trailers.
    pub request_head_bytes_max: usize,
    /// Bytes of a request's target on HTTP/1.1.
    pub request_target_bytes_max: usize,
    /// Fields of a request's head, and of its trailers.
    pub request_fields_max: usize,
    /// How long a client may take for the next piece of a body that it is sending.
    pub request_body_timeout: Span,
    /// Bytes of a request's body; 0: as many as come.
    pub request_body_bytes_max: u64,
    /// How long a client may take to accept the next piece of an answer.
    pub response_stall_timeout: Span,
    /// How long a connection that has left HTTP (WebSocket) may carry nothing in either direction. 0: for ever.
    pub tunnel_idle_timeout: Span,
    /// How long a connection that is to end may go on without a request.
    pub close_timeout: Span,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// What a client may send ahead on one HTTP/2 stream.
    pub http2_stream_window_bytes: u32,
    /// What a client may send ahead on one HTTP/2 connection.
    pub http2_connection_window_bytes: u32,
    /// What may wait to be sent on one HTTP/2 stream.
    pub http2_send_buffer_bytes_max: usize,
    /// Streams that a client has reset and that are not yet disposed of.
    pub http2_pending_resets_max: usize,
    /// Streams that a client made us reset by breaking the protocol, over the life of one HTTP/2 connection.
    pub http2_local_resets_max: usize,
    /// Frames within a second that belong neither to a request nor to its body, beyond 32 for each part of a body or of
    /// an answer, on one HTTP/2 connection.
    pub http2_control_frames_max: u32,
    /// How often a silent HTTP/2 client is asked whether it still lives.
    pub http2_ping_interval: Span,
    /// How long it may take to say so.
    pub http2_ping_timeout: Span,
    /// Where the rule has no timeout: how long a backend may take for the head of its answer.
    pub backend_timeout: Span,
    /// Looking up and connecting to an endpoint.
    pub connect_timeout: Span,
    /// Connections to one endpoint, for each worker.
    pub upstream_connections_max: usize,
    /// Connections to one endpoint that are being made, or requests that wait for one they share, for each worker.
    pub upstream_connects_max: usize,
    /// How often a request that an endpoint did not take goes to another one of the backend's.
    pub upstream_retries_max: usize,
    /// Idle connections kept to one endpoint, for each worker.
    pub upstream_idle_max: usize,
    /// How long an idle connection to an endpoint is kept.
    pub upstream_idle_timeout: Span,
    /// What a backend may send ahead on one HTTP/2 stream.
    pub upstream_http2_stream_window_bytes: u32,
    /// What a backend may send ahead on one HTTP/2 connection.
    pub upstream_http2_connection_window_bytes: u32,
    /// How often a busy HTTP/2 connection to a backend is asked whether it still lives.
    pub upstream_http2_ping_interval: Span,
    /// How long it may take to say so.
    pub upstream_http2_ping_timeout: Span,
    /// Bytes of a response's head.
    pub response_head_bytes_max: usize,
    /// Fields of a response's head, and of its trailers.
    pub response_fields_max: usize,
    /// Interim answers (1xx) of a backend before the final one.
    pub interim_responses_max: usize,
    /// How long a body that its client holds back waits for the backend to ask for it.
    pub continue_timeout: Span,
    /// Access log lines that wait to be written; further ones are dropped and counted.
    pub access_log_buffer_bytes_max: usize,
    /// Panics within a minute; past it the process ends for its supervisor to start it anew. 0: it never does.
    pub panics_per_minute_max: usize,
    /// How long a worker may make no progress before the process ends. 0: for ever.
    pub hang_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: Vec::new(),
            kube: false,
            claim: Vec::new(),
            address: Vec::new(),
            port_map: Vec::new(),
            workers: 0,
            admin: OrOff::On(SocketAddr::from(([127, 0, 0, 1], 9911))),
            admin_socket: OrOff::On(PathBuf::from("/run/yett/admin.sock")),
            access_log: AccessLogTarget::Stdout,
            access_log_connections: true,
            status_dir: OrOff::Off,
            log: "info".into(),
            drain_timeout: Span::seconds(30),
            drain_delay: Span::seconds(0),
            upgrade_timeout: Span::seconds(60),
            trusted_proxies: Vec::new(),
            refuse_ambiguous_paths: true,
            tls: Tls::default(),
            datapath: Datapath::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Datapath {
    fn default() -> Self {
        Self {
            mode: DatapathMode::default(),
            attach: Attach::default(),
            interfaces: Vec::new(),
            pins: OrOff::On(PathBuf::from("/sys/fs/bpf/yett")),
            keep: false,
            wire_metrics: true,
            pin: Pin::default(),
            deny: Deny::default(),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self { v1_client_certificates: true }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_percent_max: 90,
            memory_bytes_max: 0,
            connections_max: Cap::Auto,
            connections_per_listener_max: 0,
            connections_per_source_max: 0,
            handshake_timeout: Span::seconds(10),
            handshakes_max: 2048,
            idle_timeout: Span::seconds(300),
            request_head_timeout: Span::seconds(10),
            request_head_bytes_max: 64 * 1024,
            request_target_bytes_max: 16 * 1024,
            request_fields_max: 100,
            request_body_timeout: Span::seconds(30),
            request_body_bytes_max: 0,
            response_stall_timeout: Span::seconds(60),
            tunnel_idle_timeout: Span::seconds(300),
            close_timeout: Span::seconds(5),
            http2_streams_max: 128,
            http2_stream_window_bytes: 256 * 1024,
            http2_connection_window_bytes: 1024 * 1024,
            http2_send_buffer_bytes_max: 64 * 1024,
            http2_pending_resets_max: 20,
            http2_local_resets_max: 1024,
            http2_control_frames_max: 1000,
            http2_ping_interval: Span::seconds(60),
            http2_ping_timeout: Span::seconds(20),
            backend_timeout: Span::seconds(60),
            connect_timeout: Span::seconds(5),
            upstream_connections_max: 4096,
            upstream_connects_max: 1024,
            upstream_retries_max: 1,
            upstream_idle_max: 64,
            upstream_idle_timeout: Span::seconds(30),
            upstream_http2_stream_window_bytes: 128 * 1024,
            upstream_http2_connection_window_bytes: 16 * 1024 * 1024,
            upstream_http2_ping_interval: Span::seconds(20),
            upstream_http2_ping_timeout: Span::seconds(10),
            response_head_bytes_max: 64 * 1024,
            response_fields_max: 128,
            interim_responses_max: 8,
            continue_timeout: Span::seconds(1),
            access_log_buffer_bytes_max: 8 * 1024 * 1024,
            panics_per_minute_max: 10,
            hang_timeout: Span::seconds(10),
        }
    }
}

/// A value, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrOff<T> {
    /// Not wanted.
    Off,
    /// Wanted so.
    On(T),
}

impl<T> OrOff<T> {
    /// The value, if it is on.
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl FromStr for OrOff<SocketAddr> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => {
                text.parse().map(Self::On).map_err(|_| format!("`{text}` is neither ADDRESS:PORT nor `off`"))
            }
        }
    }
}

impl FromStr for OrOff<PathBuf> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a path, or `off`, is needed".into()),
            "off" => Ok(Self::Off),
            _ => Ok(Self::On(text.into())),
        }
    }
}

impl fmt::Display for OrOff<SocketAddr> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for OrOff<PathBuf> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(path) => path.display().fmt(f),
        }
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file, which is reopened on SIGHUP.
    File(PathBuf),
}

impl FromStr for AccessLogTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a path, `stdout` or `off` is needed".into()),
            "off" => Ok(Self::Off),
            "stdout" => Ok(Self::Stdout),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for AccessLogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// `443=8443`: the listener's port, and the one that is bound for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The port in the manifests.
    pub listener: u16,
    /// The port that is bound.
    pub bind: u16,
}

impl FromStr for PortMapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        text.split_once('=')
            .and_then(|(listener, bind)| Some(Self { listener: port(listener)?, bind: port(bind)? }))
            .ok_or_else(|| format!("`{text}` is not PORT=PORT, as in 443=8443"))
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.listener, self.bind)
    }
}

/// A number that follows from the machine unless it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// As the machine allows, `auto`.
    Auto,
    /// This many; 0 is no cap.
    Count(usize),
}

impl FromStr for Cap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => {
                text.parse().map(Self::Count).map_err(|_| format!("`{text}` is neither a number nor `auto`"))
            }
        }
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Serialize for Cap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.collect_str(self),
            Self::Count(count) => count.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Cap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse(),
            // Its text is that of a number, or of something that is none.
            other => other.to_string().parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}

/// A span of time, written `30s`, `500ms`, `1m30s` or `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|span| Duration::try_from(span).ok())
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a span of time such as 30s or 500ms"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

/// Types that stand in TOML as their text.
macro_rules! as_text {
    ($($type:ty),*) => { $(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}
as_text!(OrOff<SocketAddr>, OrOff<PathBuf>, AccessLogTarget, PortMapping, Span);

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The settings file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is not TOML.
    #[error("settings file {}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and fault, as the parser says it.
        message: String,
    },
    /// No such setting.
    #[error("unknown setting `{key}` ({origin}){hint}")]
    Unknown {
        /// Its dotted name.
        key: String,
        /// Who sets it.
        origin: Origin,
        /// `; did you mean …?`, or empty.
        hint: String,
    },
    /// A value of the wrong form.
    #[error("setting `{key}` ({origin}): {message}")]
    Value {
        /// Its dotted name.
        key: String,
        /// Who sets it.
        origin: Origin,
        /// What is wrong with it.
        message: String,
    },
}

/// Settings as they are gathered, each value with its origin.
#[derive(Clone, Debug)]
pub struct Layers {
    values: BTreeMap<String, (Value, Origin)>,
}

impl Default for Layers {
    fn default() -> Self {
        let mut values = BTreeMap::new();
        // The defaults are of our own making; were they not TOML, no test could pass.
        if let Ok(table) = Table::try_from(Settings::default()) {
            flatten("", table, &mut |key, value| {
                values.insert(key, (value, Origin::Default));
            });
        }
        Self { values }
    }
}

impl Layers {
    /// Lays the text of a settings file over what is there.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let table = text
            .parse::<Table>()
            .map_err(|error| SettingsError::Syntax { path: path.to_owned(), message: error.to_string() })?;
        let mut entries = Vec::new();
        flatten("", table, &mut |key, value| entries.push((key, value)));
        entries.into_iter().try_for_each(|(key, value)| self.set(&key, value, Origin::File(path.to_owned())))
    }

    /// Lays one environment variable over what is there: `YETT_LIMITS_HANDSHAKE_TIMEOUT` is
    /// `limits.handshake_timeout`. Lists are separated by commas. Variables that are not ours are passed over.
    pub fn variable(&mut self, name: &str, text: &str) -> Result<(), SettingsError> {
        let Some(rest) = name.strip_prefix("YETT_") else { return Ok(()) };
        let origin = Origin::Variable(name.to_owned());
        let wanted = rest.to_ascii_lowercase();
        let known = self.values.iter().find(|(key, _)| key.replace('.', "_") == wanted);
        let Some((key, (default, _))) = known else {
            return Err(self.unknown(&wanted, origin));
        };
        let (key, value) = (key.clone(), parse_like(default, text));
        self.set(&key, value, origin)
    }

    /// Lays a flag's texts over what is there (several only for lists).
    pub fn flag(&mut self, flag: &'static str, key: &str, texts: &[String]) -> Result<(), SettingsError> {
        let origin = Origin::Flag(flag);
        let Some((default, _)) = self.values.get(key) else { return Err(self.unknown(key, origin)) };
        let value = match default {
            Value::Array(_) => Value::Array(texts.iter().cloned().map(Value::String).collect()),
            _ => parse_like(default, texts.last().map_or("", String::as_str)),
        };
        self.set(key, value, origin)
    }

    /// Every setting with its value and origin, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value, &Origin)> {
        self.values.iter().map(|(key, (value, origin))| (key.as_str(), value, origin))
    }

    /// The checked whole.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let mut table = Table::new();
        for (key, (value, origin)) in &self.values {
            // One at a time over the defaults first, so that an error names its setting and who set it.
            let alone = nest(key, value.clone(), Table::new());
            alone.try_into::<Settings>().map_err(|error| SettingsError::Value {
                key: key.clone(),
                origin: origin.clone(),
                message: error.message().to_owned(),
            })?;
            table = nest(key, value.clone(), table);
        }
        table.try_into::<Settings>().map_err(|error| SettingsError::Value {
            key: String::new(),
            origin: Origin::Default,
            message: error.message().to_owned(),
        })
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), SettingsError> {
        match self.values.get_mut(key) {
            Some(slot) => {
                *slot = (value, origin);
                Ok(())
            }
            None => Err(self.unknown(key, origin)),
        }
    }

    fn unknown(&self, key: &str, origin: Origin) -> SettingsError {
        let last = |key: &str| key.rsplit('.').next().map(str::to_owned).unwrap_or_default();
        let hint = self
            .values
            .keys()
            .find(|known| last(known).starts_with(&last(key)) || last(key).starts_with(&last(known)))
            .map(|known| format!("; did you mean `{known}`?"))
            .unwrap_or_default();
        SettingsError::Unknown { key: key.to_owned(), origin, hint }
    }
}

/// Calls `each` with the dotted name of every value that is not a table.
fn flatten(prefix: &str, table: Table, each: &mut impl FnMut(String, Value)) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&name, inner, each),
            value => each(name, value),
        }
    }
}

/// Puts `value` under the dotted `key` of `table`.
fn nest(key: &str, value: Value, mut table: Table) -> Table {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = match table.remove(head) {
                Some(Value::Table(inner)) => inner,
                _ => Table::new(),
            };
            table.insert(head.to_owned(), Value::Table(nest(rest, value, inner)));
        }
    }
    table
}

/// Reads a text as the kind of value that the default is; what does not fit stays text and fails with its name later.
fn parse_like(default: &Value, text: &str) -> Value {
    let read = match default {
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::Array(_) => Some(Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.into()))
                .collect(),
        )),
        _ => None,
    };
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_survive_the_layers() {
        assert_eq!(Layers::default().settings().unwrap(), Settings::default());
    }

    #[test]
    fn a_later_layer_wins_and_its_origin_is_known() {
        let mut layers = Layers::default();
        layers
            .file(
                Path::new("yett.toml"),
                "workers = 3\nport_map = [\"443=8443\"]\n[limits]\nhandshake_timeout = \"2s\"\n",
            )
            .unwrap();
        layers.variable("YETT_WORKERS", "4").unwrap();
        layers.variable("YETT_LIMITS_CONNECT_TIMEOUT", "750ms").unwrap();
        layers.variable("YETT_LIMITS_CONNECTIONS_MAX", "70").unwrap();
        layers.variable("YETT_ADDRESS", "127.0.0.1, ::1").unwrap();
        layers.variable("HOME", "/root").unwrap();
        layers.flag("--workers", "workers", &["5".into()]).unwrap();
        let settings = layers.settings().unwrap();
        assert_eq!(settings.workers, 5);
        assert_eq!(settings.port_map, [PortMapping { listener: 443, bind: 8443 }]);
        assert_eq!(settings.limits.handshake_timeout, Span(Duration::from_secs(2)));
        assert_eq!(settings.limits.connect_timeout, Span(Duration::from_millis(750)));
        assert_eq!(settings.limits.connections_max, Cap::Count(70));
        assert_eq!(settings.address.len(), 2);
        let origin = |name: &str| layers.entries().find(|entry| entry.0 == name).unwrap().2.to_string();
        assert_eq!(origin("workers"), "flag --workers");
        assert_eq!(origin("limits.handshake_timeout"), "file yett.toml");
        assert_eq!(origin("address"), "variable YETT_ADDRESS");
        assert_eq!(origin("log"), "default");
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_origin() {
        for (text, words) in [
            ("worker = 1", "unknown setting `worker` (file t.toml); did you mean `workers`?"),
            ("workers = \"many\"", "setting `workers` (file t.toml): "),
            ("admin = \"nowhere\"", "`nowhere` is neither ADDRESS:PORT nor `off`"),
            ("port_map = [\"443\"]", "`443` is not PORT=PORT"),
            ("drain_timeout = \"-1s\"", "`-1s` is not a span of time"),
            ("limits.connections_max = \"many\"", "`many` is neither a number nor `auto`"),
            ("limits.connections_max = -1", "`-1` is neither a number nor `auto`"),
            ("limits.handshake_timeout = \"soon\"", "setting `limits.handshake_timeout`"),
            ("workers = [", "settings file t.toml: "),
        ] {
            let mut layers = Layers::default();
            let error = layers
                .file(Path::new("t.toml"), text)
                .and_then(|()| layers.settings().map(drop))
                .unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }
}
