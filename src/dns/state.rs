//! What stands at the provider, and what is wanted there.

use ring::digest;
use serde::{Deserialize, Serialize};

use super::{Marker, RecordKey, Share, Side};

/// How a record stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// There is none of this name and type.
    Absent,
    /// An ordinary record with exactly the values of one side: how it stood before the cutover, and stands after it.
    Plain(Side),
    /// Both sides with weights, in the provider's own form as this module writes it. Weights are as they are stored.
    Split { blue: u32, green: u32 },
    /// Anything else: other values, another policy, members that differ in TTL. The text is for people.
    Foreign(String),
}

impl RecordState {
    /// The share of new resolutions that green gets, if that can be said.
    pub fn share(&self) -> Option<Share> {
        match self {
            RecordState::Plain(Side::Blue) => Some(Share::BLUE),
            RecordState::Plain(Side::Green) => Some(Share::GREEN),
            RecordState::Split { blue, green } => Share::from_weights(u64::from(*blue), u64::from(*green)),
            RecordState::Absent | RecordState::Foreign(_) => None,
        }
    }

    /// The same state with its weights in lowest terms, so that 99 to 1 and 9900 to 100 are equal.
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

/// Another record of the same name that the cutover does not move. AAAA or HTTPS beside a moved A record keep traffic
/// where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiblingRecord {
    /// Its type, as in a zone file.
    pub rtype: String,
    /// Its TTL in seconds.
    pub ttl: u32,
    pub text: String,
}

/// One record as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedRecord {
    pub key: RecordKey,
    pub state: RecordState,
    /// Its TTL in seconds; `None` when absent.
    pub ttl: Option<u32>,
    /// What else has this name and is not part of the target. Empty where a provider cannot tell; queries can.
    #[serde(alias = "neighbours")]
    pub siblings: Vec<SiblingRecord>,
    /// What the provider needs to write the record back as it was or to replace it. No business of anybody else.
    #[serde(default)]
    pub raw: serde_json::Value,
}

/// A stamp of everything that was read: equal when nothing has changed. Providers with a version of their own use it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub String);

/// The whole target as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// In the order of the target's records, each of them once.
    pub records: Vec<ObservedRecord>,
    /// The marker, if there is one that can be read.
    pub marker: Option<Marker>,
    /// The text that stands where the marker belongs, read or not: compare-and-swap needs it to the letter.
    pub marker_text: Option<String>,
    pub version: Version,
}

impl Observed {
    /// Puts what was read together; the version is a digest of it.
    pub fn new(records: Vec<ObservedRecord>, marker_text: Option<String>) -> Self {
        let marker = marker_text.as_deref().and_then(Marker::parse);
        let mut hasher = digest::Context::new(&digest::SHA256);
        // Sibling records are not part of it: a change of theirs is no conflict.
        for record in &records {
            let seen = serde_json::json!([record.key, record.state, record.ttl, record.raw]);
            hasher.update(seen.to_string().as_bytes());
        }
        hasher.update(format!("{marker_text:?}").as_bytes());
        let stamp = data_encoding::HEXLOWER.encode(hasher.finish().as_ref().get(..16).unwrap_or_default());
        Observed { records, marker, marker_text, version: Version(stamp) }
    }

    /// The share that all records agree on.
    pub fn share(&self) -> Option<Share> {
        let mut shares = self.records.iter().map(|record| record.state.share());
        let first = shares.next()??;
        shares.all(|share| share == Some(first)).then_some(first)
    }

    /// The record of that name and type.
    pub fn record(&self, key: &RecordKey) -> Option<&ObservedRecord> {
        self.records.iter().find(|record| record.key == *key)
    }

    /// The largest TTL of the target's records: how long resolvers may hold what was answered before.
    pub fn max_ttl(&self) -> u32 {
        self.records.iter().filter_map(|record| record.ttl).max().unwrap_or(0)
    }

    /// The generation in the marker; 0 without one.
    pub fn generation(&self) -> u64 {
        self.marker.as_ref().map_or(0, |marker| marker.generation)
    }

    /// Whether records (weights in lowest terms, TTLs) and marker are the same, whatever the version says.
    pub fn matches(&self, other: &Observed) -> bool {
        self.marker_text == other.marker_text && self.has_same_records(other)
    }

    /// Whether the records alone are the same.
    pub fn has_same_records(&self, other: &Observed) -> bool {
        self.records.len() == other.records.len()
            && self.records.iter().zip(&other.records).all(|(one, two)| {
                one.key == two.key && one.ttl == two.ttl && one.state.reduced() == two.state.reduced()
            })
    }
}

/// The form that the records shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordForm {
    /// The form they have. Used to write a marker or a TTL only, and to rehearse a write that changes nothing.
    AsFound,
    /// Split between both sides. A provider that can only switch writes one side's values for 0 % and 100 % and
    /// refuses the rest.
    Split(Share),
    /// One side's values in an ordinary record: undoes the conversion that the first `Split` made.
    Plain(Side),
}

/// The TTL that the records shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ttl {
    AsFound,
    /// The same for all, in seconds.
    All(u32),
    /// One for each; a record that is not listed keeps its own.
    Each(Vec<super::OriginalTtl>),
}

/// Whether somebody else's write in between stops this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precondition {
    /// Nothing may have changed since [`Observed`] was read. Where the provider can compare and swap it does;
    /// elsewhere it is read once more right before the write and once after it, and a foreign marker is a conflict.
    Unchanged,
    /// Whatever stands there is overwritten: the rollback. A record that is not ours is overwritten too where the
    /// provider can do that without knowing it.
    Overwrite,
}

/// What one change shall bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    pub form: RecordForm,
    pub ttl: Ttl,
    /// The new marker; `None` removes it, which ends the run.
    pub marker: Option<Marker>,
    #[serde(alias = "guard")]
    pub precondition: Precondition,
}
