//! What a gate measured, and what the counters of both sides say.

use serde::{Deserialize, Serialize};

/// What one check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateVerdict {
    /// It held.
    Pass,
    /// It did not hold.
    Fail,
    /// It cannot be said.
    Inconclusive,
}

/// One check, with what was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The judgement.
    pub verdict: GateVerdict,
    /// What was measured, for people: `0.4 %`, `HTTP 200 in 12 ms`.
    pub value: String,
    /// What it was held against: `≤ 1.2 %`.
    pub limit: String,
    /// Why, where that does not follow from the two.
    pub why: String,
    /// Blue's number, if blue had one.
    pub baseline: Option<f64>,
}

impl Measurement {
    /// A check that says nothing.
    pub fn inconclusive(why: impl Into<String>) -> Measurement {
        Measurement {
            verdict: GateVerdict::Inconclusive,
            value: "–".to_owned(),
            limit: String::new(),
            why: why.into(),
            baseline: None,
        }
    }

    /// A check that says something.
    pub fn judged(holds: bool, value: impl Into<String>, limit: impl Into<String>) -> Measurement {
        Measurement {
            verdict: if holds { GateVerdict::Pass } else { GateVerdict::Fail },
            value: value.into(),
            limit: limit.into(),
            why: String::new(),
            baseline: None,
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let limit = if self.limit.is_empty() { String::new() } else { format!(", must be {}", self.limit) };
        match self.why.as_str() {
            "" => format!("{}{limit}", self.value),
            why if self.value == "–" => why.to_owned(),
            why => format!("{}{limit}: {why}", self.value),
        }
    }
}

/// What the counters say, in requests a second; `None` is no data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Blue's.
    pub blue: Option<f64>,
    /// Green's.
    pub green: Option<f64>,
}

impl Traffic {
    /// Green's share of all requests.
    pub fn share(&self) -> Option<f64> {
        let (blue, green) = (self.blue?, self.green?);
        (blue + green > 0.0).then(|| green / (blue + green))
    }
}
