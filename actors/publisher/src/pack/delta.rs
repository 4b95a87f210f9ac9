//! One version of a file as the difference from another, in the form that packs hold (gitformat-pack(5)): runs that are
//! copied from the old version and runs that are new.
//!
//! What both begin and end with is found at once; that is all there is to find where something was added. What lies
//! between is searched for runs that the old version has anywhere: a table of the old version's positions by the eight
//! bytes that stand there, and each hit extended as far as it goes.

/// The largest run that one copy instruction can name.
const MAX_COPY: usize = 0x00ff_ffff;

/// The largest run that one insert instruction can hold.
const MAX_INSERT: usize = 127;

/// Bytes that are compared at once.
const STRIDE: usize = 4096;

/// Bytes by which positions are found again.
const KEY: usize = 8;

/// The shortest run that is worth an instruction of its own, with the insertion that it interrupts.
const MIN_COPY: usize = 10;

/// The largest middle part of an old version of which each position is in the table; of larger ones, each eighth is.
const DENSE: usize = 16 << 10;

/// The largest middle part of a version that is searched.
const MAX_SEARCHED: usize = 4 << 20;

/// `new` as the difference from `old`; nothing where that saves less than half.
#[must_use]
pub fn delta(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let head = common_head(old, new);
    let room = old.len().min(new.len()) - head;
    let tail = common_tail(old, new, room);
    let (from, to) = (old.get(head..old.len() - tail)?, new.get(head..new.len() - tail)?);
    if to.len() > MAX_SEARCHED {
        return None;
    }
    let mut out = Delta::new(old.len(), new.len());
    out.copy(0, head);
    search(from, head, to, &mut out);
    out.copy(old.len() - tail, tail);
    let bytes = out.finish();
    (bytes.len() * 2 <= new.len()).then_some(bytes)
}

/// Puts `new` together from runs of `old`, which stands at `at` in the whole version, and from what `old` does not have.
fn search(old: &[u8], at: usize, new: &[u8], out: &mut Delta) {
    if old.len() < MIN_COPY || new.len() < MIN_COPY || old.len() > MAX_SEARCHED {
        return out.insert(new);
    }
    let table = Table::new(old);
    let (mut done, mut here) = (0, 0);
    while let Some(key) = key(new, here) {
        let Some(found) = table.find(key).filter(|found| self::key(old, *found) == Some(key)) else {
            here += 1;
            continue;
        };
        let (left_old, right_old) = old.split_at(found);
        let (left_new, right_new) = new.split_at(here);
        let back = common_tail(left_old, left_new, found.min(here - done));
        let run = back + common_head(right_old, right_new);
        if run < MIN_COPY {
            here += 1;
            continue;
        }
        let begin = here - back;
        out.insert(new.get(done..begin).unwrap_or_default());
        out.copy(at + found - back, run);
        (done, here) = (begin + run, begin + run);
    }
    out.insert(new.get(done..).unwrap_or_default());
}

fn key(bytes: &[u8], at: usize) -> Option<u64> {
    let (key, _) = bytes.get(at..)?.split_first_chunk::<KEY>()?;
    Some(u64::from_le_bytes(*key))
}

/// Positions by the bytes that stand there. One that another takes the place of is forgotten.
struct Table {
    slots: Vec<u32>,
    shift: u32,
}

/// Stands for no position.
const FREE: u32 = u32::MAX;

impl Table {
    fn new(old: &[u8]) -> Self {
        let step = if old.len() <= DENSE { 1 } else { KEY };
        let bits = (old.len() / step).max(2).next_power_of_two().trailing_zeros() + 1;
        let mut table = Self { slots: vec![FREE; 1 << bits], shift: u64::BITS - bits };
        for at in (0..old.len()).step_by(step) {
            let slot = key(old, at).map(|key| table.slot(key));
            if let (Some(slot), Ok(at)) = (slot.and_then(|slot| table.slots.get_mut(slot)), u32::try_from(at)) {
                *slot = at;
            }
        }
        table
    }

    /// The key's upper bits after a multiplication by 2^64 divided by the golden ratio (Fibonacci hashing).
    fn slot(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    fn find(&self, key: u64) -> Option<usize> {
        self.slots.get(self.slot(key)).filter(|at| **at != FREE).map(|at| *at as usize)
    }
}

/// A delta in the making.
struct Delta {
    out: Vec<u8>,
    /// A run to be copied that may yet grow: where it begins, and its length.
    run: (usize, usize),
}

impl Delta {
    fn new(old: usize, new: usize) -> Self {
        // Most are small beside this: an entry more in a folder, a line more in the log.
        const USUAL: usize = 512;
        let mut out = Vec::with_capacity(USUAL);
        size_varint(old, &mut out);
        size_varint(new, &mut out);
        Self { out, run: (0, 0) }
    }

    fn insert(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.flush();
        for chunk in bytes.chunks(MAX_INSERT) {
            self.out.push(chunk.len() as u8);
            self.out.extend_from_slice(chunk);
        }
    }

    fn copy(&mut self, from: usize, length: usize) {
        if self.run.0 + self.run.1 == from {
            self.run.1 += length;
        } else if length > 0 {
            self.flush();
            self.run = (from, length);
        }
    }

    fn flush(&mut self) {
        let (from, length) = std::mem::take(&mut self.run);
        copy(from, length, &mut self.out);
    }

    fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.out
    }
}

fn size_varint(mut size: usize, out: &mut Vec<u8>) {
    while size >= 0x80 {
        out.push(0x80 | (size & 0x7f) as u8);
        size >>= 7;
    }
    out.push(size as u8);
}

fn common_head(old: &[u8], new: &[u8]) -> usize {
    let whole = old.chunks_exact(STRIDE).zip(new.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    let rest = old.iter().zip(new).skip(whole).take_while(|(a, b)| a == b).count();
    whole + rest
}

fn common_tail(old: &[u8], new: &[u8], room: usize) -> usize {
    let pairs = old.rchunks_exact(STRIDE).zip(new.rchunks_exact(STRIDE)).take(room / STRIDE);
    let whole = pairs.take_while(|(a, b)| a == b).count() * STRIDE;
    let bytes = old.iter().rev().zip(new.iter().rev()).take(room).skip(whole);
    whole + bytes.take_while(|(a, b)| a == b).count()
}

fn copy(mut from: usize, mut length: usize, out: &mut Vec<u8>) {
    while length > 0 {
        let run = length.min(MAX_COPY);
        let at = out.len();
        out.push(0x80);
        let mut flags = 0x80u8;
        for (bit, byte) in (from as u32).to_le_bytes().into_iter().enumerate() {
            if byte != 0 {
                flags |= 1 << bit;
                out.push(byte);
            }
        }
        for (bit, byte) in (run as u32).to_le_bytes().into_iter().take(3).enumerate() {
            if byte != 0 {
                flags |= 0x10 << bit;
                out.push(byte);
            }
        }
        if let Some(place) = out.get_mut(at) {
            *place = flags;
        }
        from += run;
        length -= run;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn varint(bytes: &mut &[u8]) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn apply(old: &[u8], mut delta: &[u8]) -> Vec<u8> {
        assert_eq!(varint(&mut delta), old.len());
        let size = varint(&mut delta);
        let mut new = Vec::new();
        while let Some((&op, mut rest)) = delta.split_first() {
            let mut take = |flag: u8| {
                if op & flag == 0 {
                    return 0;
                }
                let byte = usize::from(rest[0]);
                rest = &rest[1..];
                byte
            };
            if op & 0x80 != 0 {
                let from = take(1) | take(2) << 8 | take(4) << 16 | take(8) << 24;
                let length = take(16) | take(32) << 8 | take(64) << 16;
                new.extend_from_slice(&old[from..from + length]);
                delta = rest;
            } else {
                new.extend_from_slice(&rest[..usize::from(op)]);
                delta = &rest[usize::from(op)..];
            }
        }
        assert_eq!(new.len(), size);
        new
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_cut_out_moved_and_put_in_comes_back(
            seed in proptest::collection::vec(0u8..4, 0..3_000),
            cuts in proptest::collection::vec((0usize..3_000, 0usize..400, 0usize..3_000), 0..8),
            words in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..40), 0..4),
        ) {
            let mut new = seed.clone();
            for (from, length, to) in cuts {
                let from = from.min(new.len());
                let run: Vec<u8> = new.drain(from..(from + length).min(new.len())).collect();
                let to = to.min(new.len());
                new.splice(to..to, run);
            }
            for (number, word) in words.into_iter().enumerate() {
                let at = (number * 701).min(new.len());
                new.splice(at..at, word);
            }
            if let Some(delta) = delta(&seed, &new) {
                proptest::prop_assert!(delta.len() * 2 <= new.len());
                proptest::prop_assert_eq!(apply(&seed, &delta), new);
            }
        }
    }

    #[test]
    fn a_delta_gives_the_new_version_back() {
        let long: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let mut middle = long.clone();
        middle.splice(70_000..70_010, [7; 300]);
        let appended = [long.as_slice(), b"and more"].concat();
        for (old, new) in [(&long, &middle), (&long, &appended), (&appended, &long), (&long, &long)] {
            assert_eq!(&apply(old, &delta(old, new).unwrap()), new);
        }
        let json = |id: &str, n: u32| {
            let words = "\n  \"status\": \"ok\",\n  \"exit_code\": 0,\n  \"reason\": null,\n  \"detail\": null,";
            format!("{{\n  \"id\": \"{id}\",{words}\n  \"files_changed\": {n}\n}}\n of {id}, twice {n}").into_bytes()
        };
        let (one, other) = (json("first", 17), json("second", 4_711));
        let found = delta(&one, &other).unwrap();
        assert_eq!(apply(&one, &found), other);
        assert!(delta(b"", b"x").is_none());
        assert!(delta(b"abc", b"quite another text").is_none());
        let (less, more) = ([b'a'; 40], [b'a'; 41]);
        assert_eq!(apply(&less, &delta(&less, &more).unwrap()), more, "head and tail must not overlap");
    }
}
