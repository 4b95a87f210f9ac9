//! The mutation as a git-format diff that `git apply` accepts, forwards and with `-R`. It looks at nothing but the
//! before- and after-images.

mod binary;
mod text;

use std::collections::BTreeSet;

use protocol::git_id::{GitId, ObjectFormat};
use protocol::path::RelativePath;

use crate::overlay::{Change, Origin};
use crate::tree::Image;

/// From this similarity on (in per cent, as git's default) a moved and edited file is shown as a rename.
const MIN_SIMILARITY: u64 = 50;

/// Renders the changes, which come in path order; empty where there are none. Files are named as git names them in a
/// repository of this format, for it applies a binary patch only where the ids are its own.
#[must_use]
pub fn render(changes: &[Change], ids: ObjectFormat) -> Vec<u8> {
    let rendered: Result<_, std::convert::Infallible> = render_while(changes, ids, || Ok(()));
    match rendered {
        Ok(diff) => diff,
        Err(never) => match never {},
    }
}

/// The same, as long as `go_on` says so: it is asked before each file.
///
/// # Errors
/// What `go_on` says.
pub fn render_while<E>(changes: &[Change], ids: ObjectFormat, go_on: impl Fn() -> Result<(), E>) -> Result<Vec<u8>, E> {
    let renames: Vec<Option<(&Origin, u64)>> = changes.iter().map(rename).collect();
    let origins: BTreeSet<&RelativePath> = renames.iter().flatten().map(|(origin, _)| &origin.path).collect();
    let mut out = Vec::new();
    for (change, rename) in changes.iter().zip(&renames) {
        go_on()?;
        match rename {
            Some((origin, similarity)) => {
                let file = File {
                    from: &origin.path,
                    to: &change.path,
                    before: Some(&origin.image),
                    after: change.after.as_ref(),
                    ids,
                };
                file.render(Some(*similarity), &mut out);
            }
            // Its destination tells of it.
            None if change.after.is_none() && origins.contains(&change.path) => {}
            None => {
                let file = File {
                    from: &change.path,
                    to: &change.path,
                    before: change.before.as_ref(),
                    after: change.after.as_ref(),
                    ids,
                };
                file.render(None, &mut out);
            }
        }
    }
    Ok(out)
}

/// The origin and similarity of a change that a rename can stand for: nothing remains at the origin, nothing was at the
/// destination, and enough of the content is the same.
fn rename(change: &Change) -> Option<(&Origin, u64)> {
    let origin = change.origin.as_ref().filter(|origin| origin.gone && change.before.is_none())?;
    let similarity = similarity(&origin.image.content, &change.after.as_ref()?.content);
    (similarity >= MIN_SIMILARITY).then_some((origin, similarity))
}

/// How much of the larger content is in both, in per cent; 100 only for equal ones.
fn similarity(before: &[u8], after: &[u8]) -> u64 {
    let larger = before.len().max(after.len());
    if before == after {
        return 100;
    }
    let percent = text::common_bytes(before, after).saturating_mul(100) / larger.max(1);
    u64::try_from(percent).unwrap_or_default().min(99)
}

/// One file of the diff.
struct File<'a> {
    from: &'a RelativePath,
    to: &'a RelativePath,
    before: Option<&'a Image>,
    after: Option<&'a Image>,
    ids: ObjectFormat,
}

impl File<'_> {
    fn render(&self, similarity: Option<u64>, out: &mut Vec<u8>) {
        let (a, b) = (quoted("a/", self.from), quoted("b/", self.to));
        line(out, &format!("diff --git {a} {b}"));
        match (self.before, self.after) {
            (None, Some(after)) => line(out, &format!("new file mode {}", after.mode().git())),
            (Some(before), None) => line(out, &format!("deleted file mode {}", before.mode().git())),
            (Some(before), Some(after)) if before.mode() != after.mode() => {
                line(out, &format!("old mode {}", before.mode().git()));
                line(out, &format!("new mode {}", after.mode().git()));
            }
            _ => {}
        }
        if let Some(similarity) = similarity {
            line(out, &format!("similarity index {similarity}%"));
            line(out, &format!("rename from {}", quoted("", self.from)));
            line(out, &format!("rename to {}", quoted("", self.to)));
        }
        self.body(&a, &b, out);
    }

    fn body(&self, a: &str, b: &str, out: &mut Vec<u8>) {
        let content = |image: Option<&Image>| image.map(|image| image.content.clone()).unwrap_or_default();
        let (before, after) = (content(self.before), content(self.after));
        if self.before.is_some() && self.after.is_some() && before == after {
            return;
        }
        let blob = |image: Option<&Image>| match image {
            Some(image) => GitId::of_blob(self.ids, &image.content),
            None => GitId::null(self.ids),
        };
        let mode = match (self.before, self.after) {
            (Some(before), Some(after)) if before.mode() == after.mode() => format!(" {}", after.mode().git()),
            _ => String::new(),
        };
        line(out, &format!("index {}..{}{mode}", blob(self.before), blob(self.after)));
        if before == after {
            return; // an empty file comes or goes
        }
        // Git looks for a NUL in the first 8,000 bytes only; one further on is no text either, and this is safe.
        if before.contains(&0) || after.contains(&0) {
            line(out, "GIT binary patch");
            binary::literal(&after, out);
            binary::literal(&before, out);
            return;
        }
        let name = |image: Option<&Image>, name: &str| match image {
            None => "/dev/null".to_owned(),
            // Git ends a name that holds a space with a tab, because other programs look for a time stamp there.
            Some(_) if name.contains(' ') => format!("{name}\t"),
            Some(_) => name.to_owned(),
        };
        line(out, &format!("--- {}", name(self.before, a)));
        line(out, &format!("+++ {}", name(self.after, b)));
        text::hunks(&before, &after, out);
    }
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

/// A path as git writes it: as it is, or in quotes with C escapes where it holds anything but plain ASCII.
fn quoted(prefix: &str, path: &RelativePath) -> String {
    let path = path.as_str();
    let plain = path.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
    if plain {
        return format!("{prefix}{path}");
    }
    let mut out = format!("\"{prefix}");
    for byte in path.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\{other:03o}")),
        }
    }
    out.push('"');
    out
}
