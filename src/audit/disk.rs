//! What lies on disk: the artifacts' names, flat or rolled over, and their bytes. No link is followed.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use archiver::{Folder, IN_THE_WAY};
use protocol::segment;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};

/// The folders of artifacts.
pub const FOLDERS: [Folder; 4] = [Folder::Results, Folder::Diffs, Folder::Archive, Folder::DeadLetter];
/// The largest artifact that is read, in bytes; the bridge's own stay below.
pub const MAX_ARTIFACT_BYTES: u64 = 64 * 1024 * 1024;
/// The most files that are listed.
const MAX_FILES: usize = 20_000_000;

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// Nothing has that name.
    #[error("it is missing")]
    Missing,
    /// A link, a folder, a device.
    #[error("it is no regular file")]
    NotRegular,
    /// It is larger than any artifact.
    #[error("it is larger than any artifact")]
    TooLarge,
    /// The file system refuses.
    #[error("it cannot be read: {0}")]
    Io(#[source] io::Error),
}

/// CLOUD, by handle.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens the folder `path`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// The folder at `path`, component by component.
    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut parts = path.split('/');
        let mut folder = openat(&self.0, parts.next().unwrap_or_default(), flags, Mode::empty())?;
        for part in parts {
            folder = openat(&folder, part, flags, Mode::empty())?;
        }
        Ok(folder)
    }

    /// Opens the file at `path`, which has at least one folder.
    ///
    /// # Errors
    /// When it is missing, no regular file, or cannot be opened.
    pub fn file(&self, path: &str) -> Result<File, Unread> {
        let (folder, name) = path.rsplit_once('/').ok_or(Unread::Missing)?;
        let open = || -> io::Result<File> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(File::from(openat(self.folder(folder)?, name, flags, Mode::empty())?))
        };
        let file = open().map_err(|error| match error.raw_os_error() {
            Some(number) if number == rustix::io::Errno::LOOP.raw_os_error() => Unread::NotRegular,
            _ if error.kind() == io::ErrorKind::NotFound => Unread::Missing,
            _ => Unread::Io(error),
        })?;
        let stat = fstat(&file).map_err(|error| Unread::Io(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { Ok(file) } else { Err(Unread::NotRegular) }
    }

    /// The bytes of the file at `path`, at most `max` of them.
    ///
    /// # Errors
    /// When it is missing, no regular file, larger, or cannot be read.
    pub fn read(&self, path: &str, max: u64) -> Result<Vec<u8>, Unread> {
        read(self.file(path)?, max)
    }

    /// The entries of the folder at `path`, sorted by name; none where there is no such folder.
    ///
    /// # Errors
    /// When the folder cannot be listed, or a link or a file lies in its place.
    pub fn list(&self, path: &str) -> io::Result<Vec<(String, FileType)>> {
        let folder = match self.folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if matches!(name.as_str(), "." | "..") {
                continue;
            }
            let kind = match entry.file_type() {
                // A file system that does not say.
                FileType::Unknown => {
                    rustix::fs::statat(&folder, entry.file_name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                        .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
                }
                kind => kind,
            };
            entries.push((name, kind));
        }
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(entries)
    }
}

/// The bytes of an open file, at most `max` of them.
///
/// # Errors
/// When it is larger, or cannot be read.
pub fn read(file: File, max: u64) -> Result<Vec<u8>, Unread> {
    let size = fstat(&file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    if size > max {
        return Err(Unread::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size + 1).unwrap_or(0));
    file.take(max + 1).read_to_end(&mut bytes).map_err(Unread::Io)?;
    if bytes.len() as u64 > max { Err(Unread::TooLarge) } else { Ok(bytes) }
}

/// Something for each artifact.
#[derive(Debug)]
pub struct ByName<T>([HashMap<Arc<str>, T>; FOLDERS.len()]);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| HashMap::new()))
    }
}

impl<T> ByName<T> {
    /// What was put there.
    #[must_use]
    pub fn get(&self, folder: Folder, name: &str) -> Option<&T> {
        self.0.get(folder as usize)?.get(name)
    }

    /// Puts something there.
    pub fn put(&mut self, folder: Folder, name: Arc<str>, value: T) {
        if let Some(names) = self.0.get_mut(folder as usize) {
            names.insert(name, value);
        }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = (Folder, &str)> {
        FOLDERS.into_iter().flat_map(|folder| {
            self.0
                .get(folder as usize)
                .into_iter()
                .flat_map(move |names| names.keys().map(move |name| (folder, &**name)))
        })
    }
}

/// Something that lies in a folder of artifacts.
#[derive(Debug)]
pub struct Item {
    /// The folder.
    pub folder: Folder,
    /// Its name there.
    pub name: Arc<str>,
    /// Whether it is a regular file.
    pub is_file: bool,
    place: u32,
    told: AtomicBool,
}

impl Item {
    /// Its folder and name, wherever it was rolled over to.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.folder.name(), self.name)
    }

    /// A line of the audit log tells of it.
    pub fn tell(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// Whether a line of the audit log told of it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

/// The names of all artifacts on disk.
#[derive(Debug, Default)]
pub struct Shelf {
    items: Vec<Item>,
    places: Vec<String>,
    by_name: ByName<u32>,
    /// Dead letters by the eight digits of the document's hash in their names.
    by_hash: HashMap<String, Vec<u32>>,
    /// What lies at a second place under the same name.
    pub doubles: BTreeSet<String>,
}

impl Shelf {
    /// Lists the folders of artifacts.
    ///
    /// # Errors
    /// When one cannot be listed, or holds more files than can be.
    pub fn list(root: &Root) -> io::Result<Self> {
        let mut shelf = Self::default();
        for folder in FOLDERS {
            shelf
                .add(root, folder, folder.name().to_owned(), 0)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.name())))?;
        }
        Ok(shelf)
    }

    fn add(&mut self, root: &Root, folder: Folder, path: String, level: usize) -> io::Result<()> {
        let entries = root.list(&path)?;
        let place = u32::try_from(self.places.len()).map_err(io::Error::other)?;
        self.places.push(path.clone());
        for (name, kind) in entries {
            match kind {
                FileType::Directory if segment::is_level(level, &name) => {
                    self.add(root, folder, format!("{path}/{name}"), level + 1)?;
                }
                // What the archiver is just writing, and what people keep out of sight.
                _ if name.starts_with('.') => {}
                // What stood in the way of an artifact: the log of the service told of it.
                _ if name.contains(IN_THE_WAY) => {}
                _ => self.put(folder, name.into(), place, kind == FileType::RegularFile)?,
            }
        }
        Ok(())
    }

    fn put(&mut self, folder: Folder, name: Arc<str>, place: u32, is_file: bool) -> io::Result<()> {
        if self.items.len() >= MAX_FILES {
            return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
        }
        let number = u32::try_from(self.items.len()).map_err(io::Error::other)?;
        let item = Item { folder, name: Arc::clone(&name), is_file, place, told: AtomicBool::new(false) };
        if folder == Folder::DeadLetter
            && let Some(short) = short_of(&name)
        {
            self.by_hash.entry(short.to_owned()).or_default().push(number);
        }
        if self.by_name.get(folder, &name).is_some() {
            self.doubles.insert(item.key());
        } else {
            self.by_name.put(folder, name, number);
        }
        self.items.push(item);
        Ok(())
    }

    /// The artifact of this name, wherever it was rolled over to.
    #[must_use]
    pub fn find(&self, folder: Folder, name: &str) -> Option<&Item> {
        self.by_name.get(folder, name).and_then(|number| self.items.get(*number as usize))
    }

    /// The dead letters in whose names `short` stands for their document's hash.
    pub fn letters<'s>(&'s self, short: &str) -> impl Iterator<Item = &'s Item> + use<'s> {
        let numbers = self.by_hash.get(short).map(Vec::as_slice).unwrap_or_default();
        numbers.iter().filter_map(|number| self.items.get(*number as usize))
    }

    /// Everything.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter()
    }

    /// Where an item lies, relative to CLOUD.
    #[must_use]
    pub fn path(&self, item: &Item) -> String {
        let place = self.places.get(item.place as usize).map_or("", String::as_str);
        format!("{place}/{}", item.name)
    }
}

/// The eight digits of a document's hash in a dead letter's name: `<stem>-<8>.json`, or `<stem>-<8>-<64>.json`.
#[must_use]
pub fn short_of(name: &str) -> Option<&str> {
    let (_, last) = name.strip_suffix(".json")?.rsplit_once('-')?;
    let is_hex = last.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && matches!(last.len(), 8 | 64)).then(|| last.get(..8)).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn what_lies_flat_and_what_was_rolled_over_is_found_and_no_link_is_followed() {
        let guard = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = guard.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        put("results/a.json");
        put("results/2026/01/02/0000/b.json");
        put("results/.filing-c.json");
        put("results/notes/d.json");
        put("dead_letter/odd-aabbccdd.json");
        put("elsewhere/01/02/0000/e.json");
        std::os::unix::fs::symlink(guard.path().join("elsewhere"), guard.path().join("results/2027")).unwrap();
        std::os::unix::fs::symlink("a.json", guard.path().join("results/link.json")).unwrap();
        let root = Root::open(guard.path()).unwrap();
        let shelf = Shelf::list(&root).unwrap();
        let path = |name: &str| shelf.find(Folder::Results, name).map(|item| (shelf.path(item), item.is_file));
        assert_eq!(path("a.json"), Some(("results/a.json".to_owned(), true)));
        assert_eq!(path("b.json"), Some(("results/2026/01/02/0000/b.json".to_owned(), true)));
        assert_eq!(path("notes"), Some(("results/notes".to_owned(), false)));
        assert_eq!(path("2027"), Some(("results/2027".to_owned(), false)));
        assert_eq!((path("e.json"), path(".filing-c.json")), (None, None));
        assert_eq!(shelf.letters("aabbccdd").count(), 1);
        assert!(matches!(root.read("results/link.json", 9), Err(Unread::NotRegular)));
        assert!(matches!(root.read("results/2027/01/02/0000/e.json", 9), Err(Unread::Io(_))));
        assert!(matches!(root.read("results/none.json", 9), Err(Unread::Missing)));
        assert!(matches!(root.read("results/a.json", 0), Err(Unread::TooLarge)));
    }

    #[test]
    fn a_dead_letters_name_tells_the_hash() {
        assert_eq!(short_of("x-aabbccdd.json"), Some("aabbccdd"));
        let whole = "ab".repeat(32);
        assert_eq!(short_of(&format!("x-abababab-{whole}.json")), Some("abababab"));
        assert_eq!((short_of("x.json"), short_of("fix-17.json"), short_of("aabbccdd.json")), (None, None, None));
    }
}
