//! What happened, in order: one JSON object per line, on the disk before the next thing is done.
//!
//! It explains; it is not the truth. Where it and the provider disagree, or where it is lost, the provider is right.

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
pub const FILE_NAME: &str = "journal.jsonl";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    pub at: DateTime<Utc>,
    pub run: Uuid,
    #[serde(flatten)]
    pub what: JournalEvent,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum JournalEvent {
    /// A process took the run over.
    Opened { owner: String, version: String },
    /// It stands somewhere else than before.
    Phase {
        now: CutoverPhase,
        /// Why nothing goes on, if nothing does.
        paused: Option<Pause>,
        /// Why it goes back, if it does.
        #[serde(default)]
        #[serde(rename = "why_back")]
        rollback_reason: Option<String>,
        /// The share that the provider was last known to hold.
        share: Share,
        /// Blue's last good number of each gate.
        #[serde(default)]
        baselines: Vec<Option<f64>>,
        /// Steps that were left out, from 0.
        #[serde(default)]
        skipped: Vec<usize>,
    },
    /// A write is about to be sent.
    Intent { toward: Goal, change: Box<Change> },
    /// What came of the last intent.
    Result {
        /// Whether the provider holds what was wanted.
        written: bool,
        text: String,
    },
    #[serde(rename = "said")]
    Notice {
        #[serde(flatten)]
        notice: Notice,
    },
    /// The marker that is left at the provider.
    Marker { marker: Marker },
}

pub trait CutoverJournal: Send {
    /// Adds an entry; when this returns it is on the disk.
    fn append(&mut self, entry: &JournalEntry) -> Result<()>;
}

/// The journal of a state directory.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    file: File,
}

impl FileJournal {
    /// Opens or makes it, with its directory. Only the user may read it.
    pub fn open(dir: &Path) -> Result<FileJournal> {
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
            // The name itself must outlive a power cut.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| cannot(dir, e))?;
        } else {
            // A line that a crash cut off must not swallow the next one.
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
        // One write, so that a crash leaves a whole line or a broken last one.
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(cannot)
    }
}

/// Reads a journal; lines that a crash cut off are left out. No file is no entries.
pub fn read(dir: &Path) -> Result<Vec<JournalEntry>> {
    let path = dir.join(FILE_NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::new(Kind::Io, format!("cannot read {}", path.display())).source(e)),
    };
    let lines = BufReader::new(file).split(b'\n').map_while(std::io::Result::ok);
    Ok(lines.filter_map(|line| serde_json::from_slice(&line).ok()).collect())
}

/// The last phase that a run was in, as far as the journal knows. A `finish` that did not get to its end is left out:
/// it takes nothing back of what was reached before it.
pub fn last_phase(entries: &[JournalEntry], run: Uuid) -> Option<&JournalEvent> {
    let of_run = entries.iter().rev().filter(|entry| entry.run == run).map(|entry| &entry.what);
    let mut phases = of_run.filter(|what| matches!(what, JournalEvent::Phase { .. }));
    phases.find(|what| {
        !matches!(what, JournalEvent::Phase { now: CutoverPhase::Moving { goal: Goal::Finish, .. }, .. })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cutover::notice::Level;
    use crate::cutover::state::Activity;

    fn entry(what: JournalEvent) -> JournalEntry {
        JournalEntry {
            at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            run: Uuid::from_u128(1),
            what,
        }
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
    fn what_is_written_is_read_and_a_cut_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let step = CutoverPhase::Moving { goal: Goal::Step(2), activity: Activity::Baking };
        let entries = [
            entry(JournalEvent::Opened { owner: "anna@ops".to_owned(), version: "0.1.0".to_owned() }),
            entry(phase(step)),
            entry(JournalEvent::Notice {
                notice: Notice {
                    level: Level::Warn,
                    code: "paused".to_owned(),
                    text: "Paused: x".to_owned(),
                },
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
        let run = Uuid::from_u128(1);
        let lines = [
            r#""entry":"phase","now":{"phase":"moving","goal":"back","stage":"asking"},"paused":null,"why_back":"a gate","share":0"#,
            r#""entry":"phase","now":{"phase":"moving","goal":"step","index":1,"stage":"leaving"},"paused":null,"share":0"#,
            r#""entry":"said","level":"warn","code":"paused","text":"Paused: x""#,
        ];
        let lines =
            lines.map(|line| format!("{{\"at\":\"2027-01-15T08:00:00Z\",\"run\":\"{run}\",{line}}}\n"));
        std::fs::write(dir.path().join(FILE_NAME), lines.concat()).unwrap();
        let events: Vec<JournalEvent> =
            read(dir.path()).unwrap().into_iter().map(|entry| entry.what).collect();
        let moving = |goal, activity| CutoverPhase::Moving { goal, activity };
        let JournalEvent::Phase { now, rollback_reason, .. } = &events[0] else { panic!("{events:?}") };
        assert_eq!(*now, moving(Goal::Rollback, Activity::Checking));
        assert_eq!(rollback_reason.as_deref(), Some("a gate"));
        let JournalEvent::Phase { now, .. } = &events[1] else { panic!("{events:?}") };
        assert_eq!(*now, moving(Goal::Step(1), Activity::PostStepHook));
        assert!(matches!(&events[2], JournalEvent::Notice { notice } if notice.code == "paused"));
    }

    #[test]
    fn no_journal_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("none")).unwrap(), vec![]);
    }
}
