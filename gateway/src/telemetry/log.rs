//! The operational log on standard error: text on a terminal, one JSON object a line elsewhere.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Libraries whose warnings a client can provoke at will; what matters of them is told by our own events. A filter that
/// names them has its way.
const QUIET: &str = "rustls=error,tokio_rustls=error,hyper=error,h2=error,notify=error";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// `{"timestamp","level","message",…,"target"}`
    Json,
}

impl LogFormat {
    /// Text where standard error is a terminal.
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("cannot read the log filter `{filter}`")]
    Filter {
        /// The filter.
        filter: String,
        /// Where it goes wrong.
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is a log already.
    #[error("cannot start the log")]
    Start(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts the log of the process. `filter`: `info`, `gateway=debug,info`.
///
/// # Errors
/// The filter cannot be read, or a log was started before.
pub fn start(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let filter = parse(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            lines.with_ansi(colours && io::stderr().is_terminal()).finish().try_init()?;
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.finish().try_init()?;
        }
    }
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn filters() {
        for (filter, good) in [
            ("info", true),
            ("gateway=debug,info", true),
            ("rustls=trace", true),
            ("", true),
            ("a=b=c", false),
        ] {
            assert_eq!(parse(filter).is_ok(), good, "{filter:?}");
        }
        let shown = parse("info,rustls=trace").unwrap().to_string();
        assert!(shown.contains("rustls=trace") && !shown.contains(",rustls=error"), "{shown}");
    }
}
