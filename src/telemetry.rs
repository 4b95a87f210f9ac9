//! The log: tracing events, compact for people or JSON for machines, filtered by `RUST_LOG`.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};

use crate::exit::Failure;

/// What is logged where `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_http=off";

/// How a line of the log is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Compact,
    /// One JSON object a line.
    Json,
}

/// Where its lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// All to stderr.
    Stderr,
    /// Warnings and errors to stderr, all else to stdout: for a process manager that keeps a log of each.
    Both,
}

/// Starts logging.
///
/// # Errors
/// When `RUST_LOG` is no filter.
pub fn start(format: LogFormat, outputs: Outputs) -> Result<(), Failure> {
    let wished = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let filter = wished.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::config(format!("environment variable RUST_LOG: {filter:?} is no filter ({error}); write it like info or publisher=debug,info"))
    })?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let writer = match outputs {
        Outputs::Stderr => BoxMakeWriter::new(std::io::stderr),
        Outputs::Both => BoxMakeWriter::new(std::io::stderr.with_max_level(Level::WARN).or_else(std::io::stdout)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour);
    let started = match format {
        LogFormat::Compact => builder.compact().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| Failure::bug(format!("logging was started twice ({error})")))
}
