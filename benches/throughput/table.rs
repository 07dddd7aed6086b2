//! The result: a table to read, `bench.json` for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use kongferry::error::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use crate::program::Ran;
use crate::servers::{Measured, failed, load_average};

/// The lines, in the order in which they are shown.
pub const LINES: &[&str] = &[
    "scan",
    "copy",
    "naive",
    "plan",
    "migrate",
    "stage",
    "check",
    "apply",
    "verify",
    "incremental",
    "incremental_changed",
];

/// The quotients, first over second; the floor is the slower one of scan and copy.
pub const RATIOS: &[&str] = &[
    "stage_vs_floor",
    "naive_vs_apply",
    "migrate_vs_scan",
    "incremental_vs_scan",
    "verify_vs_migrate",
    "plan_vs_migrate",
];

pub struct Table {
    rows: u64,
    lines: BTreeMap<&'static str, Vec<Measured>>,
    peak: BTreeMap<&'static str, u64>,
    load: Vec<String>,
}

/// One step, with what is known of it.
pub struct Step {
    measured: Measured,
    peak: Option<u64>,
}

impl From<Measured> for Step {
    fn from(measured: Measured) -> Self {
        Step { measured, peak: None }
    }
}

impl From<Ran> for Step {
    fn from(ran: Ran) -> Self {
        Step { measured: ran.measured().clone(), peak: Some(ran.peak()) }
    }
}

impl Table {
    /// Nothing measured yet, of this many rows.
    pub fn new(rows: u64) -> Table {
        Table { rows, lines: BTreeMap::new(), peak: BTreeMap::new(), load: vec![load_average()] }
    }

    /// One more round of a line.
    pub fn add(&mut self, line: &'static str, step: impl Into<Step>) {
        let Step { measured, peak } = step.into();
        eprintln!(
            "  {line:<20} {:>7.2} s{}",
            measured.seconds,
            if measured.refused { ", refused" } else { "" }
        );
        self.lines.entry(line).or_default().push(measured);
        if let Some(peak) = peak {
            let highest = self.peak.entry(line).or_default();
            *highest = peak.max(*highest);
        }
    }

    /// Every line must have been measured.
    pub fn finish(&mut self) -> Result<()> {
        self.load.push(load_average());
        match LINES.iter().find(|line| !self.lines.contains_key(*line)) {
            None => Ok(()),
            Some(line) => Err(Error::new(Kind::Server, format!("{line} was not measured"))),
        }
    }

    fn sorted(&self, line: &str) -> Vec<f64> {
        let mut seconds: Vec<f64> =
            self.lines.get(line).into_iter().flatten().map(|one| one.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    fn refused(&self, line: &str) -> bool {
        self.lines.get(line).into_iter().flatten().any(|one| one.refused)
    }

    /// A ratio in each round, ascending.
    fn ratio(&self, name: &str) -> Vec<f64> {
        let rounds = self.lines.values().map(Vec::len).min().unwrap_or(0);
        let of = |line: &str, round: usize| {
            self.lines.get(line).and_then(|all| all.get(round)).map_or(f64::NAN, |one| one.seconds)
        };
        let one = |round: usize| match name {
            "stage_vs_floor" => of("stage", round) / of("scan", round).max(of("copy", round)),
            _ => {
                let (over, under) = name.split_once("_vs_").unwrap_or((name, "scan"));
                of(over, round) / of(under, round)
            }
        };
        let mut ratios: Vec<f64> = (0..rounds).map(one).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// Writes what programs read: for each line the median of the rounds.
    pub fn write(&self, path: &Path) -> Result<()> {
        let medians = |names: &[&str], of: &dyn Fn(&str) -> Vec<f64>| {
            let one = |name: &&str| ((*name).to_owned(), json!(rounded(median(&of(name)))));
            Value::Object(names.iter().map(one).collect::<Map<_, _>>())
        };
        let result = json!({
            "rows": self.rows,
            "seconds": medians(LINES, &|line| self.sorted(line)),
            "peak_rss_mb": rounded(self.peak.values().copied().max().unwrap_or(0) as f64 / 1024.0),
            "ratios": medians(RATIOS, &|name| self.ratio(name)),
        });
        let text = format!("{result:#}\n");
        std::fs::write(path, text).map_err(|e| failed(format!("cannot write {}", path.display()), e))
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn spread(sorted: &[f64]) -> String {
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    format!("{:>7.2} {:>7.2} {:>7.2}", at(0), median(sorted), at(sorted.len().saturating_sub(1)))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows, load average {}\n", self.rows, self.load.join(" → "))?;
        writeln!(f, "{:<20} {:>23} {:>9}   {:>23} {:>7}", "", "seconds", "", "CPU seconds", "peak")?;
        writeln!(
            f,
            "{:<20} {:>7} {:>7} {:>7} {:>9}   {:>7} {:>7} {:>7} {:>7}",
            "step", "min", "median", "max", "rows/s", "ours", "blue's", "green's", "MB"
        )?;
        for line in LINES {
            let seconds = self.sorted(line);
            write!(f, "{line:<20} {} ", spread(&seconds))?;
            if self.refused(line) {
                writeln!(f, "{:>9}", "refused")?;
                continue;
            }
            write!(f, "{:>9.0}  ", self.rows as f64 / median(&seconds))?;
            for side in 0..3 {
                match self.cpu(line, side) {
                    Some(cpu) => write!(f, " {cpu:>7.2}")?,
                    None => write!(f, " {:>7}", "")?,
                }
            }
            match self.peak.get(line) {
                Some(peak) => writeln!(f, " {:>7.0}", *peak as f64 / 1024.0)?,
                None => writeln!(f)?,
            }
        }
        writeln!(f)?;
        for name in RATIOS {
            writeln!(f, "{name:<20} {}", spread(&self.ratio(name)))?;
        }
        Ok(())
    }
}

impl Table {
    /// The median of one side's CPU seconds.
    fn cpu(&self, line: &str, side: usize) -> Option<f64> {
        let all = self.lines.get(line)?.iter();
        let mut seconds: Vec<f64> = all.map(|one| one.cpu?.get(side).copied()).collect::<Option<_>>()?;
        seconds.sort_by(f64::total_cmp);
        Some(median(&seconds))
    }
}
