//! What there is to do after a run, in the order in which to do it.

use crate::mapping::reason::Note;

use super::report::{MigrationReport, RunOutcome};

/// The next steps after the run of this report. A refusal says itself what to do.
pub(super) fn steps(report: &MigrationReport) -> Vec<String> {
    match report.outcome {
        RunOutcome::Refused => Vec::new(),
        RunOutcome::Rehearsed if report.totals.rejected == 0 => {
            vec!["Run migrate with the same addresses.".to_owned()]
        }
        RunOutcome::Rehearsed => vec![
            "Repair the rejected rows on blue through the Admin API where possible, and run plan again."
                .to_owned(),
            format!("Or review the rejects file and run migrate with --accept-rejects={}.", file(report)),
        ],
        RunOutcome::Applied if report.incremental && report.changes.is_none() => {
            vec![match report.totals.rejected {
                0 => "Nothing has changed; green equals blue.".to_owned(),
                _ => "Nothing has changed; green equals blue except for the rejected rows.".to_owned(),
            }]
        }
        RunOutcome::Applied => after_apply(report),
    }
}

fn after_apply(report: &MigrationReport) -> Vec<String> {
    let has_cipher_text = report.notes.iter().any(|note| note.reason == Note::KeyringCipherText.code());
    let left_behind =
        (report.totals.rejected > 0).then(|| format!("Review the rejected rows in {}.", file(report)));
    let keyring = has_cipher_text.then(|| "Import blue's keyring on green (POST /keyring/import) before Kong on green serves traffic: without it, encrypted values cannot be read.".to_owned());
    left_behind
        .into_iter()
        .chain(keyring)
        .chain([
            "Restart every Kong node on green: it holds the default workspace's id and caches in memory."
                .to_owned(),
            "Run verify with the same addresses before any traffic moves.".to_owned(),
        ])
        .collect()
}

fn file(report: &MigrationReport) -> &str {
    report.rejects_file.as_deref().unwrap_or("FILE")
}
