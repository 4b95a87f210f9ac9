//! What a program prints: its beginning is kept, the rest is read and thrown away, so that it never waits for a reader.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::MAX_OUTPUT_BYTES;

/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often a pipe is read before others are looked at.
const READS_AT_ONCE: usize = 16;

/// One output of a program.
#[derive(Debug)]
pub struct Capture<R> {
    pipe: Option<R>,
    kept: Vec<u8>,
    truncated: bool,
}

impl<R: Read + AsFd> Capture<R> {
    /// Reads from `pipe`, without ever waiting for it.
    ///
    /// # Errors
    /// When the pipe cannot be set so.
    pub fn new(pipe: R) -> io::Result<Self> {
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok(Self { pipe: Some(pipe), kept: Vec::new(), truncated: false })
    }

    /// The pipe, as long as it has not ended.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there, within reason.
    pub fn take_in(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..READS_AT_ONCE {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut chunk) {
                Ok(count @ 1..) => {
                    let room = MAX_OUTPUT_BYTES.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(chunk.get(..count.min(room)).unwrap_or_default());
                    self.truncated |= count > room;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The end; a pipe that cannot be read has come to its own.
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }

    /// What was kept, as text, and whether there was more. A character that the cut went through is left out.
    pub fn finish(self) -> (String, bool) {
        let mut kept = self.kept;
        if self.truncated
            && let Err(error) = std::str::from_utf8(&kept)
            && error.error_len().is_none()
        {
            kept.truncate(error.valid_up_to());
        }
        (String::from_utf8_lossy(&kept).into_owned(), self.truncated)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    fn captured(bytes: &[u8]) -> (String, bool) {
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut capture = Capture::new(there).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || here.write_all(bytes).unwrap());
            while capture.pipe().is_some() {
                capture.take_in();
            }
        });
        capture.finish()
    }

    #[test]
    fn the_beginning_is_kept_and_no_character_is_cut_in_two() {
        assert_eq!(captured(b""), (String::new(), false));
        assert_eq!(captured(b"a\xffb\xe2\x82"), ("a\u{fffd}b\u{fffd}".to_owned(), false));
        let full = "x".repeat(MAX_OUTPUT_BYTES);
        assert_eq!(captured(full.as_bytes()), (full.clone(), false));
        assert_eq!(captured(format!("{full}y").as_bytes()), (full, true));
        let (text, truncated) = captured("€".repeat(1 << 20).as_bytes());
        assert!(truncated && text.len() <= MAX_OUTPUT_BYTES && text.len() > MAX_OUTPUT_BYTES - 4);
        assert!(text.chars().all(|c| c == '€'));
    }
}
