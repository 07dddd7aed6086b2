//! `cutover.toml`: what is moved, in which steps, watched by what.
//!
//! Reading only; nothing here connects. Everything that can be wrong in the file is found here, with its place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::call::ExternalCall;
use super::gates::config::Gate;
use super::gates::metrics::PrometheusConfig;
use super::located_toml::{LocatedValue, TomlDocument, at_line};
use super::machine::CutoverRules;
use super::notify::Notification;
use super::step::{Step, guide_steps};
use crate::dns::query::QueryConfig;
use crate::dns::{DomainName, ProviderConfig, Record, Share, Target};
use crate::error::{Error, Result};

/// The name that is looked for in the current directory.
pub const FILE_NAME: &str = "cutover.toml";

#[derive(Debug, Clone)]
pub struct CutoverConfig {
    pub file: PathBuf,
    pub target: Target,
    pub provider: ProviderConfig,
    /// Shares and how long each is watched, the last one 100 %.
    pub steps: Vec<Step>,
    pub settings: CutoverSettings,
    pub gates: Vec<Gate>,
}

/// The keys of the file that stand alone or in small tables.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CutoverSettings {
    /// Time to live of the records while the cutover lasts, in seconds.
    pub ttl: u32,
    /// Time to live that `finish` leaves; that from before the cutover where it is not given.
    pub final_ttl: Option<u32>,
    /// What resolvers may add to the time to live.
    #[serde(with = "humantime_serde")]
    pub resolver_floor: Duration,
    /// Whether an operator decides when each step ends.
    pub approval: bool,
    /// Which name servers are asked, and how often.
    pub query: QueryConfig,
    /// The interval between checks of provider, name servers and counters.
    #[serde(with = "humantime_serde")]
    #[serde(alias = "look_every")]
    pub check_every: Duration,
    /// How long a step may wait for provider and name servers before it is paused.
    #[serde(with = "humantime_serde")]
    pub settle_limit: Duration,
    pub state_dir: Option<PathBuf>,
    /// When blue may be taken down.
    pub drain: DrainSettings,
    /// What preflight checks before the first step.
    pub preflight: PreflightSettings,
    pub prometheus: Option<PrometheusConfig>,
    /// What is asked and told on the way.
    pub hooks: Hooks,
    pub notify: Vec<Notification>,
}

impl Default for CutoverSettings {
    fn default() -> Self {
        CutoverSettings {
            ttl: 30,
            final_ttl: None,
            resolver_floor: Duration::from_secs(30),
            approval: false,
            query: QueryConfig::default(),
            check_every: Duration::from_secs(10),
            settle_limit: Duration::from_secs(600),
            state_dir: None,
            drain: DrainSettings::default(),
            preflight: PreflightSettings::default(),
            prometheus: None,
            hooks: Hooks::default(),
            notify: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainSettings {
    /// How long blue must have been idle before it may be shut down.
    #[serde(with = "humantime_serde")]
    pub time: Duration,
    /// Requests a second up to which a side counts as idle: the rate of health probes.
    #[serde(alias = "still_below")]
    pub idle_below: f64,
    /// The interval between checks for drift, from the drain until `finish`.
    #[serde(with = "humantime_serde")]
    pub drift_every: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        DrainSettings {
            time: Duration::from_secs(86_400),
            idle_below: 0.0,
            drift_every: Duration::from_secs(3_600),
        }
    }
}

/// What preflight checks before the first step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreflightSettings {
    /// Whether `verify` must have found nothing.
    pub verify: bool,
    /// Whether rows changed since the last run stop a step.
    pub drift: bool,
    /// Tables written by traffic whose behaviour during the split was read and accepted.
    pub acknowledge: BTreeSet<String>,
    /// What may stay unproven because an operator accepted it.
    pub unproven: BTreeSet<Unproven>,
    /// Kong's Admin API on green: one address, or those of several nodes.
    #[serde(deserialize_with = "one_or_more")]
    pub green_admin: Vec<String>,
    pub green_admin_token_env: Option<String>,
}

impl Default for PreflightSettings {
    fn default() -> Self {
        PreflightSettings {
            verify: true,
            drift: true,
            acknowledge: BTreeSet::new(),
            unproven: BTreeSet::new(),
            green_admin: Vec::new(),
            green_admin_token_env: None,
        }
    }
}

/// What preflight may be unable to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unproven {
    /// That green has the rows of blue, and that neither side is changed.
    Databases,
    /// That there are metrics of both sides.
    Metrics,
    /// That anything but time and the name servers stops a step.
    Gates,
    /// That green's nodes have their plugins, their database and one configuration.
    Nodes,
    /// That green's nodes were restarted since the last run.
    Restart,
    /// That the name servers have the same version of the zone.
    Serials,
}

impl Unproven {
    pub fn as_str(self) -> &'static str {
        match self {
            Unproven::Databases => "databases",
            Unproven::Metrics => "metrics",
            Unproven::Gates => "gates",
            Unproven::Nodes => "nodes",
            Unproven::Restart => "restart",
            Unproven::Serials => "serials",
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
    pub confirm_rollout: Option<ExternalCall>,
    /// Called before each step; a no pauses.
    pub pre_step: Option<ExternalCall>,
    /// Called after each step has baked; a no pauses.
    pub post_step: Option<ExternalCall>,
    /// Asked before everything goes to green, again and again until it says yes.
    pub confirm_promotion: Option<ExternalCall>,
    /// Told once new resolutions are on their way back; a good place to close green's connections.
    pub rollback: Option<ExternalCall>,
    pub event: Option<ExternalCall>,
}

impl Hooks {
    /// All of them by their names in the file.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &ExternalCall)> {
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

impl CutoverConfig {
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
        let mut reading = TomlDocument::parse(text)?;
        let zone: DomainName = needed(&mut reading, "zone", "zone = \"example.com\"")?.read()?;
        let provider: ProviderConfig = needed(&mut reading, "provider", "[provider]")?.read()?;
        let records = needed(&mut reading, "record", "[[record]]")?.items();
        let records: Vec<Record> = records.iter().map(LocatedValue::read).collect::<Result<_>>()?;
        let target = Target::new(zone, records)?;
        let steps = reading.take("step").map(LocatedValue::items);
        let gates = reading.take("gate").map(LocatedValue::items).unwrap_or_default();
        let lines: Vec<(&str, usize)> =
            CHECKED.iter().filter_map(|key| Some((*key, reading.line(key)?))).collect();
        let settings: CutoverSettings = reading.rest().read()?;
        check_settings(&settings).map_err(|(key, error)| {
            match lines.iter().find(|(name, _)| *name == key) {
                Some((_, line)) => at_line(*line, &error),
                None => error,
            }
        })?;
        let mut steps = match steps {
            Some(parts) => read_steps(&parts)?,
            None => guide_steps(),
        };
        for step in &mut steps {
            step.approval |= settings.approval;
        }
        let gates = read_gates(&gates, settings.prometheus.as_ref())?;
        Ok(CutoverConfig { file: file.to_owned(), target, provider, steps, settings, gates })
    }

    /// What the state machine needs of it.
    pub fn rules(&self) -> CutoverRules {
        let settings = &self.settings;
        CutoverRules {
            steps: self.steps.clone(),
            gates: self.gates.iter().map(|gate| (gate.name.clone(), gate.policy)).collect(),
            ttl: Duration::from_secs(u64::from(settings.ttl)),
            settle: Duration::from_secs(u64::from(settings.ttl)),
            resolver_floor: settings.resolver_floor,
            check_every: settings.check_every,
            settle_limit: settings.settle_limit,
            drain: settings.drain.time,
            idle_below: settings.drain.idle_below,
            has_counters: settings.prometheus.is_some(),
            drift_every: settings.drain.drift_every,
        }
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

fn needed<'t>(reading: &mut TomlDocument<'t>, key: &str, example: &str) -> Result<LocatedValue<'t>> {
    reading.take(key).ok_or_else(|| {
        Error::usage(format!("{key} is missing"))
            .remedy(format!("Add {example}; \"kongferry cutover init\" writes a whole file to begin with."))
    })
}

fn read_steps(parts: &[LocatedValue<'_>]) -> Result<Vec<Step>> {
    let steps: Vec<Step> = parts.iter().map(LocatedValue::read).collect::<Result<_>>()?;
    for ((one, next), part) in steps.iter().zip(steps.iter().skip(1)).zip(parts.iter().skip(1)) {
        if one.share >= next.share {
            let falls = format!("the shares of the steps do not rise: {} after {}", next.share, one.share);
            return Err(part.explain(
                &Error::usage(falls).remedy("Write the [[step]] tables from the smallest share to 100."),
            ));
        }
    }
    let add = "Add a [[step]] with share = 100: a cutover ends with all traffic on green.";
    match (steps.last(), parts.last()) {
        (Some(last), Some(_)) if last.share == Share::GREEN => Ok(steps),
        (Some(last), Some(part)) => {
            let short = format!("the last step is not 100 % but {}", last.share);
            Err(part.explain(&Error::usage(short).remedy(add)))
        }
        _ => Err(Error::usage("there are no steps")
            .remedy("Write [[step]] tables, or leave step out for those of Kong's guide.")),
    }
}

fn read_gates(parts: &[LocatedValue<'_>], metrics: Option<&PrometheusConfig>) -> Result<Vec<Gate>> {
    let mut gates: Vec<Gate> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let gate = Gate::from_table(part.read()?, at, metrics).map_err(|error| part.explain(&error))?;
        if gates.iter().any(|other| other.name == gate.name) {
            let twice = Error::usage(format!("two gates have the name \"{}\"", gate.name));
            return Err(part.explain(&twice.remedy("Give one of them another name = \"…\".")));
        }
        gates.push(gate);
    }
    Ok(gates)
}

/// Keys whose values are checked here, so that their lines are wanted.
const CHECKED: &[&str] =
    &["ttl", "query", "check_every", "look_every", "settle_limit", "drain", "hooks", "notify"];

/// What is wrong, and with which key.
fn check_settings(settings: &CutoverSettings) -> std::result::Result<(), (&'static str, Error)> {
    if !(1..=604_800).contains(&settings.ttl) {
        let error = Error::usage(format!("ttl = {} is out of range", settings.ttl));
        return Err((
            "ttl",
            error.remedy("Give seconds from 1 to 604800; 10 to 60 are usual during a cutover."),
        ));
    }
    let zero = [
        ("query", settings.query.count == 0, "query.count"),
        ("check_every", settings.check_every.is_zero(), "check_every"),
        ("settle_limit", settings.settle_limit.is_zero(), "settle_limit"),
    ];
    if let Some((key, _, name)) = zero.iter().find(|(_, is_zero, _)| *is_zero) {
        return Err((
            key,
            Error::usage(format!("{name} cannot be zero")).remedy("Leave it out for the default."),
        ));
    }
    if !settings.drain.idle_below.is_finite() || settings.drain.idle_below < 0.0 {
        let error = Error::usage("drain.idle_below must be a number of requests a second, 0 or more");
        return Err(("drain", error));
    }
    settings
        .hooks
        .named()
        .try_for_each(|(place, call)| call.check(place))
        .map_err(|error| ("hooks", error))?;
    settings.notify.iter().try_for_each(Notification::check).map_err(|error| ("notify", error))
}

fn in_file(file: &Path, error: &Error) -> Error {
    let named = Error::usage(format!("{}: {}", file.display(), error.message()));
    let named = error.details().iter().fold(named, |named, detail| named.detail(detail.clone()));
    match error.remedy_text() {
        Some(remedy) => named.remedy(remedy),
        None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::ProviderKind;

    const HEAD: &str = "zone = \"example.com\"\n\
        provider = { kind = \"powerdns\", url = \"http://127.0.0.1:8081\", api_key = { env = \"KEY\" } }\n\
        [[record]]\nname = \"api.example.com\"\ntype = \"A\"\nblue = [\"192.0.2.1\"]\ngreen = [\"192.0.2.2\"]\n";

    fn refused(text: &str) -> String {
        let error = CutoverConfig::parse(text, Path::new("cutover.toml")).unwrap_err();
        format!("{} {}", error.message(), error.remedy_text().unwrap_or_default())
    }

    #[test]
    fn the_shortest_file_has_the_steps_of_the_guide() {
        let config = CutoverConfig::parse(HEAD, Path::new("cutover.toml")).unwrap();
        assert_eq!(config.steps, guide_steps());
    }

    #[test]
    fn keys_of_earlier_versions_are_read() {
        let text = format!("look_every = \"7s\"\ndrain = {{ still_below = 0.5 }}\n{HEAD}");
        let settings = CutoverConfig::parse(&text, Path::new("cutover.toml")).unwrap().settings;
        assert_eq!((settings.check_every, settings.drain.idle_below), (Duration::from_secs(7), 0.5));
    }

    #[test]
    fn the_examples_of_the_documentation_can_be_read() {
        let docs = include_str!("../../docs/cutover-toml.md");
        let (_, docs) = docs.split_once("## Examples\n").unwrap();
        let (docs, _) = docs.split_once("## Steps\n").unwrap();
        let mut examples: Vec<Vec<&str>> = Vec::new();
        for line in docs.lines() {
            match (line.strip_prefix("    "), examples.last_mut()) {
                (Some(line), _) if line.starts_with("zone = ") => examples.push(vec![line]),
                (Some(line), Some(example)) => example.push(line),
                _ => {}
            }
        }
        let kinds: Vec<ProviderKind> = examples
            .iter()
            .map(|example| {
                let text = example.join("\n");
                let config = CutoverConfig::parse(&text, Path::new("cutover.toml"));
                config.unwrap_or_else(|error| panic!("{error}\n{text}")).provider.kind()
            })
            .collect();
        for kind in <ProviderKind as clap::ValueEnum>::value_variants() {
            assert!(kinds.contains(kind), "there is no example of {}", kind.name());
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let step = |share: &str, bake: &str| format!("[[step]]\nshare = {share}\nbake = {bake}\n");
        let behind = [
            ("[drain]\ntime = \"soon\"", 9, "\"soon\" is not a duration"),
            ("[preflight]\nverfy = true", 9, "unknown key `verfy`"),
            ("[preflight]\nunproven = [\"metrix\"]", 9, "unknown value `metrix`"),
            ("[hooks]\npre_stp = { run = [\"x\"] }", 9, "unknown key `pre_stp`"),
            ("[[notify]]\nformat = \"slack\"", 8, "needs exactly one of url"),
            ("[[gates]]\nkind = \"http\"", 8, "unknown key `gates`"),
            ("[[gate]]\nkind = \"kong-error\"", 8, "unknown kind \"kong-error\""),
            ("[[gate]]\nname = \"x\"", 8, "gate \"x\": kind is missing"),
            ("[[gate]]\nkind = \"command\"\nrun = [\"x\"]\nlimit = 1", 11, "unknown field `limit`"),
            ("[[gate]]\nkind = \"http\"\nurl = \"htp://x\"", 8, "must begin with http:// or https://"),
            ("[[gate]]\nkind = \"kong-errors\"", 8, "Add [prometheus]"),
            ("[[step]]\nshare = 101\nbake = \"1h\"", 9, "is not a share"),
            (
                "[[step]]\nshare = 100\nbake = 5",
                10,
                "expected a duration such as \"30s\" or \"1h30m\", found an integer",
            ),
            ("[[step]]\nshare = 100\nbake = \"1h\"\naproval = true", 11, "unknown key `aproval`"),
            ("[[step]]\nshare = 100", 8, "missing field `bake`"),
        ];
        for (text, line, words) in behind {
            let said = refused(&format!("{HEAD}{text}"));
            assert!(said.starts_with(&format!("cutover.toml: line {line}: ")), "{text}: {said}");
            assert!(said.contains(words), "{text}: {said}");
        }
        let falling = format!("{HEAD}{}{}", step("10", "\"1h\""), step("5", "\"1h\""));
        assert!(refused(&falling).contains("line 11: the shares of the steps do not rise: 5 % after 10 %"));
        let short = format!("{HEAD}{}", step("10", "\"1h\""));
        assert!(refused(&short).contains("line 8: the last step is not 100 % but 10 %"));
        for (before, line, words) in [
            ("ttl = 0", 1, "ttl = 0 is out of range"),
            ("ttl = \"30\"", 1, "expected an integer, found a string"),
            ("tttl = 5", 1, "unknown key `tttl`"),
            ("check_every = \"0s\"", 1, "check_every cannot be zero"),
            ("step = []\nx = 1", 2, "unknown key `x`"),
        ] {
            let said = refused(&format!("{before}\n{HEAD}"));
            assert!(
                said.starts_with(&format!("cutover.toml: line {line}: ")) && said.contains(words),
                "{said}"
            );
        }
        assert!(refused(&format!("step = []\n{HEAD}")).contains("there are no steps"));
        assert!(refused("").contains("zone is missing"));
        let todo = refused(&HEAD.replace("192.0.2.2", "TODO"));
        assert!(
            todo.contains("line 3: api.example.com/A, green: \"TODO\" is not an IPv4 address; fill in"),
            "{todo}"
        );
    }

    #[test]
    fn a_secret_in_the_file_is_not_repeated() {
        for provider in [
            "kind = \"powerdns\", url = \"http://a\", api_key = \"s3cr3t\"",
            "kind = \"powerdns\", url = \"http://a\", api_key = { s3cr3t = \"s3cr3t\" }",
            "kind = \"rfc2136\", server = \"ns1\", tsig = \"s3cr3t\"",
            "kind = \"rfc2136\", server = \"ns1\", tsig = { name = \"k\", secret = \"s3cr3t\" }",
            "kind = \"route53\", hosted_zone_id = \"Z1\", secret_access_key = \"s3cr3t\"",
        ] {
            let lines: Vec<String> = HEAD
                .lines()
                .map(|line| {
                    if line.starts_with("provider") {
                        format!("provider = {{ {provider} }}")
                    } else {
                        line.to_owned()
                    }
                })
                .collect();
            let said = refused(&lines.join("\n"));
            assert!(said.starts_with("cutover.toml: line 2: ") && !said.contains("s3cr3t"), "{said}");
        }
        let said = refused(&HEAD.replace("url =", "ur ="));
        assert!(said.contains("line 2: unknown key `ur`"), "{said}");
    }
}
