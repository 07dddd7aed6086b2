//! A gate that runs a program of the user's.

use std::time::Duration;

use serde::Deserialize;

use super::measurement::Measurement;
use crate::cutover::call::run_program;
use crate::dns::Share;

/// The user's own program: exit code 0 passes, 1 fails, anything else is inconclusive.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateProgram {
    pub run: Vec<String>,
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

/// How long a program may take where nothing is said.
const PROGRAM_LIMIT: Duration = Duration::from_secs(20);

/// Exit code 0 passes, 1 fails; everything else says that the program itself did not work.
pub(super) async fn judge(program: &GateProgram, share: Share) -> Measurement {
    let limit = program.timeout.unwrap_or(PROGRAM_LIMIT);
    let input = serde_json::json!({ "share": share }).to_string();
    match run_program(&program.run, input.as_bytes(), limit).await {
        Ok(ran) => match ran.code {
            Some(code @ (0 | 1)) => {
                let value = if ran.said.is_empty() { format!("exit code {code}") } else { ran.said };
                Measurement::judged(code == 0, value, "exit code 0")
            }
            Some(code) => {
                Measurement::inconclusive(format!("exit code {code} {}", ran.said).trim().to_owned())
            }
            None => Measurement::inconclusive("a signal ended it"),
        },
        Err(error) => Measurement::inconclusive(error.one_line()),
    }
}
