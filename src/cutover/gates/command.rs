//! A gate that runs the user's own program.

use std::time::Duration;

use serde::Deserialize;

use super::measurement::Measurement;
use crate::cutover::call::run_program;
use crate::dns::Share;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateProgram {
    pub run: Vec<String>,
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

/// The default for `timeout`.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Exit code 0 passes, 1 fails; any other is inconclusive.
pub(super) async fn judge(program: &GateProgram, share: Share) -> Measurement {
    let limit = program.timeout.unwrap_or(TIMEOUT);
    let input = serde_json::json!({ "share": share }).to_string();
    match run_program(&program.run, input.as_bytes(), limit).await {
        Ok(exit) => match exit.code {
            Some(code @ (0 | 1)) => {
                let value =
                    if exit.last_line.is_empty() { format!("exit code {code}") } else { exit.last_line };
                Measurement::judged(code == 0, value, "exit code 0")
            }
            Some(code) => {
                Measurement::inconclusive(format!("exit code {code} {}", exit.last_line).trim().to_owned())
            }
            None => Measurement::inconclusive("a signal ended the program"),
        },
        Err(error) => Measurement::inconclusive(error.one_line()),
    }
}
