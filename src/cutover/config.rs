//! `cutover.toml`: what is moved, in which steps, watched by what.
//!
//! Reading only; nothing here connects. Everything that can be wrong in the file is found here, with its place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::gates::config::{Gate, Metrics};
use super::notify::Notification;
use super::span::Span;
use crate::dns::query::QueryConfig;
use crate::dns::{DomainName, ProviderConfig, Record, Share, Target};
use crate::error::{Error, Result};

/// The name that is looked for in the current directory.
pub const FILE_NAME: &str = "cutover.toml";

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct CutoverConfig {
    /// The file it came from.
    pub file: PathBuf,
    /// What is moved.
    pub target: Target,
    /// Where the records are kept.
    pub provider: ProviderConfig,
    /// Shares and how long each is watched, the last one 100 %.
    pub steps: Vec<Step>,
    /// Everything else.
    pub settings: Settings,
    /// What must hold.
    pub gates: Vec<Gate>,
}

/// One share, and how long it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Green's share of new resolutions.
    pub share: Share,
    /// How long the gates must hold before the next step.
    pub bake: Span,
    /// Whether a person says when to leave it.
    #[serde(default)]
    pub approval: bool,
}

/// The keys of the file that stand alone or in small tables.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Time to live of the records while the cutover lasts, in seconds.
    pub ttl: u32,
    /// Time to live that `finish` leaves; that from before the cutover where it is not given.
    pub final_ttl: Option<u32>,
    /// What resolvers may add to the time to live.
    pub resolver_floor: Span,
    /// Whether a person says when to leave each step.
    pub approval: bool,
    /// Which name servers are asked, and how often.
    pub query: QueryConfig,
    /// How often provider, name servers and counters are looked at.
    pub look_every: Span,
    /// How long a step may wait for provider and name servers before it is paused.
    pub settle_limit: Span,
    /// Where the journal is kept.
    pub state_dir: Option<PathBuf>,
    /// When blue may be taken down.
    pub drain: Drain,
    /// What is looked at before the first step.
    pub preflight: Preflight,
    /// Prometheus.
    pub prometheus: Option<Metrics>,
    /// What is asked and told on the way.
    pub hooks: Hooks,
    /// Who is told.
    pub notify: Vec<Notification>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            ttl: 30,
            final_ttl: None,
            resolver_floor: Span::seconds(30),
            approval: false,
            query: QueryConfig::default(),
            look_every: Span::seconds(10),
            settle_limit: Span::seconds(600),
            state_dir: None,
            drain: Drain::default(),
            preflight: Preflight::default(),
            prometheus: None,
            hooks: Hooks::default(),
            notify: Vec::new(),
        }
    }
}

/// When a side counts as still.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long blue must have been still before it may be taken down.
    pub time: Span,
    /// Requests a second below which a side is still: what probes make.
    pub still_below: f64,
    /// How often blue and green are looked at for drift while it drains, and from then until `finish`.
    pub drift_every: Span,
}

impl Default for Drain {
    fn default() -> Self {
        Drain { time: Span::seconds(86_400), still_below: 0.0, drift_every: Span::seconds(3_600) }
    }
}

/// What is looked at before the first step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preflight {
    /// Whether `verify` must have found nothing.
    pub verify: bool,
    /// Whether rows changed since the last run stop a step.
    pub drift: bool,
    /// Tables written by traffic whose behaviour during the split was read and accepted.
    pub acknowledge: BTreeSet<String>,
    /// Kong's Admin API on green: one address, or those of several nodes.
    #[serde(deserialize_with = "one_or_more")]
    pub green_admin: Vec<String>,
    /// Variable that holds its `Kong-Admin-Token`.
    pub green_admin_token_env: Option<String>,
}

impl Default for Preflight {
    fn default() -> Self {
        Preflight {
            verify: true,
            drift: true,
            acknowledge: BTreeSet::new(),
            green_admin: Vec::new(),
            green_admin_token_env: None,
        }
    }
}

/// One text, or a list of them.
fn one_or_more<'a, D: serde::Deserializer<'a>>(given: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address, or a list of addresses")]
    enum Given {
        One(String),
        More(Vec<String>),
    }
    Ok(match Given::deserialize(given)? {
        Given::One(one) => vec![one],
        Given::More(more) => more,
    })
}

/// Places where the user's own programs and services are asked or told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Asked before the first step, again and again until it says yes.
    pub confirm_rollout: Option<Call>,
    /// Called before each step; a no pauses.
    pub pre_step: Option<Call>,
    /// Called after each step has baked; a no pauses.
    pub post_step: Option<Call>,
    /// Asked before everything goes to green, again and again until it says yes.
    pub confirm_promotion: Option<Call>,
    /// Told once new resolutions are on their way back; a good place to close green's connections.
    pub rollback: Option<Call>,
    /// Told of everything.
    pub event: Option<Call>,
}

impl Hooks {
    /// All of them by their names in the file.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Call)> {
        [
            ("hooks.confirm_rollout", &self.confirm_rollout),
            ("hooks.pre_step", &self.pre_step),
            ("hooks.post_step", &self.post_step),
            ("hooks.confirm_promotion", &self.confirm_promotion),
            ("hooks.rollback", &self.rollback),
            ("hooks.event", &self.event),
        ]
        .into_iter()
        .filter_map(|(name, call)| Some((name, call.as_ref()?)))
    }
}

/// The file, before its parts are held against each other.
#[derive(Deserialize)]
struct Given {
    zone: DomainName,
    provider: toml::Table,
    record: Vec<Record>,
    #[serde(default)]
    step: Option<Vec<Step>>,
    #[serde(default)]
    gate: Vec<toml::Table>,
    #[serde(flatten)]
    rest: toml::Table,
}

/// The steps of Kong's own guide.
pub fn guide_steps() -> Vec<Step> {
    [(1, 3_600), (5, 3_600), (10, 7_200), (50, 14_400), (100, 14_400)]
        .into_iter()
        .filter_map(|(percent, bake)| {
            let share = Share::percent(percent)?;
            Some(Step { share, bake: Span::seconds(bake), approval: false })
        })
        .collect()
}

impl CutoverConfig {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<CutoverConfig> {
        let text = std::fs::read_to_string(file).map_err(|e| {
            Error::usage(format!("cannot read {}", file.display()))
                .source(e)
                .remedy("Name the file with --file; \"kongferry cutover init\" writes one to begin with.")
        })?;
        CutoverConfig::parse(&text, file)
    }

    /// Reads the text of a file; `file` names it in messages and is where relative paths begin.
    pub fn parse(text: &str, file: &Path) -> Result<CutoverConfig> {
        CutoverConfig::build(text, file).map_err(|error| in_file(file, &error))
    }

    fn build(text: &str, file: &Path) -> Result<CutoverConfig> {
        let given: Given = toml::from_str(text).map_err(|e| at(text, &e))?;
        let settings: Settings = from_table(given.rest, "the file")?;
        let target = Target::new(given.zone, given.record)?;
        let provider: ProviderConfig = from_table(given.provider, "[provider]")?;
        let mut steps = given.step.unwrap_or_else(guide_steps);
        for step in &mut steps {
            step.approval |= settings.approval;
        }
        check_steps(&steps)?;
        check_settings(&settings)?;
        let gates: Vec<Gate> = given
            .gate
            .into_iter()
            .enumerate()
            .map(|(at, table)| Gate::from_table(table, at, settings.prometheus.as_ref()))
            .collect::<Result<_>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = gates.iter().find(|gate| !names.insert(gate.name.as_str())) {
            return Err(Error::usage(format!("two gates have the name \"{}\"", twice.name)));
        }
        Ok(CutoverConfig { file: file.to_owned(), target, provider, steps, settings, gates })
    }

    /// Where the journal of this cutover is kept.
    pub fn state_dir(&self) -> PathBuf {
        let beside = self.file.parent().unwrap_or(Path::new(""));
        match &self.settings.state_dir {
            Some(path) => beside.join(path),
            None => {
                let name =
                    self.target.records().first().map(|record| record.key.name.without_dot().to_owned());
                beside.join(".kongferry-cutover").join(name.unwrap_or_default().replace('*', "_"))
            }
        }
    }

    /// The step whose share this is.
    pub fn step_of(&self, share: Share) -> Option<usize> {
        self.steps.iter().position(|step| step.share == share)
    }
}

/// Reads a table whose keys are all known.
pub(super) fn from_table<T: for<'a> Deserialize<'a>>(table: toml::Table, place: &str) -> Result<T> {
    T::deserialize(toml::Value::Table(table))
        .map_err(|e| Error::usage(format!("{place}: {}", e.message().trim().replace('\n', " "))))
}

fn check_steps(steps: &[Step]) -> Result<()> {
    let rising = steps.is_sorted_by(|one, next| one.share < next.share);
    if !rising || steps.first().is_some_and(|step| step.share == Share::BLUE && steps.len() == 1) {
        return Err(Error::usage("the shares of the steps do not rise")
            .remedy("Write the [[step]] tables from the smallest share to 100."));
    }
    if steps.last().is_none_or(|step| step.share != Share::GREEN) {
        return Err(Error::usage("the last step is not 100 %")
            .remedy("Add a [[step]] with share = 100: a cutover ends with all traffic on green."));
    }
    Ok(())
}

fn check_settings(settings: &Settings) -> Result<()> {
    if !(1..=604_800).contains(&settings.ttl) {
        return Err(Error::usage(format!("ttl = {} is out of range", settings.ttl))
            .remedy("Give seconds from 1 to 604800; 10 to 60 are usual during a cutover."));
    }
    if settings.query.count == 0 || settings.look_every.is_zero() || settings.settle_limit.is_zero() {
        return Err(Error::usage("query.count, look_every and settle_limit cannot be zero"));
    }
    if !settings.drain.still_below.is_finite() || settings.drain.still_below < 0.0 {
        return Err(Error::usage("drain.still_below must be a number of requests a second, 0 or more"));
    }
    Ok(())
}

fn at(text: &str, error: &toml::de::Error) -> Error {
    let message = error.message().trim().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let line = text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
            Error::usage(format!("line {line}: {message}"))
        }
        None => Error::usage(message),
    }
}

fn in_file(file: &Path, error: &Error) -> Error {
    let named = Error::usage(format!("{}: {}", file.display(), error.message()));
    let named = error.details().iter().fold(named, |named, detail| named.detail(detail.clone()));
    match error.remedy_text() {
        Some(remedy) => named.remedy(remedy),
        None => named,
    }
}
