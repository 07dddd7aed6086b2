//! What a provider can do, known before anything is asked of it.

use std::time::Duration;

use serde::Serialize;

/// How traffic can be split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// By two whole weights whose sum, in lowest terms, may be at most this: 100 allows every whole per cent.
    Whole {
        /// The largest sum.
        max_sum: u32,
    },
    /// Not at all: 0 % or 100 %.
    SwitchOnly,
}

impl Weights {
    /// What is possible, for the end of an error's sentence.
    pub fn limits(&self) -> String {
        match self {
            Weights::Whole { max_sum } => format!("its weights can add up to {max_sum} at most"),
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
        /// Between two questions.
        interval: Duration,
    },
}

/// What a provider, as it is configured, can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caps {
    /// How traffic is split.
    pub weights: Weights,
    /// What protects from a second writer.
    pub exclusion: Exclusion,
    /// How a write is confirmed.
    pub confirmation: Confirmation,
    /// The least TTL that it accepts, in seconds.
    pub min_ttl: u32,
    /// Whether a resolver always gets the same answer, so that repeated queries from one address say nothing about
    /// the share.
    pub sticky: bool,
    /// How long name servers may go on with the old records after the write was confirmed (caches of replicas).
    pub settle: Duration,
}

impl Caps {
    /// Whether the share can be set.
    pub fn can_split(&self, share: super::Share) -> bool {
        let (blue, green) = share.weights();
        match self.weights {
            Weights::Whole { max_sum } => blue + green <= max_sum,
            Weights::SwitchOnly => share.is_whole(),
        }
    }
}
