//! Durations as configuration files and messages write them: `90s`, `10m`, `1h30m`, `24h`.

use std::time::Duration;

/// Units from the longest to the shortest, in milliseconds.
const UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The duration without blanks, as PromQL takes it too (`1h30m`); fractions of a millisecond are cut off.
pub fn compact(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, length) in UNITS {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Serialises a duration in its compact form; `humantime_serde` reads it back.
pub fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&compact(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_durations_are_parsed_to_themselves() {
        for text in ["500ms", "30s", "10m", "1h30m", "1d", "2m5s250ms", "0s"] {
            assert_eq!(compact(humantime::parse_duration(text).unwrap()), text);
        }
        assert_eq!(compact(Duration::from_secs(90)), "1m30s");
    }

    #[test]
    fn notations_of_earlier_versions_are_accepted() {
        for (text, seconds) in [("0", 0), ("24h", 86_400), ("1h30m", 5_400), (" 90s ", 90), ("1d", 86_400)] {
            assert_eq!(humantime::parse_duration(text).ok(), Some(Duration::from_secs(seconds)), "{text:?}");
        }
    }

    #[test]
    fn a_duration_needs_a_unit() {
        for text in ["", "10", "s", "10x", "-1s", "99999999999999999999s"] {
            assert!(humantime::parse_duration(text).is_err(), "{text}");
        }
    }
}
