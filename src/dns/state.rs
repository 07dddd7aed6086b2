//! The records as the provider has them, and as a change leaves them.

use ring::digest;
use serde::{Deserialize, Serialize};

use super::{Marker, OriginalTtl, RecordKey, Share, Side};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    Absent,
    /// An ordinary record with exactly the values of one side, as before and after the cutover.
    Plain(Side),
    /// Both sides with weights as they are stored, in the form that kongferry writes.
    Split {
        blue: u32,
        green: u32,
    },
    /// Anything else, as text for messages: other values, another policy, members that differ in TTL.
    Foreign(String),
}

impl RecordState {
    /// Green's share of new resolutions, if it is known.
    pub fn share(&self) -> Option<Share> {
        match self {
            RecordState::Plain(Side::Blue) => Some(Share::BLUE),
            RecordState::Plain(Side::Green) => Some(Share::GREEN),
            RecordState::Split { blue, green } => Share::from_weights(u64::from(*blue), u64::from(*green)),
            RecordState::Absent | RecordState::Foreign(_) => None,
        }
    }

    /// With weights in lowest terms, so that 99 to 1 and 9900 to 100 are equal.
    fn reduced(&self) -> RecordState {
        match *self {
            RecordState::Split { blue, green } => {
                let divisor = super::share::gcd(blue, green).max(1);
                RecordState::Split { blue: blue / divisor, green: green / divisor }
            }
            ref other => other.clone(),
        }
    }
}

/// A record of the same name that the cutover does not move. AAAA or HTTPS beside a moved A record keep clients on
/// blue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiblingRecord {
    /// As in a zone file.
    #[serde(alias = "type")]
    pub rtype: String,
    /// In seconds.
    pub ttl: u32,
    pub text: String,
}

/// One record as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedRecord {
    pub key: RecordKey,
    pub state: RecordState,
    /// In seconds; `None` when absent.
    pub ttl: Option<u32>,
    /// Empty where the provider does not list them; queries do.
    #[serde(alias = "neighbours")]
    pub siblings: Vec<SiblingRecord>,
    /// What the provider's own code needs to replace the record.
    #[serde(default)]
    pub raw: serde_json::Value,
}

/// Equal when nothing has changed: the provider's own version, or a digest of everything that was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub String);

/// All records of a target as they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// In the order of the target's records, each of them once.
    pub records: Vec<ObservedRecord>,
    pub marker: Option<Marker>,
    /// The text in the place of the marker, valid or not: compare-and-swap needs it verbatim.
    pub marker_text: Option<String>,
    pub version: Version,
}

impl Observed {
    /// The version is a digest of the records and the marker.
    pub fn new(records: Vec<ObservedRecord>, marker_text: Option<String>) -> Self {
        let marker = marker_text.as_deref().and_then(Marker::parse);
        let mut hasher = digest::Context::new(&digest::SHA256);
        // Siblings are not part of it: a change to one is no conflict.
        for record in &records {
            let digested = serde_json::json!([record.key, record.state, record.ttl, record.raw]);
            hasher.update(digested.to_string().as_bytes());
        }
        hasher.update(format!("{marker_text:?}").as_bytes());
        let version = data_encoding::HEXLOWER.encode(hasher.finish().as_ref().get(..16).unwrap_or_default());
        Observed { records, marker, marker_text, version: Version(version) }
    }

    /// The share, if it is the same for all records.
    pub fn share(&self) -> Option<Share> {
        let mut shares = self.records.iter().map(|record| record.state.share());
        let first = shares.next()??;
        shares.all(|share| share == Some(first)).then_some(first)
    }

    pub fn record(&self, key: &RecordKey) -> Option<&ObservedRecord> {
        self.records.iter().find(|record| record.key == *key)
    }

    /// The largest TTL of the records, in seconds: how long resolvers may keep earlier answers.
    pub fn max_ttl(&self) -> u32 {
        self.records.iter().filter_map(|record| record.ttl).max().unwrap_or(0)
    }

    /// 0 without a marker.
    pub fn generation(&self) -> u64 {
        self.marker.as_ref().map_or(0, |marker| marker.generation)
    }

    /// Whether the records (weights in lowest terms, TTLs) and the marker are the same. Ignores the version.
    pub fn matches(&self, other: &Observed) -> bool {
        self.marker_text == other.marker_text && self.has_same_records(other)
    }

    pub fn has_same_records(&self, other: &Observed) -> bool {
        self.records.len() == other.records.len()
            && self.records.iter().zip(&other.records).all(|(left, right)| {
                left.key == right.key
                    && left.ttl == right.ttl
                    && left.state.reduced() == right.state.reduced()
            })
    }
}

/// The form of the records after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordForm {
    /// Unchanged: writes only a marker or a TTL, or rehearses a write.
    AsFound,
    /// Split between both sides. A provider without weights writes one side's values for 0 % and 100 % and refuses
    /// other shares.
    Split(Share),
    /// One side's values in an ordinary record: reverts the conversion by the first `Split`.
    Plain(Side),
}

/// The TTL of the records after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ttl {
    AsFound,
    /// The same for all, in seconds.
    All(u32),
    /// One for each; a record that is not listed keeps its own.
    Each(Vec<OriginalTtl>),
}

impl Ttl {
    /// The TTL of one record; `None` for an absent one that is given none.
    pub(super) fn for_record(&self, found: &ObservedRecord) -> Option<u32> {
        match self {
            Ttl::AsFound => found.ttl,
            Ttl::All(ttl) => Some(*ttl),
            Ttl::Each(ttls) => ttls
                .iter()
                .find(|original| original.key == found.key)
                .map(|original| original.ttl)
                .or(found.ttl),
        }
    }
}

/// Whether a write by another client stops this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precondition {
    /// Nothing may have changed since [`Observed`] was read. The provider compares and swaps, or else the records are
    /// read again right before the write and after it.
    Unchanged,
    /// All records are overwritten: the rollback. Foreign ones too, where the provider can do so without reading them.
    Overwrite,
}

/// The records after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    pub form: RecordForm,
    pub ttl: Ttl,
    /// `None` removes the marker, which ends the run.
    pub marker: Option<Marker>,
    #[serde(alias = "guard")]
    pub precondition: Precondition,
}
