//! What happened, in order: one JSON object per line, on the disk before the engine continues.
//!
//! Where journal and provider disagree, or the journal is lost, the provider is right.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::notice::Notice;
use super::state::{CutoverPhase, Goal, Pause};
use crate::dns::{Change, Marker, Share};
use crate::error::{Error, Kind, Result};

/// The name of the file in the state directory.
pub(crate) const FILE_NAME: &str = "journal.jsonl";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    pub at: DateTime<Utc>,
    pub run: Uuid,
    #[serde(flatten)]
    pub event: JournalEvent,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum JournalEvent {
    /// A process starts or takes over the run.
    Opened { owner: String, version: String },
    Phase {
        now: CutoverPhase,
        paused: Option<Pause>,
        #[serde(default, rename = "why_back")]
        rollback_reason: Option<String>,
        /// The share that the provider was last known to hold.
        share: Share,
        /// Blue's last good number of each gate.
        #[serde(default)]
        baselines: Vec<Option<f64>>,
        /// Steps that were skipped, from 0.
        #[serde(default)]
        skipped: Vec<usize>,
    },
    /// A write is about to be sent.
    Intent { toward: Goal, change: Box<Change> },
    /// The result of the last intent.
    Result {
        /// Whether the provider holds the change.
        written: bool,
        text: String,
    },
    #[serde(rename = "said")]
    Notice {
        #[serde(flatten)]
        notice: Notice,
    },
    /// The marker that was written.
    Marker { marker: Marker },
}

pub trait CutoverJournal: Send {
    /// Adds an entry; when this returns it is on the disk.
    fn append(&mut self, entry: &JournalEntry) -> Result<()>;
}

#[derive(Debug)]
pub(crate) struct FileJournal {
    path: PathBuf,
    file: File,
}

impl FileJournal {
    /// Opens or creates the file and its directory. Only the user may read them.
    pub(crate) fn open(dir: &Path) -> Result<FileJournal> {
        let cannot = |path: &Path, e: std::io::Error| {
            Error::new(Kind::Io, format!("cannot write {}", path.display()))
                .source(e)
                .remedy("Name another directory with state_dir in cutover.toml.")
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| cannot(dir, e))?;
        let path = dir.join(FILE_NAME);
        let new = !path.exists();
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true).mode(0o600);
        let mut file = options.open(&path).map_err(|e| cannot(&path, e))?;
        if new {
            // The directory entry must survive a power cut.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| cannot(dir, e))?;
        } else {
            // A line that a crash cut off must not absorb the next one.
            let text = std::fs::read(&path).map_err(|e| cannot(&path, e))?;
            if text.last().is_some_and(|last| *last != b'\n') {
                file.write_all(b"\n").map_err(|e| cannot(&path, e))?;
            }
        }
        Ok(FileJournal { path, file })
    }
}

impl CutoverJournal for FileJournal {
    fn append(&mut self, entry: &JournalEntry) -> Result<()> {
        let cannot = |e: std::io::Error| {
            Error::new(Kind::Io, format!("cannot write {}", self.path.display())).source(e)
        };
        let mut line = serde_json::to_vec(entry).map_err(|e| cannot(e.into()))?;
        line.push(b'\n');
        // One write: a crash leaves a complete line or a cut last one.
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(cannot)
    }
}

/// Reads a journal without lines that a crash cut off. A missing file has no entries.
pub(crate) fn read(dir: &Path) -> Result<Vec<JournalEntry>> {
    let path = dir.join(FILE_NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::new(Kind::Io, format!("cannot read {}", path.display())).source(e)),
    };
    let lines = BufReader::new(file).split(b'\n').map_while(std::io::Result::ok);
    Ok(lines.filter_map(|line| serde_json::from_slice(&line).ok()).collect())
}

/// The last recorded phase of a run, before a `finish` that did not complete.
pub(crate) fn last_phase(entries: &[JournalEntry], run: Uuid) -> Option<&JournalEvent> {
    let mut of_run = entries.iter().rev().filter(|entry| entry.run == run).map(|entry| &entry.event);
    of_run.find(|event| match event {
        JournalEvent::Phase { now, .. } => !matches!(now, CutoverPhase::Moving { goal: Goal::Finish, .. }),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cutover::notice::Level;
    use crate::cutover::state::Activity;

    fn entry(event: JournalEvent) -> JournalEntry {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        JournalEntry { at, run: Uuid::from_u128(1), event }
    }

    fn phase(now: CutoverPhase) -> JournalEvent {
        JournalEvent::Phase {
            now,
            paused: None,
            rollback_reason: None,
            share: Share::BLUE,
            baselines: vec![Some(0.5), None],
            skipped: vec![1],
        }
    }

    #[test]
    fn entries_are_read_back_without_a_cut_line() {
        let dir = tempfile::tempdir().unwrap();
        let step = CutoverPhase::Moving { goal: Goal::Step(2), activity: Activity::Baking };
        let entries = [
            entry(JournalEvent::Opened { owner: "anna@ops".to_owned(), version: "0.1.0".to_owned() }),
            entry(phase(step)),
            entry(JournalEvent::Notice {
                notice: Notice { level: Level::Warn, code: "paused".to_owned(), text: "x".to_owned() },
            }),
        ];
        let mut journal = FileJournal::open(dir.path()).unwrap();
        entries.iter().for_each(|entry| journal.append(entry).unwrap());
        let path = dir.path().join(FILE_NAME);
        let mut text = std::fs::read(&path).unwrap();
        text.extend(b"{\"at\":\"2027-01-");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(dir.path()).unwrap(), entries);
        FileJournal::open(dir.path()).unwrap().append(&entries[0]).unwrap();
        let read = read(dir.path()).unwrap();
        assert_eq!(read.len(), 4);
        assert_eq!(last_phase(&read, Uuid::from_u128(1)), Some(&phase(step)));
        assert_eq!(last_phase(&read, Uuid::from_u128(2)), None);
        let finishing = entry(phase(CutoverPhase::toward(Goal::Finish)));
        assert_eq!(
            last_phase(&[entry(phase(CutoverPhase::Drained)), finishing], Uuid::from_u128(1)),
            Some(&phase(CutoverPhase::Drained))
        );
    }

    #[test]
    fn a_journal_of_an_earlier_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let moving = CutoverPhase::moving;
        let phases = [
            (
                r#""phase":"moving","goal":"lower","stage":"applying""#,
                moving(Goal::LowerTtl, Activity::Applying),
            ),
            (
                r#""phase":"moving","goal":"back","stage":"asking""#,
                moving(Goal::Rollback, Activity::Checking),
            ),
            (
                r#""phase":"moving","goal":"step","index":1,"stage":"leaving""#,
                moving(Goal::Step(1), Activity::PostStepHook),
            ),
            (r#""phase":"rolled_back""#, CutoverPhase::RolledBack),
        ];
        let head = format!(r#""at":"2027-01-15T08:00:00Z","run":"{}""#, Uuid::from_u128(1));
        let lines = phases.iter().map(|(now, _)| {
            let reason = r#""paused":{"code":"gate","reason":"x"},"why_back":"a gate""#;
            format!("{{{head},\"entry\":\"phase\",\"now\":{{{now}}},{reason},\"share\":0}}\n")
        });
        let notice = r#""entry":"said","level":"warn","code":"paused","text":"Paused: x""#;
        let text: String = lines.chain([format!("{{{head},{notice}}}\n")]).collect();
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();

        let mut events = read(dir.path()).unwrap().into_iter().map(|entry| entry.event);
        for (_, phase) in phases {
            let event = events.next();
            let Some(JournalEvent::Phase { now, paused, rollback_reason, .. }) = event else {
                panic!("{event:?}")
            };
            assert_eq!((now, rollback_reason.as_deref()), (phase, Some("a gate")));
            assert!(paused.is_some_and(|pause| pause.code == "gate"));
        }
        let event = events.next();
        assert!(
            matches!(&event, Some(JournalEvent::Notice { notice }) if notice.code == "paused"),
            "{event:?}"
        );
    }

    #[test]
    fn a_missing_journal_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("none")).unwrap(), vec![]);
    }
}
