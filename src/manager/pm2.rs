//! The channel that PM2 opens for every child, as node does for `fork()`: a socket on which each side writes JSON
//! documents, one a line.
//!
//! PM2 waits for the string `"ready"` (its `wait_ready`), shows what an `axm:monitor` message tells (`pm2 describe`,
//! `pm2 monit`), and may send the string `"shutdown"` (its `shutdown_with_message`).
//!
//! Bounded on both sides: while one message is on its way the next ones are dropped, and what is heard is kept to the end
//! of its line, but no longer than [`MAX_LINE_BYTES`].

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use serde_json::{Map, Value, json};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::figures::Figures;

/// The message that lets PM2 count the bridge as online.
pub const READY: &[u8] = b"\"ready\"\n";
/// The longest message that is understood; a longer one is passed over.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;
/// How many characters of what hinders the bridge are shown.
const MAX_REASON_CHARS: usize = 100;

/// The message that tells PM2 how the bridge fares. Its shape is that of PM2's own library, `@pm2/io`.
#[must_use]
pub fn monitor(figures: &Figures) -> Vec<u8> {
    let mut data = Map::new();
    let mut show = |name: String, value: Value, unit: &str| {
        let kind = format!("ghost-bridge/{}", name.to_lowercase().replace(' ', "_"));
        data.insert(name, json!({ "historic": value.is_number(), "unit": unit, "type": kind, "value": value }));
    };
    show("Pending".to_owned(), json!(figures.pending), "commands");
    show("In flight".to_owned(), json!(figures.in_flight), "commands");
    for (actor, depth) in &figures.mailboxes {
        show(format!("Mailbox {actor}"), json!(depth), "messages");
    }
    show("Filed".to_owned(), json!(figures.filed), "commands");
    show("Uncommitted".to_owned(), json!(figures.uncommitted), "commands");
    show("Unpushed".to_owned(), json!(figures.unpushed), "commits");
    show("Retries".to_owned(), json!(figures.retries), "commands");
    let degraded =
        figures.degraded.as_deref().map_or_else(|| "no".to_owned(), |reason| format!("yes: {}", cut(reason)));
    show("Degraded".to_owned(), json!(degraded), "");
    let mut line = json!({ "type": "axm:monitor", "data": data }).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The beginning of `reason`, without what would break a table.
fn cut(reason: &str) -> String {
    crate::exit::one_line(reason).chars().take(MAX_REASON_CHARS).collect()
}

/// The bridge's end of the channel.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    unsent: Vec<u8>,
    heard: Lines,
}

impl Channel {
    /// Takes over a socket that does not block.
    ///
    /// # Errors
    /// When the runtime cannot wait for it.
    pub fn new(stream: StdStream) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::from_std(stream)?, unsent: Vec::new(), heard: Lines::default() })
    }

    /// Sends `message` (with the end of its line) as soon as the other side takes it, or drops it where the one before is
    /// still on its way.
    pub fn offer(&mut self, message: &[u8]) {
        if self.unsent.is_empty() {
            self.unsent.extend_from_slice(message);
        }
    }

    /// Waits until something can be read or written, and does so: whether a shutdown was asked for. May be dropped at any
    /// time without loss.
    ///
    /// # Errors
    /// When the channel has ended.
    pub async fn turn(&mut self) -> io::Result<bool> {
        let writing = if self.unsent.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let ready = self.stream.ready(writing).await?;
        if ready.is_writable() {
            match self.stream.try_write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if !ready.is_readable() {
            return Ok(false);
        }
        let mut bytes = [0; READ_BYTES];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(self.heard.take(bytes.get(..read).unwrap_or_default())),
            Err(error) if is_passing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Puts lines together from the pieces in which they are read.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    /// The line that was begun is too long; the rest of it is passed over.
    too_long: bool,
}

impl Lines {
    /// Takes the next piece: whether a line that ended in it asks for a shutdown.
    fn take(&mut self, piece: &[u8]) -> bool {
        let mut shutdown = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.begun.len() + part.len() > MAX_LINE_BYTES {
                self.too_long = true;
                self.begun.clear();
            }
            if !self.too_long {
                self.begun.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                shutdown |= !self.too_long && is_shutdown(&self.begun);
                self.begun.clear();
                self.too_long = false;
            }
        }
        shutdown
    }
}

fn is_shutdown(line: &[u8]) -> bool {
    serde_json::from_slice::<String>(line).is_ok_and(|message| message == "shutdown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_is_heard_however_it_is_cut() {
        let text = b"{\"cmd\":\"NODE_HANDLE_ACK\"}\nnonsense\n\"ready\"\n \"shutdown\" \n";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let heard: Vec<bool> = text.chunks(size).map(|piece| lines.take(piece)).collect();
            assert_eq!(heard.iter().filter(|asked| **asked).count(), 1, "in pieces of {size}");
            assert_eq!(heard.last(), Some(&true));
            assert!(lines.begun.is_empty());
        }
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(!lines.take(&[b' '; READ_BYTES]));
            assert!(lines.begun.len() <= MAX_LINE_BYTES);
        }
        assert!(!lines.take(b"\"shutdown\"\n"), "the end of a long line is no line");
        assert!(lines.take(b"\"shutdown\"\n"));
    }

    #[test]
    fn the_figures_are_one_line_in_the_shape_that_pm2_shows() {
        let figures = Figures {
            pending: 3,
            mailboxes: vec![("verifier", 1), ("executor", 2)],
            degraded: Some(format!("the remote\nrefuses {}", "x".repeat(1_000))),
            ..Figures::default()
        };
        let line = monitor(&figures);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let message: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(message["type"], "axm:monitor");
        assert_eq!(
            message["data"]["Pending"],
            json!({ "historic": true, "unit": "commands", "type": "ghost-bridge/pending", "value": 3 })
        );
        assert_eq!(message["data"]["Mailbox executor"]["value"], 2);
        let degraded = message["data"]["Degraded"]["value"].as_str().unwrap();
        assert!(degraded.starts_with("yes: the remote refuses x") && degraded.len() < 120, "{degraded}");
        let well = monitor(&Figures::default());
        assert_eq!(serde_json::from_slice::<Value>(&well).unwrap()["data"]["Degraded"]["value"], "no");
    }

    #[tokio::test]
    async fn a_channel_that_nobody_reads_keeps_one_message() {
        let (ours, theirs) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut channel = Channel::new(ours).unwrap();
        let message = vec![b'x'; 1024 * 1024];
        for _ in 0..100 {
            channel.offer(&message);
            tokio::select! {
                biased;
                turned = channel.turn() => assert!(!turned.unwrap()),
                () = tokio::task::yield_now() => {}
            }
            assert!(channel.unsent.len() <= message.len());
        }
        assert!(!channel.unsent.is_empty(), "the socket's buffer is full");
        drop(theirs);
        loop {
            // What was read of the end comes when it comes; an error ends it.
            if channel.turn().await.is_err() {
                break;
            }
        }
    }
}
