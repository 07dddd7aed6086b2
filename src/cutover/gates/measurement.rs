//! The results of gate checks, and the request rates of both sides.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateVerdict {
    Pass,
    Fail,
    Inconclusive,
}

/// One check of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub verdict: GateVerdict,
    /// `0.4 %`, `HTTP 200 in 12 ms`.
    pub value: String,
    /// `≤ 1.2 %`.
    pub limit: String,
    /// The reason, if value and limit do not show it.
    pub why: String,
    /// Blue's number.
    pub baseline: Option<f64>,
}

impl Measurement {
    pub fn inconclusive(why: impl Into<String>) -> Measurement {
        Measurement {
            verdict: GateVerdict::Inconclusive,
            value: "–".to_owned(),
            limit: String::new(),
            why: why.into(),
            baseline: None,
        }
    }

    pub fn judged(holds: bool, value: impl Into<String>, limit: impl Into<String>) -> Measurement {
        Measurement {
            verdict: if holds { GateVerdict::Pass } else { GateVerdict::Fail },
            value: value.into(),
            limit: limit.into(),
            why: String::new(),
            baseline: None,
        }
    }

    pub fn line(&self) -> String {
        let limit = if self.limit.is_empty() { String::new() } else { format!(", must be {}", self.limit) };
        match self.why.as_str() {
            "" => format!("{}{limit}", self.value),
            why if self.value == "–" => why.to_owned(),
            why => format!("{}{limit}: {why}", self.value),
        }
    }
}

/// Requests per second by the counters; `None` is no data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    pub blue: Option<f64>,
    pub green: Option<f64>,
}

impl Traffic {
    /// Green's fraction of all requests.
    pub fn share(&self) -> Option<f64> {
        let (blue, green) = (self.blue?, self.green?);
        (blue + green > 0.0).then(|| green / (blue + green))
    }
}
