//! What a reflog remembers: where its reference was, oldest first. Lines that a crash cut short are nobody's.

use gix::ObjectId;

/// One move of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// Where it went.
    pub(crate) to: ObjectId,
    /// What for, in the words of whoever moved it.
    pub(crate) why: String,
}

/// A line without its end, if it is whole: `<old> <new> <name> <<mail>> <seconds> <zone>\t<why>`.
fn parse(line: &[u8]) -> Option<Move> {
    // Names and subjects are bytes to git, in whatever encoding; of both, only a mail's end is a `>` before the time.
    let text = String::from_utf8_lossy(line);
    let (who, rest) = text.split_once("> ")?;
    let (time, why) = rest.split_once('\t').unwrap_or((rest, ""));
    let (old, who) = who.split_once(' ')?;
    let (new, _) = who.split_once(' ')?;
    ObjectId::from_hex(old.as_bytes()).ok().filter(|_| old.len() == new.len())?;
    let (seconds, zone) = time.split_once(' ')?;
    let timed = seconds.parse::<i64>().is_ok() && zone.len() == 5 && zone.parse::<i32>().is_ok();
    let to = ObjectId::from_hex(new.as_bytes()).ok()?;
    (timed && !text.contains('\0')).then(|| Move { to, why: why.to_owned() })
}

/// The moves that are whole, oldest first.
pub(crate) fn moves(log: &[u8]) -> Vec<Move> {
    lines(log).filter_map(parse).collect()
}

/// The log without lines that are not whole; `None` where all are.
pub(crate) fn without_damage(log: &[u8]) -> Option<Vec<u8>> {
    let whole: Vec<&[u8]> = lines(log).filter(|line| parse(line).is_some()).collect();
    let mut text = whole.join(&b'\n');
    if !text.is_empty() {
        text.push(b'\n');
    }
    (text != log).then_some(text)
}

fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn is_switch(step: &Move) -> bool {
    step.why.starts_with("checkout: moving from ")
}

/// The branch that HEAD was on last, if its log tells of a switch.
pub(crate) fn last_switch(moves: &[Move]) -> Option<&str> {
    moves.iter().rev().find(|step| is_switch(step))?.why.rsplit(" to ").next()
}

/// The moves of HEAD's since it was switched last: those before are another branch's.
pub(crate) fn since_switch(moves: &[Move]) -> &[Move] {
    let from = moves.iter().rposition(is_switch).unwrap_or_default();
    moves.get(from..).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn line(new: &str, why: &str) -> String {
        format!("{} {new} A Person <a@b> 1700000000 +0100\t{why}\n", "0".repeat(40))
    }

    #[test]
    fn what_is_whole_is_read_and_the_rest_is_left_out() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let log = line(&one, "commit: a") + &line(&two, "commit: b");
        assert_eq!(without_damage(log.as_bytes()), None);
        assert_eq!(moves(log.as_bytes()).last().unwrap().to.to_string(), two);
        let torn = &log.as_bytes()[..log.len() - 60];
        assert_eq!(without_damage(torn).unwrap(), line(&one, "commit: a").as_bytes());
        let zeroed = [&[0; 30], log.as_bytes()].concat();
        assert_eq!(without_damage(&zeroed).unwrap(), line(&two, "commit: b").as_bytes());
        assert_eq!(without_damage(&[0; 9]).unwrap(), b"");
        assert_eq!(without_damage(b""), None);
    }

    #[test]
    fn what_is_no_utf8_is_no_damage() {
        let (zero, one) = ("0".repeat(40), "1".repeat(40));
        let line = |name: &[u8], why: &[u8]| {
            let (ids, time) = (format!("{zero} {one} "), b" <a@b> 1700000000 +0100\t");
            [ids.as_bytes(), name, time, why, b"\n"].concat()
        };
        for (name, why) in [
            (b"J\xf6rg".as_slice(), b"commit: x".as_slice()),
            (b"A Person", b"commit: Fa\xe7ade > 1 +1"),
            (b"A\tTab", b"commit: a\tb"),
        ] {
            let log = line(name, why);
            assert_eq!(without_damage(&log), None, "{log:?}");
            assert_eq!(moves(&log).last().unwrap().to.to_string(), one);
        }
    }

    #[test]
    fn a_switch_names_the_branch() {
        let one = "1".repeat(40);
        let log = line(&one, "checkout: moving from main to team/x") + &line(&one, "commit: to the end");
        assert_eq!(last_switch(&moves(log.as_bytes())), Some("team/x"));
        let before = line(&one, "commit: on main") + &log;
        assert_eq!(since_switch(&moves(before.as_bytes())), moves(log.as_bytes()));
        assert_eq!(last_switch(&moves(line(&one, "commit (initial): a").as_bytes())), None);
    }
}
