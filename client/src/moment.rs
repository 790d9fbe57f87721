//! Moments as people read them.

/// A moment, in UTC, to the second.
#[must_use]
pub fn when(at_us: i64) -> String {
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(at_us.div_euclid(1_000_000)) else {
        return at_us.to_string();
    };
    let (date, time) = (at.date(), at.time());
    let (hour, minute, second) = time.as_hms();
    let month = u8::from(date.month());
    format!("{}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", date.year(), date.day())
}

#[cfg(test)]
mod tests {
    use super::when;

    #[test]
    fn moments_are_read_in_utc() {
        assert_eq!(when(0), "1970-01-01 00:00:00");
        assert_eq!(when(1_709_210_096_999_999), "2024-02-29 12:34:56");
        assert_eq!(when(-1), "1969-12-31 23:59:59");
        assert_eq!(when(i64::MAX), i64::MAX.to_string());
    }
}
