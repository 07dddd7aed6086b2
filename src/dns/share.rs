//! Green's share of new resolutions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// Stored as basis points (0.01 %), so that comparisons and weights are exact. In files a number of per cent: `1`,
/// `12.5`, `"0.5"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(u16);

impl Share {
    pub const BLUE: Share = Share(0);
    pub const GREEN: Share = Share(10_000);

    /// `None` above 100.
    pub const fn percent(percent: u16) -> Option<Share> {
        if percent <= 100 { Some(Share(percent * 100)) } else { None }
    }

    /// `None` above 10,000.
    pub const fn basis_points(points: u16) -> Option<Share> {
        if points <= 10_000 { Some(Share(points)) } else { None }
    }

    pub const fn as_basis_points(self) -> u16 {
        self.0
    }

    /// Between 0 and 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether one side gets everything.
    pub const fn is_whole(self) -> bool {
        self.0 == 0 || self.0 == 10_000
    }

    /// The smallest whole weights `(blue, green)` with this share: (99, 1) for 1 %.
    pub fn weights(self) -> (u32, u32) {
        let (green, blue) = (u32::from(self.0), 10_000 - u32::from(self.0));
        let divisor = gcd(blue, green);
        (blue / divisor, green / divisor)
    }

    /// `None` for 0 and 0, and for a share that is no whole number of basis points.
    pub fn from_weights(blue: u64, green: u64) -> Option<Share> {
        let sum = blue.checked_add(green)?;
        let scaled = green.checked_mul(10_000)?;
        if sum == 0 || scaled % sum != 0 {
            return None;
        }
        u16::try_from(scaled / sum).ok().map(Share)
    }
}

pub(super) fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl fmt::Display for Share {
    /// `1 %`, `12.5 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 100.0)
    }
}

impl FromStr for Share {
    type Err = Error;

    /// A number of per cent, with or without `%`.
    fn from_str(text: &str) -> Result<Self> {
        let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
        number.ok().and_then(from_percent).ok_or_else(|| invalid_share(text))
    }
}

fn from_percent(percent: f64) -> Option<Share> {
    let points = percent * 100.0;
    let rounded = points.round();
    // 0.29 * 100 differs from 29 by a rounding error; a third decimal differs by more.
    if !(0.0..=10_000.0).contains(&rounded) || (points - rounded).abs() > 1e-6 {
        return None;
    }
    // Checked above: in range and whole.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(Share(rounded as u16))
}

fn invalid_share(text: &str) -> Error {
    Error::usage(format!(
        "\"{}\" is not a share: expected 0 to 100 (per cent) with at most two decimals",
        text.escape_debug()
    ))
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 100.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum ShareToml {
            Number(f64),
            Text(String),
        }
        let parsed = match ShareToml::deserialize(deserializer)? {
            ShareToml::Number(number) => {
                from_percent(number).ok_or_else(|| invalid_share(&number.to_string()))
            }
            ShareToml::Text(text) => text.parse(),
        };
        parsed.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_in_lowest_terms() {
        let weights = |points| Share::basis_points(points).unwrap().weights();
        assert_eq!(weights(0), (1, 0));
        assert_eq!(weights(100), (99, 1));
        assert_eq!(weights(500), (19, 1));
        assert_eq!(weights(1250), (7, 1));
        assert_eq!(weights(10_000), (0, 1));
    }

    #[test]
    fn a_share_survives_its_weights_and_its_text() {
        for points in 0..=10_000 {
            let share = Share::basis_points(points).unwrap();
            let (blue, green) = share.weights();
            assert_eq!(Share::from_weights(blue.into(), green.into()), Some(share));
            assert_eq!(share.to_string().parse::<Share>().unwrap(), share);
        }
        assert_eq!(Share::from_weights(0, 0), None);
        assert_eq!(Share::from_weights(2, 1), None);
    }

    #[test]
    fn a_share_has_at_most_two_decimals() {
        assert_eq!("0.29 %".parse::<Share>().unwrap().as_basis_points(), 29);
        for invalid in ["", "101", "-1", "0.001", "NaN", "one"] {
            assert!(invalid.parse::<Share>().is_err(), "{invalid}");
        }
    }
}
