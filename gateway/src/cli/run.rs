//! `yett run`.

use std::process::ExitCode;

use clap::Args;

use super::Failure;
use super::settings::Flags;

/// The arguments of `yett run`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

/// Serves until told to stop.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = arguments.flags.layers()?.settings().map_err(Failure::input)?;
    if settings.kube && !settings.config.is_empty() {
        return Err(Failure::input(anyhow::anyhow!(
            "--kube and --config: the configuration comes from a cluster or from files, not from both"
        )));
    }
    if !settings.kube && settings.config.is_empty() {
        return Err(Failure::input(anyhow::anyhow!(
            "nothing to serve: name files or directories with --config PATH, or a cluster with --kube (`yett demo` shows a \
             complete setup)"
        )));
    }
    if let Some(status) = settings.status_dir.on()
        && let Some(config) = settings.config.iter().find(|config| status.starts_with(config))
    {
        return Err(Failure::input(anyhow::anyhow!(
            "--status-dir {} lies within --config {}: its files would be read as manifests",
            status.display(),
            config.display()
        )));
    }
    crate::app::run(settings).map_err(Failure::operation)?;
    Ok(ExitCode::SUCCESS)
}
