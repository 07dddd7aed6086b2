//! The capabilities of a provider, known without a request to it.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// Two integer weights in lowest terms with at most this sum: 100 allows every whole per cent.
    Whole { max_sum: u32 },
    /// No weights: 0 % or 100 %.
    #[default]
    SwitchOnly,
}

impl Weights {
    /// A clause about the provider, for messages.
    pub fn limits(&self) -> String {
        match self {
            Weights::Whole { max_sum } => format!("the sum of its weights is at most {max_sum}"),
            Weights::SwitchOnly => "it has no weights and sets only 0 % and 100 %".to_owned(),
        }
    }
}

/// How a write is protected from a second writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// The provider compares and swaps: the second of two writers gets a conflict and writes nothing.
    CompareAndSwap,
    /// Records and marker are read before and after the write: a concurrent write is detected, not prevented. The
    /// lease in the marker separates operators.
    #[default]
    ReadBack,
}

/// How the provider confirms that a write has reached its name servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// By the response to the write.
    #[default]
    Immediate,
    /// By [`confirm`](super::DnsProvider::confirm), called at this interval.
    Poll {
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        interval: Duration,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub weights: Weights,
    pub exclusion: Exclusion,
    pub confirmation: Confirmation,
    /// In seconds.
    pub min_ttl: u32,
    /// Whether a resolver always gets the same answer: then queries from one address do not measure the share.
    pub sticky: bool,
    /// Whether answers do not show the side, as behind a proxy: then queries only check that name servers answer, and
    /// the share is known from the provider and from counters.
    pub hidden: bool,
    /// How long name servers may answer with the old records after the write was confirmed (caches of replicas).
    #[serde(rename = "settle_seconds", serialize_with = "as_seconds")]
    pub settle: Duration,
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_secs())
}

impl Capabilities {
    /// One line for `cutover plan`.
    pub fn summary(&self) -> String {
        let mut parts = vec![self.weights.limits()];
        parts.push(match self.exclusion {
            Exclusion::CompareAndSwap => "a concurrent write is refused".to_owned(),
            Exclusion::ReadBack => "a concurrent write is detected".to_owned(),
        });
        parts.push(match self.confirmation {
            Confirmation::Immediate => "writes are confirmed at once".to_owned(),
            Confirmation::Poll { interval } => {
                format!("writes are confirmed by polling every {} s", interval.as_secs())
            }
        });
        if self.min_ttl > 0 {
            parts.push(format!("no TTL below {} s", self.min_ttl));
        }
        if self.sticky {
            parts.push("each resolver always gets the same side".to_owned());
        }
        if self.hidden {
            parts.push("answers do not show the side".to_owned());
        }
        parts.join("; ")
    }

    pub fn can_split(&self, share: super::Share) -> bool {
        let (blue, green) = share.weights();
        match self.weights {
            Weights::Whole { max_sum } => blue + green <= max_sum,
            Weights::SwitchOnly => share.is_whole(),
        }
    }
}
