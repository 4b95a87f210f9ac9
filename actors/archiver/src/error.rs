//! Why filing had to stop. All of it passes: the batch is kept and tried again.

use std::error::Error;
use std::io;

use protocol::artifact::SerializeError;

/// Why a step of filing did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system refused.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what, relative to CLOUD.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// A link or a file lies in the place of one of the service's folders.
    #[error("{path} is no real folder but {found}; nothing is filed until the folder is back in its place")]
    NotAFolder {
        /// The folder, relative to CLOUD.
        path: String,
        /// What lies there.
        found: &'static str,
    },
    /// Somebody else put a file where a new one was about to be placed.
    #[error("somebody else put a file at {path}")]
    Conflict {
        /// The file, relative to CLOUD.
        path: String,
    },
    /// An artifact could not be spelled.
    #[error("cannot spell the artifacts of {file}")]
    Serialize {
        /// The document's name in `commands/`.
        file: String,
        /// What serde said.
        source: SerializeError,
    },
}

impl ArchiveError {
    /// For `map_err`: the error of trying `what` on `path`.
    pub(crate) fn io(what: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// The error and its causes, in one line.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        line.push_str(": ");
        line.push_str(&next.to_string());
        cause = next.source();
    }
    line
}
