//! The capabilities of a provider, known without a request.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// By two whole weights whose sum, in lowest terms, may be at most this: 100 allows every whole per cent.
    Whole { max_sum: u32 },
    /// Not at all: 0 % or 100 %.
    SwitchOnly,
}

impl Weights {
    /// What is possible, for the end of an error's sentence.
    pub fn limits(&self) -> String {
        match self {
            Weights::Whole { max_sum } => format!("its weights can add up to at most {max_sum}"),
            Weights::SwitchOnly => "it has no weights and can only switch between 0 % and 100 %".to_owned(),
        }
    }
}

/// What protects from a second writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// The provider compares and swaps: of two writers one gets a conflict and nothing is written.
    CompareAndSwap,
    /// The marker is read before and after the write: a second writer is noticed, a moment of overlap remains. The
    /// lease in the marker is what keeps people apart.
    ReadBack,
}

/// How the provider says that a write has reached its name servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// The answer to the write says it.
    Immediate,
    /// By [`confirm`](super::DnsProvider::confirm), asked again at this interval.
    Poll {
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        interval: Duration,
    },
}

/// What a provider, as it is configured, can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub weights: Weights,
    /// What protects from a second writer.
    pub exclusion: Exclusion,
    pub confirmation: Confirmation,
    /// The least TTL that it accepts, in seconds.
    pub min_ttl: u32,
    /// Whether a resolver always gets the same answer, so that repeated queries from one address say nothing about
    /// the share.
    pub sticky: bool,
    /// Whether answers do not show the side: a proxy's own addresses are answered for both. Then name servers can only
    /// be asked whether they answer at all, and the share is what the provider says and what counters measure.
    pub hidden: bool,
    /// How long name servers may go on with the old records after the write was confirmed (caches of replicas).
    #[serde(rename = "settle_seconds", serialize_with = "as_seconds")]
    pub settle: Duration,
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_secs())
}

impl Capabilities {
    /// All of them in one sentence without a full stop.
    pub fn summary(&self) -> String {
        let mut parts = vec![match self.weights {
            Weights::Whole { max_sum } => format!("weights that add up to at most {max_sum}"),
            Weights::SwitchOnly => "no weights, only 0 % and 100 %".to_owned(),
        }];
        parts.push(match self.exclusion {
            Exclusion::CompareAndSwap => "of two concurrent writers one is refused".to_owned(),
            Exclusion::ReadBack => "a concurrent writer is detected".to_owned(),
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

    /// Whether the share can be set.
    pub fn can_split(&self, share: super::Share) -> bool {
        let (blue, green) = share.weights();
        match self.weights {
            Weights::Whole { max_sum } => blue + green <= max_sum,
            Weights::SwitchOnly => share.is_whole(),
        }
    }
}
