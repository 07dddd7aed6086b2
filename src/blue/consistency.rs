//! How many replicas must answer a read, and what may go wrong with fewer than all.

use std::fmt;

use scylla::statement::Consistency;

use crate::error::{Error, Result};

/// How many replicas must answer a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadConsistency {
    #[default]
    All,
    EachQuorum,
    Quorum,
    LocalQuorum,
    Three,
    Two,
    LocalOne,
    One,
}

impl ReadConsistency {
    /// All of them, the safest first.
    pub const EVERY: [ReadConsistency; 8] = [
        ReadConsistency::All,
        ReadConsistency::EachQuorum,
        ReadConsistency::Quorum,
        ReadConsistency::LocalQuorum,
        ReadConsistency::Three,
        ReadConsistency::Two,
        ReadConsistency::LocalOne,
        ReadConsistency::One,
    ];

    /// Its name in the address.
    pub fn name(self) -> &'static str {
        self.properties().0
    }

    pub fn level(self) -> Consistency {
        self.properties().1
    }

    /// What may go wrong with it, one sentence.
    pub fn risk(self) -> &'static str {
        self.properties().2
    }

    /// Name, level and risk. Kong writes at ONE unless told otherwise, so a row may exist on one replica only.
    fn properties(self) -> (&'static str, Consistency, &'static str) {
        match self {
            ReadConsistency::All => (
                "all",
                Consistency::All,
                "All replicas must answer: no written row is missed, and one node that is down stops the run.",
            ),
            ReadConsistency::EachQuorum => (
                "each_quorum",
                Consistency::EachQuorum,
                "A row that Kong wrote at ONE is missed if only a minority of each datacenter's replicas has it.",
            ),
            ReadConsistency::Quorum => (
                "quorum",
                Consistency::Quorum,
                "A row that Kong wrote at ONE is missed if only a minority of the replicas has it; safe after a full \
                 repair, or where Kong writes at QUORUM.",
            ),
            ReadConsistency::LocalQuorum => (
                "local_quorum",
                Consistency::LocalQuorum,
                "A row that Kong wrote at ONE is missed if it has not reached most replicas of this datacenter; safe \
                 after a full repair.",
            ),
            ReadConsistency::Three => (
                "three",
                Consistency::Three,
                "A row that Kong wrote at ONE is missed if none of the three replicas that answer has it.",
            ),
            ReadConsistency::Two => (
                "two",
                Consistency::Two,
                "A row that Kong wrote at ONE is missed if neither of the two replicas that answer has it.",
            ),
            ReadConsistency::LocalOne => (
                "local_one",
                Consistency::LocalOne,
                "A row is missed if the one replica of this datacenter that answers does not have it; safe only after \
                 a full repair with no writes since.",
            ),
            ReadConsistency::One => (
                "one",
                Consistency::One,
                "A row is missed if the one replica that answers does not have it; safe only after a full repair with \
                 no writes since.",
            ),
        }
    }

    /// Whether it counts the replicas of one datacenter only, so that the datacenter must be known.
    pub fn is_local(self) -> bool {
        matches!(self, ReadConsistency::LocalQuorum | ReadConsistency::LocalOne)
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let name = text.to_ascii_lowercase().replace('-', "_");
        ReadConsistency::EVERY.into_iter().find(|c| c.name() == name).ok_or_else(|| {
            let names: Vec<&str> = ReadConsistency::EVERY.iter().map(|c| c.name()).collect();
            Error::usage(format!("\"{text}\" is not a read consistency"))
                .remedy(format!("Use one of {}.", names.join(", ")))
        })
    }
}

impl fmt::Display for ReadConsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_consistency_has_its_own_name_and_risk() {
        for consistency in ReadConsistency::EVERY {
            assert_eq!(ReadConsistency::parse(consistency.name()).expect("its own name"), consistency);
            assert_eq!(consistency.level().to_string().to_lowercase(), consistency.name().replace('_', ""));
            assert!(consistency.risk().ends_with('.'));
        }
        let risks: std::collections::BTreeSet<_> = ReadConsistency::EVERY.iter().map(|c| c.risk()).collect();
        assert_eq!(risks.len(), ReadConsistency::EVERY.len());
    }
}
