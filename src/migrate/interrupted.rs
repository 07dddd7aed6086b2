//! After an interruption: how green stands, and the stage of the run that was cut off.

use uuid::Uuid;

use crate::error::Result;
use crate::green::journal;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::stage::Stage;

/// What an interrupted run left on green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    AsItWas,
    /// All rows: the run had been committed.
    Complete,
    /// One of the two; green could not be asked.
    Unknown,
}

impl Interrupted {
    pub fn remedy(self) -> &'static str {
        match self {
            Interrupted::AsItWas => "Run the same command again; it starts from the beginning.",
            Interrupted::Complete => "Run verify, then restart every Kong node on green.",
            Interrupted::Unknown => {
                "Run the same command again once green answers; rows that are there already do not change."
            }
        }
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Interrupted::AsItWas => "green is unchanged",
            Interrupted::Complete => "all rows are applied, and green is complete",
            Interrupted::Unknown => "green does not answer: it is unchanged or complete",
        })
    }
}

/// After an interruption: says how green stands, and removes the stage of the run that was cut off. What another run
/// works on is left alone.
pub async fn tidy_up(green: &Green, run: Uuid) -> Result<Interrupted> {
    let Some(state) = journal::record_interruption(green, run).await? else {
        return Ok(Interrupted::AsItWas);
    };
    let tidied = async {
        let guard = journal::wait_for_run_lock(green).await?;
        Stage::new(green, run).drop_tables().await?;
        guard.rollback().await.during(green, "cannot release the guard on green")
    };
    if let Err(error) = tidied.await {
        tracing::debug!(%error, "The stage could not be removed; the next run does so.");
    }
    Ok(if state == "applied" || state == "repaired" { Interrupted::Complete } else { Interrupted::AsItWas })
}
