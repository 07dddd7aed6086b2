//! The share of one server's answers, judged by the binomial distribution.

use std::fmt;

use super::NameServer;
use crate::dns::{RecordKey, Share};

/// The tolerated distance of the measured share from the expected one, in standard deviations.
const Z_LIMIT: f64 = 4.0;

/// Why clients cannot use an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerFault {
    /// Also the answer of invalid Lua.
    ServFail,
    NxDomain,
    /// The name exists, without a record of the type.
    NoData,
    Refused,
    BothSides,
    OtherValue,
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AnswerFault::ServFail => "SERVFAIL",
            AnswerFault::NxDomain => "NXDOMAIN",
            AnswerFault::NoData => "no record of the type",
            AnswerFault::Refused => "an error code",
            AnswerFault::BothSides => "values of both sides",
            AnswerFault::OtherValue => "a value of neither side",
        })
    }
}

/// Answers with the same fault; `example` is one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultyAnswers {
    pub fault: AnswerFault,
    pub count: u32,
    pub example: String,
}

/// The answers of one server about one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareMeasurement {
    pub server: NameServer,
    pub key: RecordKey,
    /// The planned number of queries.
    pub queries: u32,
    pub blue: u32,
    pub green: u32,
    /// Answers with values of neither side, if a side is an alias, whose addresses may have changed.
    pub ambiguous: u32,
    pub faulty: Vec<FaultyAnswers>,
    pub unanswered: u32,
    /// The error of the last unanswered query.
    pub last_error: Option<String>,
    /// Smallest and largest TTL of good answers, in seconds.
    pub ttl: Option<(u32, u32)>,
}

/// The comparison of a measurement with the expected share.
#[derive(Debug, Clone, PartialEq)]
pub enum ShareVerdict {
    Good,
    /// Right after a change the server may not have it yet.
    ShareDiffers {
        /// Standard deviations between measured and expected share; infinite for answers of a side with share 0.
        z: f64,
    },
    /// The server has old data.
    TtlDiffers,
    /// Clients get unusable answers.
    Faulty,
    TooFewAnswers,
}

impl ShareMeasurement {
    /// Before the first query.
    pub(super) fn new(server: &NameServer, key: &RecordKey, queries: u32) -> Self {
        ShareMeasurement {
            server: server.clone(),
            key: key.clone(),
            queries,
            blue: 0,
            green: 0,
            ambiguous: 0,
            faulty: Vec::new(),
            unanswered: 0,
            last_error: None,
            ttl: None,
        }
    }

    /// Green's share of the good answers, between 0 and 1.
    pub fn fraction(&self) -> Option<f64> {
        let good = self.blue + self.green;
        (good > 0).then(|| f64::from(self.green) / f64::from(good))
    }

    /// Distance of the measured share from `share`, in standard deviations of the binomial distribution.
    fn z(&self, share: Share) -> Option<f64> {
        let n = f64::from(self.blue + self.green);
        if n == 0.0 {
            return None;
        }
        let (p, green) = (share.fraction(), f64::from(self.green));
        if share.is_whole() {
            // The variance is 0: one answer of the other side is a difference.
            let unexpected = if share == Share::BLUE { self.green } else { self.blue };
            return Some(if unexpected == 0 { 0.0 } else { f64::INFINITY });
        }
        Some((green - n * p) / (n * p * (1.0 - p)).sqrt())
    }

    /// For answers that do not show the side: clients must get an answer with any values.
    pub fn judge_without_sides(&self) -> ShareVerdict {
        let has_values =
            |faulty: &FaultyAnswers| matches!(faulty.fault, AnswerFault::OtherValue | AnswerFault::BothSides);
        if !self.faulty.iter().all(has_values) {
            return ShareVerdict::Faulty;
        }
        if self.unanswered > self.queries / 2 { ShareVerdict::TooFewAnswers } else { ShareVerdict::Good }
    }

    /// With `sticky` (an address always gets the same answer) answers of one side are good for every share between 0 %
    /// and 100 %. `ttl` is the expected TTL, if it is known.
    pub fn judge(&self, share: Share, sticky: bool, ttl: Option<u32>) -> ShareVerdict {
        if !self.faulty.is_empty() {
            return ShareVerdict::Faulty;
        }
        let good = self.blue + self.green;
        if good == 0 || self.unanswered + self.ambiguous > self.queries / 2 {
            return ShareVerdict::TooFewAnswers;
        }
        // An authoritative server answers with the stored TTL, not with a remaining one.
        if ttl.is_some_and(|expected| self.ttl != Some((expected, expected))) {
            return ShareVerdict::TtlDiffers;
        }
        let is_one_sided = self.blue == 0 || self.green == 0;
        if sticky && is_one_sided && !share.is_whole() {
            return ShareVerdict::Good;
        }
        match self.z(share) {
            Some(z) if z.abs() < Z_LIMIT => ShareVerdict::Good,
            Some(z) => ShareVerdict::ShareDiffers { z },
            None => ShareVerdict::TooFewAnswers,
        }
    }
}

impl fmt::Display for ShareMeasurement {
    /// `ns1.example.com (192.0.2.53): 18 of 2000 answers are green (0.90 %)`, then the faults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} answers are green", self.server, self.green, self.blue + self.green)?;
        if let Some(fraction) = self.fraction() {
            write!(f, " ({:.2} %)", fraction * 100.0)?;
        }
        for FaultyAnswers { fault, count, example } in &self.faulty {
            write!(f, ", {count} with {fault} ({example})")?;
        }
        if self.unanswered > 0 {
            let reason = self.last_error.as_deref().unwrap_or("no error reported");
            write!(f, ", {} queries without an answer ({reason})", self.unanswered)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::RecordType;

    fn measured(blue: u32, green: u32) -> ShareMeasurement {
        let server = NameServer { name: "ns1".to_owned(), address: "192.0.2.53:53".parse().unwrap() };
        let key = RecordKey { name: "api.example.com".parse().unwrap(), rtype: RecordType::A };
        let empty = ShareMeasurement::new(&server, &key, blue + green);
        ShareMeasurement { blue, green, ttl: Some((30, 30)), ..empty }
    }

    fn faulty(fault: AnswerFault, count: u32) -> FaultyAnswers {
        FaultyAnswers { fault, count, example: "192.0.2.77".to_owned() }
    }

    fn percent(percent: u16) -> Share {
        Share::percent(percent).unwrap()
    }

    #[test]
    fn random_deviations_are_good_and_another_share_is_not() {
        assert_eq!(measured(1980, 20).judge(percent(1), false, None), ShareVerdict::Good);
        assert_eq!(measured(1965, 35).judge(percent(1), false, None), ShareVerdict::Good);
        assert!(
            matches!(measured(1900, 100).judge(percent(1), false, None), ShareVerdict::ShareDiffers { z } if z > 15.0)
        );
        assert!(matches!(
            measured(2000, 0).judge(percent(1), false, None),
            ShareVerdict::ShareDiffers { .. }
        ));
    }

    #[test]
    fn at_0_and_100_percent_one_answer_of_the_other_side_differs() {
        assert_eq!(measured(2000, 0).judge(Share::BLUE, false, None), ShareVerdict::Good);
        assert_eq!(
            measured(1999, 1).judge(Share::BLUE, false, None),
            ShareVerdict::ShareDiffers { z: f64::INFINITY }
        );
        assert_eq!(
            measured(1, 1999).judge(Share::GREEN, true, None),
            ShareVerdict::ShareDiffers { z: f64::INFINITY }
        );
    }

    #[test]
    fn a_sticky_server_may_answer_with_one_side() {
        assert_eq!(measured(2000, 0).judge(percent(10), true, None), ShareVerdict::Good);
        assert!(matches!(
            measured(1000, 1000).judge(percent(10), true, None),
            ShareVerdict::ShareDiffers { .. }
        ));
    }

    #[test]
    fn behind_a_proxy_any_values_are_good_and_missing_answers_are_not() {
        let mut proxied = measured(0, 0);
        proxied.queries = 10;
        proxied.faulty.push(faulty(AnswerFault::OtherValue, 10));
        assert_eq!(proxied.judge_without_sides(), ShareVerdict::Good);
        proxied.faulty.push(faulty(AnswerFault::ServFail, 1));
        assert_eq!(proxied.judge_without_sides(), ShareVerdict::Faulty);
        let mut silent = measured(0, 0);
        (silent.queries, silent.unanswered) = (10, 9);
        assert_eq!(silent.judge_without_sides(), ShareVerdict::TooFewAnswers);
    }

    #[test]
    fn faulty_missing_and_outdated_answers_are_never_good() {
        let mut broken = measured(1999, 0);
        broken.faulty.push(faulty(AnswerFault::ServFail, 1));
        assert_eq!(broken.judge(Share::BLUE, false, None), ShareVerdict::Faulty);
        let mut silent = measured(10, 0);
        (silent.queries, silent.unanswered) = (100, 90);
        assert_eq!(silent.judge(Share::BLUE, false, None), ShareVerdict::TooFewAnswers);
        assert_eq!(measured(0, 0).judge(Share::BLUE, false, None), ShareVerdict::TooFewAnswers);
        assert_eq!(measured(10, 0).judge(Share::BLUE, false, Some(60)), ShareVerdict::TtlDiffers);
    }
}
