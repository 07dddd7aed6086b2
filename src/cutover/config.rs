//! `cutover.toml`: the records, the steps, the gates. Errors name the line; nothing here connects.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::call::ExternalCall;
use super::gates::config::Gate;
use super::gates::metrics::PrometheusConfig;
use super::located_toml::{LocatedValue, TomlDocument, at_line, with_prefix};
use super::machine::CutoverRules;
use super::notify::Notification;
use super::step::{CutoverStep, guide_steps};
use crate::dns::query::QueryConfig;
use crate::dns::{DomainName, ProviderConfig, Record, Share, Target};
use crate::error::{Error, Result};

/// The default, in the current directory.
pub(crate) const FILE_NAME: &str = "cutover.toml";

#[derive(Debug, Clone)]
pub struct CutoverConfig {
    pub(crate) file: PathBuf,
    pub target: Target,
    pub(crate) provider: ProviderConfig,
    /// From the smallest share to 100 %.
    pub(crate) steps: Vec<CutoverStep>,
    pub(crate) settings: CutoverSettings,
    pub(crate) gates: Vec<Gate>,
}

/// Everything in the file but the records, the provider, the steps and the gates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CutoverSettings {
    /// During the cutover, in seconds.
    pub ttl: u32,
    /// After `finish`, in seconds, instead of the original one.
    pub final_ttl: Option<u32>,
    /// How long resolvers may cache beyond the TTL.
    #[serde(with = "humantime_serde")]
    pub resolver_floor: Duration,
    /// Whether each step waits for `promote`.
    pub approval: bool,
    pub query: QueryConfig,
    /// The interval between checks of provider, name servers and counters.
    #[serde(with = "humantime_serde", alias = "look_every")]
    pub check_every: Duration,
    /// How long a step may wait for provider and name servers before it pauses.
    #[serde(with = "humantime_serde")]
    pub settle_limit: Duration,
    pub state_dir: Option<PathBuf>,
    pub drain: DrainSettings,
    pub preflight: PreflightSettings,
    pub prometheus: Option<PrometheusConfig>,
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
pub(crate) struct DrainSettings {
    /// How long blue must be idle before `finish`.
    #[serde(with = "humantime_serde")]
    pub time: Duration,
    /// Requests per second up to which a side counts as idle: the rate of health checks.
    #[serde(alias = "still_below")]
    pub idle_below: f64,
    /// The interval between checks for drift, from the drain to `finish`.
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

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PreflightSettings {
    /// Whether `verify` must be clean.
    pub verify: bool,
    /// Whether changes by Admin API clients since the last run pause a step.
    pub drift: bool,
    /// Accepted tables that the data plane writes while traffic is split.
    pub acknowledge: BTreeSet<String>,
    /// Accepted without proof.
    pub unproven: BTreeSet<Unproven>,
    /// The addresses of Kong's Admin API on green; the file may have a single one without brackets.
    #[serde(deserialize_with = "address_list")]
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
pub(crate) enum Unproven {
    /// That green has the rows of blue, and that neither side is changed.
    Databases,
    /// That there are metrics of both sides.
    Metrics,
    /// That anything but time and the name servers can stop a step.
    Gates,
    /// That green's nodes have their plugins, their database and one configuration.
    Nodes,
    /// That green's nodes were restarted since the last run.
    Restart,
    /// That the name servers have the same version of the zone.
    Serials,
}

impl Unproven {
    pub(crate) fn as_str(self) -> &'static str {
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

fn address_list<'a, D: serde::Deserializer<'a>>(list: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address, or a list of addresses")]
    enum AddressList {
        Single(String),
        Several(Vec<String>),
    }
    Ok(match AddressList::deserialize(list)? {
        AddressList::Single(address) => vec![address],
        AddressList::Several(addresses) => addresses,
    })
}

/// Calls of the user's own programs and services.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hooks {
    /// Repeated before the first step until it succeeds.
    pub confirm_rollout: Option<ExternalCall>,
    /// Before each step; a failure pauses.
    pub pre_step: Option<ExternalCall>,
    /// After each step has baked; a failure pauses.
    pub post_step: Option<ExternalCall>,
    /// Repeated before 100 % until it succeeds.
    pub confirm_promotion: Option<ExternalCall>,
    /// After the write of a rollback: the place to close green's connections.
    pub rollback: Option<ExternalCall>,
    pub event: Option<ExternalCall>,
}

impl Hooks {
    /// The configured hooks by their names in the file.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &ExternalCall)> {
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
    pub(crate) fn read(file: &Path) -> Result<CutoverConfig> {
        let text = std::fs::read_to_string(file).map_err(|e| {
            Error::usage(format!("cannot read {}", file.display()))
                .source(e)
                .remedy("Pass the file with --file, or run \"kongferry cutover init\" to write one.")
        })?;
        CutoverConfig::parse(&text, file)
    }

    /// Relative paths in the text start at the directory of `file`.
    pub fn parse(text: &str, file: &Path) -> Result<CutoverConfig> {
        CutoverConfig::build(text, file).map_err(|error| with_prefix(&file.display().to_string(), &error))
    }

    fn build(text: &str, file: &Path) -> Result<CutoverConfig> {
        let mut document = TomlDocument::parse(text)?;
        let zone: DomainName = required(&mut document, "zone", "zone = \"example.com\"")?.read()?;
        let provider: ProviderConfig = required(&mut document, "provider", "[provider]")?.read()?;
        let records = required(&mut document, "record", "[[record]]")?.items();
        let records: Vec<Record> = records.iter().map(LocatedValue::read).collect::<Result<_>>()?;
        let target = Target::new(zone, records)?;
        let steps = document.take("step").map(LocatedValue::items);
        let gates = document.take("gate").map(LocatedValue::items).unwrap_or_default();
        let lines: Vec<(&str, usize)> =
            CHECKED.iter().filter_map(|key| Some((*key, document.line(key)?))).collect();
        let settings: CutoverSettings = document.rest().read()?;
        check_settings(&settings).map_err(|(key, error)| {
            match lines.iter().find(|(name, _)| *name == key) {
                Some((_, line)) => at_line(*line, &error),
                None => error,
            }
        })?;
        let mut steps = match steps {
            Some(tables) => read_steps(&tables)?,
            None => guide_steps(),
        };
        for step in &mut steps {
            step.approval |= settings.approval;
        }
        let gates = read_gates(&gates, settings.prometheus.as_ref())?;
        Ok(CutoverConfig { file: file.to_owned(), target, provider, steps, settings, gates })
    }

    pub(crate) fn rules(&self) -> CutoverRules {
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

    /// The directory of the journal.
    pub(crate) fn state_dir(&self) -> PathBuf {
        let directory = self.file.parent().unwrap_or(Path::new(""));
        if let Some(path) = &self.settings.state_dir {
            return directory.join(path);
        }
        let first = self.target.records().first();
        let name = first.map(|record| record.key.name.without_dot().replace('*', "_"));
        directory.join(".kongferry-cutover").join(name.unwrap_or_default())
    }

    /// The step with this share.
    pub(crate) fn step_of(&self, share: Share) -> Option<usize> {
        self.steps.iter().position(|step| step.share == share)
    }
}

fn required<'t>(document: &mut TomlDocument<'t>, key: &str, example: &str) -> Result<LocatedValue<'t>> {
    document.take(key).ok_or_else(|| {
        Error::usage(format!("{key} is missing"))
            .remedy(format!("Add {example}, or run \"kongferry cutover init\" to write a complete file."))
    })
}

fn read_steps(tables: &[LocatedValue<'_>]) -> Result<Vec<CutoverStep>> {
    let steps: Vec<CutoverStep> = tables.iter().map(LocatedValue::read).collect::<Result<_>>()?;
    for ((step, next), table) in steps.iter().zip(steps.iter().skip(1)).zip(tables.iter().skip(1)) {
        if step.share >= next.share {
            let message = format!("the shares of the steps do not rise: {} after {}", next.share, step.share);
            let error = Error::usage(message);
            return Err(
                table.explain(&error.remedy("Write the [[step]] tables from the smallest share to 100."))
            );
        }
    }
    match (steps.last(), tables.last()) {
        (Some(last), Some(_)) if last.share == Share::GREEN => Ok(steps),
        (Some(last), Some(table)) => {
            let error = Error::usage(format!("the last step is {} instead of 100 %", last.share));
            Err(table.explain(&error.remedy("Add a [[step]] with share = 100.")))
        }
        _ => Err(Error::usage("step is an empty list")
            .remedy("Write [[step]] tables, or remove step for the steps of Kong's guide.")),
    }
}

fn read_gates(tables: &[LocatedValue<'_>], metrics: Option<&PrometheusConfig>) -> Result<Vec<Gate>> {
    let mut gates: Vec<Gate> = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let gate = Gate::from_table(table.read()?, index, metrics).map_err(|error| table.explain(&error))?;
        if gates.iter().any(|other| other.name == gate.name) {
            let error = Error::usage(format!("two gates have the name \"{}\"", gate.name));
            return Err(table.explain(&error.remedy("Set another name = \"…\" in one of them.")));
        }
        gates.push(gate);
    }
    Ok(gates)
}

/// The keys of [`check_settings`], whose lines are kept for its errors.
const CHECKED: &[&str] =
    &["ttl", "query", "check_every", "look_every", "settle_limit", "drain", "hooks", "notify"];

/// An error comes with its key.
fn check_settings(settings: &CutoverSettings) -> std::result::Result<(), (&'static str, Error)> {
    if !(1..=604_800).contains(&settings.ttl) {
        let error = Error::usage(format!("ttl = {} is out of range", settings.ttl));
        return Err(("ttl", error.remedy("Set 1 to 604800 seconds; 10 to 60 are usual during a cutover.")));
    }
    for (key, name, is_zero) in [
        ("query", "query.count", settings.query.count == 0),
        ("check_every", "check_every", settings.check_every.is_zero()),
        ("settle_limit", "settle_limit", settings.settle_limit.is_zero()),
    ] {
        if is_zero {
            let error = Error::usage(format!("{name} is zero"));
            return Err((key, error.remedy("Set a larger value, or remove the key for the default.")));
        }
    }
    if !settings.drain.idle_below.is_finite() || settings.drain.idle_below < 0.0 {
        let error = Error::usage("drain.idle_below is not a rate");
        return Err(("drain", error.remedy("Set requests per second, 0 or more.")));
    }
    let mut hooks = settings.hooks.named();
    hooks.try_for_each(|(place, call)| call.check(place)).map_err(|error| ("hooks", error))?;
    settings.notify.iter().try_for_each(Notification::check).map_err(|error| ("notify", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::ProviderKind;

    const HEAD: &str = "zone = \"example.com\"\n\
        provider = { kind = \"powerdns\", url = \"http://127.0.0.1:8081\", api_key = { env = \"KEY\" } }\n\
        [[record]]\nname = \"api.example.com\"\ntype = \"A\"\nblue = [\"192.0.2.1\"]\ngreen = [\"192.0.2.2\"]\n";

    /// Message and remedy of a file that is refused.
    fn refusal(text: &str) -> String {
        let error = CutoverConfig::parse(text, Path::new("cutover.toml")).unwrap_err();
        format!("{} {}", error.message(), error.remedy_text().unwrap_or_default())
    }

    #[test]
    fn a_minimal_file_has_the_steps_of_the_guide() {
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
        let (docs, _) = docs.split_once("## Keys\n").unwrap();
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
    fn errors_name_their_line() {
        let step = |share: &str, bake: &str| format!("[[step]]\nshare = {share}\nbake = {bake}\n");
        let appended = [
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
        for (text, line, words) in appended {
            let message = refusal(&format!("{HEAD}{text}"));
            assert!(message.starts_with(&format!("cutover.toml: line {line}: ")), "{text}: {message}");
            assert!(message.contains(words), "{text}: {message}");
        }
        let falling = format!("{HEAD}{}{}", step("10", "\"1h\""), step("5", "\"1h\""));
        assert!(refusal(&falling).contains("line 11: the shares of the steps do not rise: 5 % after 10 %"));
        let short = format!("{HEAD}{}", step("10", "\"1h\""));
        assert!(refusal(&short).contains("line 8: the last step is 10 % instead of 100 %"));
        for (before, line, words) in [
            ("ttl = 0", 1, "ttl = 0 is out of range"),
            ("ttl = \"30\"", 1, "expected an integer, found a string"),
            ("tttl = 5", 1, "unknown key `tttl`"),
            ("check_every = \"0s\"", 1, "check_every is zero"),
            ("step = []\nx = 1", 2, "unknown key `x`"),
        ] {
            let message = refusal(&format!("{before}\n{HEAD}"));
            assert!(
                message.starts_with(&format!("cutover.toml: line {line}: ")) && message.contains(words),
                "{message}"
            );
        }
        assert!(refusal(&format!("step = []\n{HEAD}")).contains("step is an empty list"));
        assert!(refusal("").contains("zone is missing"));
        let todo = refusal(&HEAD.replace("192.0.2.2", "TODO"));
        assert!(
            todo.contains("line 3: api.example.com/A, green: \"TODO\" is not an IPv4 address; replace TODO"),
            "{todo}"
        );
    }

    #[test]
    fn a_secret_in_the_file_is_not_printed() {
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
            let message = refusal(&lines.join("\n"));
            assert!(
                message.starts_with("cutover.toml: line 2: ") && !message.contains("s3cr3t"),
                "{message}"
            );
        }
        let message = refusal(&HEAD.replace("url =", "ur ="));
        assert!(message.contains("line 2: unknown key `ur`"), "{message}");
    }
}
