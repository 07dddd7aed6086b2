//! Places where a test can hold a run, to look at it or to interrupt it just there. Debug builds only.
//!
//! With `KONGFERRY_PAUSE_AT=PLACE` and `KONGFERRY_PAUSE_FILE=FILE` in the environment, the run that comes to PLACE
//! creates FILE and waits until FILE is gone. Each place holds a process once. The places, in order:
//!
//! | place | what has been done |
//! | --- | --- |
//! | `inspected` | both sides were looked at; nothing is written yet, and the guard is not taken |
//! | `marking` | in an incremental run: the first page of blue is compared with the ledger |
//! | `loading` | the first page of rows is in the stage |
//! | `staged` | all rows are in the stage |
//! | `checked` | the stage is checked, what it may not hold is set aside |
//! | `writing` | the transaction that writes Kong's tables has begun |
//! | `applying` | all rows are in Kong's tables, but not committed |
//! | `applied` | committed; the stage is still there |
//!
//! With `KONGFERRY_PHASE_FILE=FILE` a run writes the last place that it has passed into FILE, in every build: who kills
//! runs at random learns where each was.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static HELD: AtomicBool = AtomicBool::new(false);

/// Waits here if a test asked for it.
pub async fn reached(place: &str) {
    tell(place);
    let Some(file) = file_for(place) else { return };
    if HELD.swap(true, Ordering::Relaxed) || std::fs::write(&file, place).is_err() {
        return;
    }
    while file.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Which place was told last; a page of rows need not tell it again.
static TOLD: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

fn tell(place: &str) {
    let Some(file) = std::env::var_os("KONGFERRY_PHASE_FILE") else { return };
    let mut told = TOLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *told != place {
        place.clone_into(&mut told);
        // Only a soak reads it; a run does not fail for it.
        let _ = std::fs::write(file, place);
    }
}

fn file_for(place: &str) -> Option<PathBuf> {
    let asked =
        cfg!(debug_assertions) && std::env::var("KONGFERRY_PAUSE_AT").is_ok_and(|asked| asked == place);
    asked.then(|| std::env::var_os("KONGFERRY_PAUSE_FILE").map(PathBuf::from)).flatten()
}
