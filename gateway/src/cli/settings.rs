//! The settings flags, shared by the commands that need settings, and `yett settings`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::Failure;
use crate::settings::{Layers, SettingsError};

/// Flags that set a setting. Each is as well a key of the settings file and a `YETT_…` variable.
#[derive(Debug, Default, Args)]
pub(super) struct Flags {
    /// File with settings (TOML)
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// File or directory with manifests; repeatable
    #[arg(long, value_name = "PATH", num_args = 1..)]
    config: Vec<String>,
    /// Follow a Kubernetes API server instead of manifests: that of the pod's service account, or of KUBECONFIG
    #[arg(long)]
    kube: bool,
    /// Controller name of GatewayClasses that are served in a cluster beside gateway.yett.dev/controller; repeatable
    #[arg(long, value_name = "NAME")]
    claim: Vec<String>,
    /// Address to listen on where a Gateway names none; repeatable [default: every address of the machine]
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    /// Bind another port than the listener's; repeatable
    #[arg(long, value_name = "443=8443")]
    port_map: Vec<String>,
    /// Worker threads [default: one for each CPU]
    #[arg(long, value_name = "NUMBER")]
    workers: Option<String>,
    /// Admin listener, or `off` [default: 127.0.0.1:9911]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// Admin socket, or `off` [default: /run/yett/admin.sock]
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<String>,
    /// Access log: a file, `stdout` or `off` [default: stdout]
    #[arg(long, value_name = "FILE")]
    access_log: Option<String>,
    /// Directory that gets the status of every object as YAML
    #[arg(long, value_name = "DIR")]
    status_dir: Option<String>,
    /// Filter of the operational log [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How long a drain may take [default: 30s]
    #[arg(long, value_name = "SPAN")]
    drain_timeout: Option<String>,
    /// How long to go on accepting, unready, before a drain begins [default: 0s]
    #[arg(long, value_name = "SPAN")]
    drain_delay: Option<String>,
    /// Network whose `x-forwarded-*` is believed; repeatable
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    trusted_proxies: Vec<String>,
    /// Any other setting by its name, as in `limits.handshake_timeout=5s`; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Flags {
    /// Those that bear on what documents mean.
    pub(super) fn of_documents(settings: &Option<PathBuf>, address: &[String], port_map: &[String]) -> Self {
        let (address, port_map) = (address.to_vec(), port_map.to_vec());
        Self { settings: settings.clone(), address, port_map, ..Self::default() }
    }

    /// Gathers all layers: defaults, the settings file, `YETT_*` variables, flags.
    pub(super) fn layers(&self) -> Result<Layers, Failure> {
        let mut layers = Layers::default();
        if let Some(path) = &self.settings {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the settings file {}", path.display()))
                .map_err(Failure::input)?;
            layers.file(path, &text).map_err(Failure::input)?;
        }
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            // The one that is no setting: a predecessor speaks by it.
            let ours = name.starts_with("YETT_") && name != crate::handover::VARIABLE;
            ours.then(|| (name, value.to_string_lossy().into_owned()))
        });
        for (name, value) in variables {
            match layers.variable(&name, &value) {
                // A service named `yett` gives every pod beside it variables of this prefix that are not meant for us.
                Err(error @ SettingsError::Unknown { .. }) => eprintln!("yett: {error}: not used"),
                read => read.map_err(Failure::input)?,
            }
        }
        self.lay_over(&mut layers).map_err(Failure::input)?;
        Ok(layers)
    }

    fn lay_over(&self, layers: &mut Layers) -> Result<(), SettingsError> {
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        for (flag, key, texts) in [
            ("--config", "config", self.config.clone()),
            ("--kube", "kube", if self.kube { vec!["true".to_owned()] } else { Vec::new() }),
            ("--claim", "claim", self.claim.clone()),
            ("--address", "address", self.address.clone()),
            ("--port-map", "port_map", self.port_map.clone()),
            ("--workers", "workers", one(&self.workers)),
            ("--admin", "admin", one(&self.admin)),
            ("--admin-socket", "admin_socket", one(&self.admin_socket)),
            ("--access-log", "access_log", one(&self.access_log)),
            ("--status-dir", "status_dir", one(&self.status_dir)),
            ("--log", "log", one(&self.log)),
            ("--drain-timeout", "drain_timeout", one(&self.drain_timeout)),
            ("--drain-delay", "drain_delay", one(&self.drain_delay)),
            ("--trusted-proxy", "trusted_proxies", self.trusted_proxies.clone()),
        ] {
            if !texts.is_empty() {
                layers.flag(flag, key, &texts)?;
            }
        }
        self.set.iter().try_for_each(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            layers.flag("--set", key, &[value.to_owned()])
        })
    }
}

/// The arguments of `yett settings`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// One line a setting
    Table,
    /// An object: name → {value, origin}
    Json,
}

/// Prints every setting with its value and where it came from.
pub(super) fn print(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let layers = arguments.flags.layers()?;
    layers.settings().map_err(Failure::input)?;
    let text = match arguments.output {
        Output::Table => table(&layers),
        Output::Json => json(&layers).map_err(Failure::operation)?,
    };
    super::print(&text)
}

fn table(layers: &Layers) -> String {
    let width = layers.entries().map(|(key, ..)| key.len()).max().unwrap_or(0);
    layers.entries().map(|(key, value, origin)| format!("{key:width$} = {value}   # {origin}\n")).collect()
}

fn json(layers: &Layers) -> serde_json::Result<String> {
    let all: serde_json::Map<String, serde_json::Value> = layers
        .entries()
        .map(|(key, value, origin)| (key.to_owned(), json!({"value": value, "origin": origin.to_string()})))
        .collect();
    serde_json::to_string_pretty(&all).map(|text| text + "\n")
}
