//! Instants as documents and artifacts write them (RFC 3339).

use chrono::{DateTime, SecondsFormat, Utc};

/// An instant in UTC with milliseconds, as the artifacts write it: `2026-01-02T03:04:05.678Z`.
#[must_use]
pub fn format_utc(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Reads an RFC 3339 instant with an offset, as section 5.6 of the RFC has it: `T` between date and time, `Z` or a
/// numeric offset at the end. Fractions finer than a nanosecond are cut.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<DateTime<Utc>> {
    // chrono also takes a space where the RFC's grammar has `T`; one spelling keeps readers in other languages safe.
    let has_t = matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    if !has_t || text.len() > 64 {
        return None;
    }
    DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_offsets_and_refuses_local_times() {
        let instant = parse_rfc3339("2025-08-09T08:24:51+02:00").unwrap();
        assert_eq!(format_utc(instant), "2025-08-09T06:24:51.000Z");
        assert!(parse_rfc3339("2025-08-09T06:24:51.5Z").is_some());
        for bad in
            ["2025-08-09T06:24:51", "2025-08-09 06:24:51Z", "2025-02-30T00:00:00Z", "", "now", "2025-08-09T06:24:51 Z"]
        {
            assert!(parse_rfc3339(bad).is_none(), "{bad}");
        }
    }
}
