//! After an interruption: the state of green, and the stage of the interrupted run.

use uuid::Uuid;

use crate::error::Result;
use crate::green::journal;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::stage::Stage;

/// What an interrupted run left on green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    Unchanged,
    /// All rows: the run had been committed.
    Complete,
    /// One of the two: green does not answer.
    Unknown,
}

impl Interrupted {
    pub fn remedy(self) -> &'static str {
        match self {
            Interrupted::Unchanged => "Run the same command again; it starts from the beginning.",
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
            Interrupted::Unchanged => "green is unchanged",
            Interrupted::Complete => "all rows are applied, and green is complete",
            Interrupted::Unknown => "green does not answer: it is unchanged or complete",
        })
    }
}

/// Removes the stage of the interrupted run, and returns the state of green. The stage of another run is not touched.
pub async fn clean_up(green: &Green, run: Uuid) -> Result<Interrupted> {
    let Some(state) = journal::record_interruption(green, run).await? else {
        return Ok(Interrupted::Unchanged);
    };
    let dropped = async {
        let run_lock = journal::wait_for_run_lock(green).await?;
        Stage::new(green, run).drop_tables().await?;
        run_lock.rollback().await.during(green, "cannot release the run lock on green")
    };
    if let Err(error) = dropped.await {
        tracing::debug!(%error, "The staging tables were not dropped; the next run drops them.");
    }
    Ok(if state == "applied" || state == "repaired" { Interrupted::Complete } else { Interrupted::Unchanged })
}
