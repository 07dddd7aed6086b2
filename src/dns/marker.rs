//! The marker: the state of a cutover, stored at the provider, from which another machine can continue it.
//!
//! It is one line of `key=value` pairs, so that it fits a TXT record or a comment and `dig` shows it.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{RecordKey, RecordType, Share};

/// The first pair; the number is the version of the format.
const HEAD: &str = "kongferry=1";

/// Excludes the characters that need no escaping in zone files, JSON, XML and shells.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':')
    .remove(b'@')
    .remove(b'/')
    .remove(b',');

/// In bytes.
const OWNER_LIMIT: usize = 80;

/// In bytes.
const NOTE_LIMIT: usize = 60;

/// Written with every change, in the same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// One id from `cutover start` to `finish`.
    pub run: Uuid,
    /// Incremented by every write. Of two writers that read the same generation only one succeeds.
    pub generation: u64,
    /// The engine's state: letters, digits and `-`.
    pub state: String,
    /// From 0.
    pub step: u32,
    pub share: Share,
    /// Start of the run; whole seconds.
    pub started_at: DateTime<Utc>,
    /// Whole seconds.
    pub written_at: DateTime<Utc>,
    /// `user@host` of the operator.
    pub owner: String,
    /// Until then no other kongferry process writes, except for a rollback.
    pub lease_until: Option<DateTime<Utc>>,
    /// The TTLs before the run, for `finish`.
    pub originals: Vec<OriginalTtl>,
    /// For operators, such as why the run is paused. Truncated to 60 bytes.
    #[serde(default)]
    pub note: String,
}

/// A record's TTL before the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalTtl {
    pub key: RecordKey,
    /// In seconds.
    pub ttl: u32,
}

impl Marker {
    /// Printable ASCII without quotes, backslashes and semicolons.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{HEAD} run={} gen={} state={} step={} share={} started={} written={} by={}",
            self.run,
            self.generation,
            encoded(&self.state),
            self.step,
            f64::from(self.share.as_basis_points()) / 100.0,
            time(self.started_at),
            time(self.written_at),
            encoded(cut(&self.owner, OWNER_LIMIT)),
        );
        if let Some(until) = self.lease_until {
            let _ = write!(text, " lease={}", time(until));
        }
        for OriginalTtl { key, ttl } in &self.originals {
            // A wildcard's star is encoded.
            let _ = write!(text, " ttl={}", encoded(&format!("{}/{},{ttl}", key.name, key.rtype)));
        }
        if !self.note.is_empty() {
            let _ = write!(text, " note={}", encoded(cut(&self.note, NOTE_LIMIT)));
        }
        text
    }

    /// Parses [`to_text`](Self::to_text); `None` for other texts and later versions. Unknown keys are ignored.
    pub fn parse(text: &str) -> Option<Marker> {
        let rest = text.strip_prefix(HEAD)?;
        let pairs: Vec<(&str, String)> = rest.split_ascii_whitespace().filter_map(parse_pair).collect();
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        let originals = pairs.iter().filter(|(key, _)| *key == "ttl").map(|(_, value)| parse_original(value));
        Some(Marker {
            run: get("run")?.parse().ok()?,
            generation: get("gen")?.parse().ok()?,
            state: get("state")?.to_owned(),
            step: get("step")?.parse().ok()?,
            share: get("share")?.parse().ok()?,
            started_at: get("started")?.parse().ok()?,
            written_at: get("written")?.parse().ok()?,
            owner: get("by")?.to_owned(),
            lease_until: match get("lease") {
                Some(until) => Some(until.parse().ok()?),
                None => None,
            },
            originals: originals.collect::<Option<_>>()?,
            note: get("note").unwrap_or_default().to_owned(),
        })
    }
}

/// The strings of a TXT record with this text, each of at most 255 bytes.
pub(super) fn txt_strings(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (string, rest) = text.split_at(text.floor_char_boundary(255));
        text = rest;
        (!string.is_empty()).then_some(string)
    })
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn parse_pair(text: &str) -> Option<(&str, String)> {
    let (key, value) = text.split_once('=')?;
    Some((key, percent_decode_str(value).decode_utf8().ok()?.into_owned()))
}

/// `api.example.com/A,3600`
fn parse_original(text: &str) -> Option<OriginalTtl> {
    let (key, ttl) = text.rsplit_once(',')?;
    let (name, rtype) = key.rsplit_once('/')?;
    let key = RecordKey { name: name.parse().ok()?, rtype: RecordType::from_name(rtype)? };
    Some(OriginalTtl { key, ttl: ttl.parse().ok()? })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::dns) fn marker(owner: &str, state: &str) -> Marker {
        Marker {
            run: Uuid::from_u128(7),
            generation: 12,
            state: state.to_owned(),
            step: 2,
            share: Share::basis_points(1050).unwrap(),
            started_at: "2026-11-24T01:02:03Z".parse().unwrap(),
            written_at: "2026-11-24T01:07:03Z".parse().unwrap(),
            owner: owner.to_owned(),
            lease_until: Some("2026-11-24T01:12:03Z".parse().unwrap()),
            originals: vec![OriginalTtl {
                key: RecordKey { name: "*.example.com".parse().unwrap(), rtype: RecordType::Aaaa },
                ttl: 3600,
            }],
            note: String::new(),
        }
    }

    #[test]
    fn a_marker_is_one_line_of_pairs() {
        assert_eq!(
            marker("anna@ops-1", "baking").to_text(),
            "kongferry=1 run=00000000-0000-0000-0000-000000000007 gen=12 state=baking step=2 share=10.5 \
             started=2026-11-24T01:02:03Z written=2026-11-24T01:07:03Z by=anna@ops-1 lease=2026-11-24T01:12:03Z \
             ttl=%2A.example.com/AAAA,3600"
        );
    }

    #[test]
    fn long_texts_are_truncated_and_times_are_whole_seconds() {
        let mut long = marker(&"ä".repeat(200), "x");
        long.note = "paused: no traffic ".repeat(10);
        long.written_at += chrono::TimeDelta::milliseconds(900);
        let parsed = Marker::parse(&long.to_text()).unwrap();
        assert_eq!(parsed.owner, "ä".repeat(40));
        assert_eq!(parsed.note, long.note[..60]);
        assert_eq!(parsed.written_at, marker("x", "x").written_at);
    }

    #[test]
    fn other_texts_are_no_markers() {
        for text in ["", "v=spf1 -all", "kongferry=2 run=x", "kongferry=1", "kongferry=1 run=x gen=1"] {
            assert_eq!(Marker::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_marker_survives_its_text_for_any_owner(owner in "\\PC{0,20}", state in "[a-z-]{1,20}") {
            let marker = marker(&owner, &state);
            let text = marker.to_text();
            prop_assert!(text.bytes().all(|c| (0x20..0x7f).contains(&c) && !b"\"\\;'<>&".contains(&c)), "{text}");
            prop_assert_eq!(Marker::parse(&text), Some(marker));
        }
    }
}
