//! The marker: what the provider itself can say about a cutover to somebody who has lost everything else.
//!
//! It is one line of `key=value` pairs, so that it fits a TXT record or a comment and can be read with `dig`.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{RecordKey, RecordType, Share};

/// Which the text begins with; the number is the version of the format.
const HEAD: &str = "kongferry=1";

/// Characters that stay as they are in a value: nothing that a zone file, JSON, XML or a shell would read otherwise.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':')
    .remove(b'@')
    .remove(b'/')
    .remove(b',');

/// Longest owner that is kept, in bytes.
const OWNER_LIMIT: usize = 80;

/// Longest note that is kept, in bytes.
const NOTE_LIMIT: usize = 60;

/// What is written beside the records with every change, in the same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The run of `cutover`, from `start` to `finish`.
    pub run: Uuid,
    /// One more with every write of whoever it is. Two writers that read the same generation cannot both succeed.
    pub generation: u64,
    /// The engine's own word for where it stands; letters, digits and `-`.
    pub state: String,
    /// The step, from 0.
    pub step: u32,
    /// The share that this write sets.
    pub share: Share,
    /// When the run began; whole seconds.
    pub started_at: DateTime<Utc>,
    /// When this was written; whole seconds.
    pub written_at: DateTime<Utc>,
    /// Who is at work, `user@host`.
    pub owner: String,
    /// Until when nobody else should write. A rollback does not ask.
    pub lease_until: Option<DateTime<Utc>>,
    /// The TTLs before the run, so that they can be restored from the provider alone.
    pub originals: Vec<OriginalTtl>,
    /// A few words for people, such as why the run was paused. Cut to 60 bytes.
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
    /// The text that is kept at the provider: printable ASCII without quotes, backslashes and semicolons.
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

    /// Reads [`to_text`](Self::to_text); `None` when it is something else or of a later version. Keys it does not
    /// know are left alone.
    pub fn parse(text: &str) -> Option<Marker> {
        let rest = text.strip_prefix(HEAD)?;
        let pairs: Vec<(&str, String)> = rest.split_ascii_whitespace().filter_map(pair).collect();
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        let originals = pairs.iter().filter(|(key, _)| *key == "ttl").map(|(_, value)| original(value));
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

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn pair(text: &str) -> Option<(&str, String)> {
    let (key, value) = text.split_once('=')?;
    Some((key, percent_decode_str(value).decode_utf8().ok()?.into_owned()))
}

/// `api.example.com/A,3600`
fn original(text: &str) -> Option<OriginalTtl> {
    let (key, ttl) = text.rsplit_once(',')?;
    let (name, rtype) = key.rsplit_once('/')?;
    let key = RecordKey { name: name.parse().ok()?, rtype: RecordType::named(rtype)? };
    Some(OriginalTtl { key, ttl: ttl.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marker(owner: &str, state: &str) -> Marker {
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
    fn a_marker_can_be_read_by_people() {
        assert_eq!(
            marker("anna@ops-1", "baking").to_text(),
            "kongferry=1 run=00000000-0000-0000-0000-000000000007 gen=12 state=baking step=2 share=10.5 \
             started=2026-11-24T01:02:03Z written=2026-11-24T01:07:03Z by=anna@ops-1 lease=2026-11-24T01:12:03Z \
             ttl=%2A.example.com/AAAA,3600"
        );
    }

    #[test]
    fn long_words_are_cut_and_times_are_whole_seconds() {
        let mut long = marker(&"ä".repeat(200), "x");
        long.note = "paused: no traffic ".repeat(10);
        long.written_at += chrono::TimeDelta::milliseconds(900);
        let read = Marker::parse(&long.to_text()).unwrap();
        assert_eq!(read.owner, "ä".repeat(40));
        assert_eq!(read.note, long.note[..60]);
        assert_eq!(read.written_at, marker("x", "x").written_at);
    }

    #[test]
    fn what_is_not_a_marker_is_none() {
        for text in ["", "v=spf1 -all", "kongferry=2 run=x", "kongferry=1", "kongferry=1 run=x gen=1"] {
            assert_eq!(Marker::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_marker_comes_back_whatever_the_owner_is_called(owner in "\\PC{0,20}", state in "[a-z-]{1,20}") {
            let marker = marker(&owner, &state);
            let text = marker.to_text();
            prop_assert!(text.bytes().all(|c| (0x20..0x7f).contains(&c) && !b"\"\\;'<>&".contains(&c)), "{text}");
            prop_assert_eq!(Marker::parse(&text), Some(marker));
        }
    }
}
