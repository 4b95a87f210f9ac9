//! Which commands' artifacts lie flat in their folders, how many of them move to segments, and how segments are called
//! (contract, section 2). Pure: no disk, no repository, no clock.

use std::collections::{HashSet, VecDeque};

use chrono::{DateTime, Datelike, Utc};
pub use protocol::segment::{DAY_DIGITS, number};

/// The folders that roll over.
pub const ROLLING: [&str; 4] = ["archive", "dead_letter", "diffs", "results"];

/// The most commands that one roll-over moves: a folder that grew before there was any is brought down step by step.
pub const MAX_AT_ONCE: usize = 4_096;

/// A day in UTC, as the folders spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl Day {
    /// The day of an instant; `None` where its year has more than four digits.
    #[must_use]
    pub fn of(at: DateTime<Utc>) -> Option<Self> {
        let year = u16::try_from(at.year()).ok().filter(|year| *year <= 9_999)?;
        Some(Self { year, month: u8::try_from(at.month()).ok()?, day: u8::try_from(at.day()).ok()? })
    }

    /// Reads `2026/11/23`; `None` for anything spelled otherwise.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let [year, month, day]: [Option<u16>; 3] = DAY_DIGITS
            .map(|digits| parts.next().filter(|part| is_number(part, digits)).and_then(|part| part.parse().ok()));
        let found = Self { year: year?, month: u8::try_from(month?).ok()?, day: u8::try_from(day?).ok()? };
        parts.next().is_none().then_some(found)
    }
}

impl Default for Day {
    /// The first of January 1970.
    fn default() -> Self {
        Self { year: 1970, month: 1, day: 1 }
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}/{:02}/{:02}", self.year, self.month, self.day)
    }
}

/// Whether a name is a number of exactly so many digits.
#[must_use]
pub fn is_number(name: &str, digits: usize) -> bool {
    name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// One segment: the same in each of the folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// The day of filing.
    pub day: Day,
    /// Its place among the segments of that day, from 0.
    pub number: u32,
}

impl Segment {
    /// Its folder beneath one of the [`ROLLING`] ones.
    #[must_use]
    pub fn path(&self, folder: &str) -> String {
        format!("{folder}/{}/{:04}", self.day, self.number)
    }

    /// Where an artifact that lies flat at `path` lies in this segment.
    #[must_use]
    pub fn place(&self, path: &str) -> String {
        let (folder, name) = path.split_once('/').unwrap_or((path, ""));
        format!("{}/{name}", self.path(folder))
    }

    /// The segment after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { day: self.day, number: self.number.saturating_add(1) }
    }
}

/// Whether a path is that of a file directly in one of the [`ROLLING`] folders.
#[must_use]
pub fn is_flat(path: &str) -> bool {
    path.split_once('/').is_some_and(|(folder, name)| ROLLING.contains(&folder) && !name.contains('/'))
}

/// A command whose artifacts lie flat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The day on which it was filed.
    pub day: Day,
    /// Its artifacts' paths.
    pub paths: Vec<String>,
}

/// The commands whose artifacts lie flat in the branch, in the order in which they were filed.
#[derive(Clone, Debug, Default)]
pub struct Flat {
    commands: VecDeque<Command>,
    paths: HashSet<String>,
}

impl Flat {
    /// Adds the youngest. What does not lie flat, or is another command's already, is left out.
    pub fn add(&mut self, day: Day, paths: impl IntoIterator<Item = String>) {
        let paths: Vec<String> =
            paths.into_iter().filter(|path| is_flat(path) && self.paths.insert(path.clone())).collect();
        if !paths.is_empty() {
            self.commands.push_back(Command { day, paths });
        }
    }

    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The commands, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter()
    }

    /// Takes the oldest.
    pub fn take_oldest(&mut self, count: usize) -> Vec<Command> {
        let taken: Vec<Command> = self.commands.drain(..count.min(self.commands.len())).collect();
        self.forget(&taken);
        taken
    }

    /// Takes those that `wanted` names.
    pub fn take_if(&mut self, mut wanted: impl FnMut(&Command) -> bool) -> Vec<Command> {
        let (taken, left): (Vec<Command>, Vec<Command>) =
            std::mem::take(&mut self.commands).into_iter().partition(|command| wanted(command));
        self.commands = left.into();
        self.forget(&taken);
        taken
    }

    fn forget(&mut self, taken: &[Command]) {
        for path in taken.iter().flat_map(|command| &command.paths) {
            self.paths.remove(path);
        }
    }
}

/// How many of so many commands that lie flat are to move: none within the window, else all but half of it.
#[must_use]
pub const fn due(flat: usize, window: usize) -> usize {
    if flat <= window {
        return 0;
    }
    let half = window / 2;
    let stay = if half == 0 { 1 } else { half };
    let move_on = flat.saturating_sub(stay);
    if move_on > MAX_AT_ONCE { MAX_AT_ONCE } else { move_on }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn days_and_segments_are_spelled_as_the_contract_says() {
        let at = "2026-01-02T23:59:59.999Z".parse().unwrap();
        let segment = Segment { day: Day::of(at).unwrap(), number: 7 };
        assert_eq!(segment.place("results/a.json"), "results/2026/01/02/0007/a.json");
        assert_eq!(segment.next().path("diffs"), "diffs/2026/01/02/0008");
        assert_eq!(Day::parse("2026/01/02"), Some(segment.day));
        for bad in ["2026/1/2", "2026/01", "2026/01/02/03", "x", "2026/01/0x", "-026/01/02"] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
        assert_eq!(Day::of(DateTime::<Utc>::MAX_UTC), None);
    }

    #[test]
    fn about_half_a_window_stays_and_never_nothing() {
        assert_eq!((due(256, 256), due(257, 256), due(9, 8)), (0, 129, 5));
        assert_eq!((due(1, 1), due(2, 1), due(3, 2), due(4, 3)), (0, 1, 2, 3));
        assert_eq!(due(1_000_000, 256), MAX_AT_ONCE);
        for window in 1..40 {
            for flat in 0..200 {
                let moves = due(flat, window);
                assert!(flat - moves <= window, "{flat} of {window}");
                assert!(moves == 0 || flat - moves >= 1, "{flat} of {window}");
            }
        }
    }

    #[test]
    fn the_oldest_go_first_and_a_path_belongs_to_one_command() {
        let mut flat = Flat::default();
        for (number, id) in ["a", "b", "c"].iter().enumerate() {
            let paths =
                [format!("results/{id}.json"), format!("logs/{id}"), "diffs/2026/01/02/0000/x.patch".to_owned()];
            flat.add(day(&format!("2026/01/0{}", number + 1)), paths);
        }
        flat.add(day("2026/01/09"), ["results/a.json".to_owned()]);
        assert_eq!(flat.len(), 3, "what is another's makes no command");
        let oldest = flat.take_oldest(2);
        assert_eq!(oldest[0], Command { day: day("2026/01/01"), paths: vec!["results/a.json".to_owned()] });
        flat.add(day("2026/01/09"), ["results/a.json".to_owned()]);
        assert_eq!(flat.take_if(|command| command.day > day("2026/01/05")).len(), 1);
        assert_eq!(flat.iter().map(|command| command.paths[0].as_str()).collect::<Vec<_>>(), ["results/c.json"]);
        assert_eq!(flat.take_oldest(9).len(), 1);
        assert!(flat.is_empty());
    }
}
