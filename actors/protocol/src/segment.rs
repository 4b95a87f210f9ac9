//! How segments are called, to which artifacts and logs are rolled over: `<folder>/<yyyy>/<mm>/<dd>/<nnnn>/` (contract,
//! section 2). Whoever lists them asks here, so that nobody sees fewer than another.

/// The digits of the folders above a segment: year, month, day. The counter has four or more.
pub const DAY_DIGITS: [usize; 3] = [4, 2, 2];
/// The most digits of a counter.
const NUMBER_DIGITS_MAX: usize = 9;
/// The largest log that is read, in bytes; the bridge's own stay far below.
pub const MAX_LOG_BYTES: u64 = 1 << 30;

/// A segment's counter by its folder's name, spelled as the bridge spells it; `None` where that is no segment.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    let plain = (4..=NUMBER_DIGITS_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_digit());
    // So that the number leads back to the folder.
    name.parse().ok().filter(|number: &u32| plain && format!("{number:04}") == name)
}

/// Whether `name` is that of a folder at this level beneath one that rolls over: 0 to 2 for the day, 3 for the segment.
#[must_use]
pub fn is_level(level: usize, name: &str) -> bool {
    match DAY_DIGITS.get(level) {
        Some(digits) => name.len() == *digits && name.bytes().all(|byte| byte.is_ascii_digit()),
        None => level == DAY_DIGITS.len() && number(name).is_some(),
    }
}

/// By what paths of segments and of what lies in them stand in their order, `9999` before `10000`.
#[must_use]
pub fn order(path: &str) -> Vec<(usize, &str)> {
    path.split('/').map(|part| (part.len(), part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_four_digits_or_more_and_one_spelling() {
        assert_eq!(["0000", "0012", "10000"].map(number), [Some(0), Some(12), Some(10_000)]);
        assert_eq!(["12", "00012", "0x12", "", "99999999999"].map(number), [None; 5]);
        assert!(is_level(0, "2026") && is_level(2, "01") && is_level(3, "10000"));
        assert!(!is_level(0, "10000") && !is_level(3, "12") && !is_level(4, "0000"));
        assert!(order("logs/2026/01/02/9999/x") < order("logs/2026/01/02/10000/x"));
    }
}
