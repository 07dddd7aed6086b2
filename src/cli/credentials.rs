//! `credentials`: its flags, the source of secrets, and the output. A secret is never passed on the command line.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::args::{BlueArgs, CommonArgs, Format, GreenArgs, SchemaMapArgs};
use super::connect::application_name;
use super::progress;
use super::text::{self, BAD, BOLD, GOOD, WARN, counted, grouped, print_json};
use crate::blue::session::Blue;
use crate::credentials::admins::AdminStatus;
use crate::credentials::kind::CredentialKind;
use crate::credentials::outcome::CheckOutcome;
use crate::credentials::report::{AdminReport, CredentialsReport, KindReport, RejectedAdmin};
use crate::credentials::{self, CheckResult, CredentialCheck};
use crate::error::{self, Error, Result};
use crate::green::session::Green;
use crate::settings::password;

/// Arguments of `credentials`.
#[derive(Debug, Clone, Args)]
pub struct CredentialsArgs {
    #[command(subcommand)]
    command: CredentialsCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum CredentialsCommand {
    /// Check whether green accepts a secret; with --blue, whether blue does
    Check(CheckArgs),
    /// Count the credentials of each kind, and list incomplete admins
    Report(ReportArgs),
}

impl CredentialsArgs {
    pub(super) fn common(&self) -> &CommonArgs {
        match &self.command {
            CredentialsCommand::Check(args) => &args.common,
            CredentialsCommand::Report(args) => &args.common,
        }
    }
}

/// Arguments of `credentials check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// File with many checks; - is standard input
    ///
    /// A JSON list of {"kind", "workspace", "user", "secret"}.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "workspace", "user", "secret_file"])]
    file: Option<PathBuf>,

    /// Kind of the credential
    #[arg(long, value_enum, value_name = "KIND", required_unless_present = "file")]
    kind: Option<CredentialKind>,

    /// Name or id of the workspace
    ///
    /// Default: the workspace "default"; for admins their own.
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,

    /// Owner of the credential
    ///
    /// Not required for keys and plain tokens. The username of a basic-auth or hmac-auth credential, the key of a jwt credential, a client_id, the name of an RBAC
    /// user or admin, else the consumer's username.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// File with the secret
    ///
    /// Default: a prompt, or standard input if that is not a terminal.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    maps: SchemaMapArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `credentials report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    maps: SchemaMapArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs the command.
pub async fn run(args: &CredentialsArgs) -> Result<u8> {
    match &args.command {
        CredentialsCommand::Check(args) => check(args).await,
        CredentialsCommand::Report(args) => report(args).await,
    }
}

async fn connect(green: &GreenArgs, blue: &BlueArgs, common: &CommonArgs) -> Result<(Green, Option<Blue>)> {
    let blue_config = if blue.is_given(common) { Some(blue.resolve(common)?) } else { None };
    let green = Green::connect(&green.resolve(common)?, &application_name()).await?;
    let blue = match blue_config {
        Some(config) => Some(Blue::connect(&config).await?),
        None => None,
    };
    Ok((green, blue))
}

async fn check(args: &CheckArgs) -> Result<u8> {
    let maps = args.maps.read()?;
    let checks = checks(args)?;
    let waiting = progress::waiting(&args.common, "connecting");
    let (green, blue) = connect(&args.green, &args.blue, &args.common).await?;
    drop(waiting);
    let bar = progress::counting(&args.common, "checking secrets", checks.len());
    let answers = credentials::check_all(&green, blue.as_ref(), &checks, &maps, || bar.inc(1)).await;
    bar.finish_and_clear();
    let answers = answers?;
    match args.common.format {
        Format::Json => print_json(&answers),
        Format::Text => print(&answers),
    }
    Ok(credentials::exit_code(&answers))
}

fn checks(args: &CheckArgs) -> Result<Vec<CredentialCheck>> {
    if let Some(file) = &args.file {
        return CredentialCheck::parse_list(&read_checks(file)?);
    }
    let Some(kind) = args.kind else {
        return Err(Error::usage("no credential to check").remedy("Pass --kind, or --file with a list."));
    };
    if kind.needs_user() && args.user.is_none() {
        return Err(Error::usage(format!("{} needs a user", kind.name()))
            .remedy(format!("Pass --user with {}.", kind.user_description())));
    }
    let secret = read_secret(args)?;
    Ok(vec![CredentialCheck::new(kind, args.workspace.clone(), args.user.clone(), secret)?])
}

fn read_checks(file: &Path) -> Result<String> {
    let unreadable = |e| Error::usage(format!("cannot read the checks from {}", file.display())).source(e);
    if file == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).map_err(unreadable);
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

/// The secret: from a file, a prompt, or standard input without the final line end. A key in PEM has several lines.
fn read_secret(args: &CheckArgs) -> Result<String> {
    if let Some(file) = &args.secret_file {
        let text = std::fs::read_to_string(file)
            .map_err(|e| Error::usage(format!("cannot read the secret from {}", file.display())).source(e))?;
        if text.trim_end().contains('\n') {
            return Ok(text);
        }
        let (secret, warning) = password::from_file(file)?;
        if let Some(warning) = warning {
            tracing::warn!("{warning}.");
        }
        return Ok(secret.expose_secret().to_owned());
    }
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("Secret: ")
            .map_err(|e| Error::usage("cannot ask for a secret on this terminal").source(e));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Error::new(error::Kind::Io, "cannot read the secret from stdin").source(e))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A verdict in a padded column: the color codes around it have no width.
fn verdict_column(verdict: &CheckOutcome) -> String {
    match verdict.accepted {
        Some(true) => format!("{GOOD}{:<5}{GOOD:#}", "yes"),
        Some(false) => format!("{BAD}{:<5}{BAD:#}", "no"),
        None => format!("{WARN}{:<5}{WARN:#}", "?"),
    }
}

/// The reason code, as in JSON.
fn reason_code(verdict: &CheckOutcome) -> String {
    let reason = serde_json::to_value(verdict.reason).unwrap_or_default();
    reason.as_str().unwrap_or_default().to_owned()
}

/// Widest column of names; a longer name moves the rest of its line to the right.
const WIDEST: usize = 36;

fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(console::measure_text_width(text));
    format!("{text}{}", " ".repeat(missing))
}

/// A line of the table: kind, workspace, user.
fn names(answer: &CheckResult) -> [String; 3] {
    let is_of_admin = matches!(answer.kind, CredentialKind::AdminToken | CredentialKind::AdminPassword);
    let default = if is_of_admin { "–" } else { credentials::DEFAULT_WORKSPACE };
    let workspace = answer.workspace.clone().unwrap_or_else(|| default.to_owned());
    let user = answer.user.clone().unwrap_or_else(|| "(by the secret)".to_owned());
    [answer.kind.name().to_owned(), workspace, user]
}

/// A table of all checks, failed ones first; then the reasons as sentences.
fn print(answers: &[CheckResult]) {
    let mut sorted: Vec<&CheckResult> = answers.iter().collect();
    sorted.sort_by_key(|answer| (answer.green.is_accepted(), !answer.is_broken()));
    let header = ["kind", "workspace", "user"].map(str::to_owned);
    let width = |at: usize| {
        let lines = answers.iter().map(names).chain([header.clone()]);
        let widths = lines.filter_map(|line| line.get(at).map(|text| console::measure_text_width(text)));
        widths.max().unwrap_or(0).min(WIDEST)
    };
    let widths = [width(0), width(1), width(2)];
    let line = |names: &[String; 3]| {
        let cells = names.iter().zip(widths).map(|(name, width)| padded(name, width));
        cells.collect::<Vec<_>>().join("  ")
    };
    let with_blue = answers.iter().any(|answer| answer.blue.is_some());
    let blue = if with_blue { "blue   " } else { "" };
    anstream::println!("  green  {blue}{}  reason", line(&header));
    for answer in &sorted {
        let blue = answer.blue.as_ref().map(|blue| format!("{}  ", verdict_column(blue))).unwrap_or_default();
        let mut reason = reason_code(&answer.green);
        match &answer.blue {
            Some(_) if answer.is_broken() => reason = format!("{BAD}{reason}: blue accepts it{BAD:#}"),
            Some(blue) if blue.reason != answer.green.reason => {
                reason = format!("{reason} {WARN}(blue: {}){WARN:#}", reason_code(blue));
            }
            _ => {}
        }
        anstream::println!("  {}  {blue}{}  {reason}", verdict_column(&answer.green), line(&names(answer)));
    }
    print_reasons(&sorted);
    let accepted = answers.iter().filter(|answer| answer.green.is_accepted()).count();
    let all = counted(answers.len() as u64, "secret");
    if accepted == answers.len() {
        anstream::println!("\n{GOOD}Accepted.{GOOD:#} Green accepts {all}.");
    } else {
        anstream::println!("\n{BAD}Not accepted.{BAD:#} Green accepts {accepted} of {all}.");
    }
    let broken = answers.iter().filter(|answer| answer.is_broken()).count();
    if broken > 0 {
        anstream::println!(
            "{BAD}Blue accepts {} of those that green refuses.{BAD:#} Run verify.",
            grouped(broken as u64)
        );
    }
}

/// The reasons of secrets that are not accepted, and the remarks on those that are, each once.
fn print_reasons(answers: &[&CheckResult]) {
    let mut verdicts: Vec<&CheckOutcome> = Vec::new();
    let to_read = |verdict: &&CheckOutcome| !verdict.is_accepted() || verdict.has_remark;
    for verdict in answers.iter().map(|answer| &answer.green).filter(to_read) {
        if !verdicts.contains(&verdict) {
            verdicts.push(verdict);
        }
    }
    if verdicts.is_empty() {
        return;
    }
    anstream::println!();
    for verdict in verdicts {
        let line = format!("{}: {}", reason_code(verdict), verdict.message);
        anstream::println!("  {}", text::wrapped(&line, 2, 4));
    }
}

async fn report(args: &ReportArgs) -> Result<u8> {
    let maps = args.maps.read()?;
    let waiting = progress::waiting(&args.common, "counting credentials");
    let (green, blue) = connect(&args.green, &args.blue, &args.common).await?;
    let report = CredentialsReport::read(&green, blue.as_ref(), &maps).await?;
    drop(waiting);
    match args.common.format {
        Format::Json => print_json(&report),
        Format::Text => print_report(&report),
    }
    Ok(report.exit_code())
}

type KindColumn = (&'static str, fn(&KindReport) -> u64);

/// Columns of the table; one without a count is left out.
const COLUMNS: &[KindColumn] = &[
    ("on green", |kind| kind.carried),
    ("on blue", |kind| kind.on_blue.unwrap_or(0)),
    ("rejected", |kind| kind.rejected.unwrap_or(0)),
    ("hashed", |kind| kind.hashed),
    ("plain", |kind| kind.plain),
    ("encrypted", |kind| kind.encrypted),
    ("no secret", |kind| kind.without_secret),
    ("FIPS mode", |kind| kind.of_fips_mode),
    ("with expiry", |kind| kind.with_expiry),
    ("expired", |kind| kind.expired),
    ("unusable", |kind| kind.unusable),
    ("no owner", |kind| kind.owners_missing),
];

/// The kinds, with the last columns only summed up if the screen is too narrow.
fn table_of_kinds(kinds: &[KindReport]) -> String {
    let sum = |count: fn(&KindReport) -> u64| kinds.iter().map(count).sum::<u64>();
    let has_count = |(at, (_, count)): &(usize, &KindColumn)| *at == 0 || sum(*count) > 0;
    let mut columns: Vec<&KindColumn> =
        COLUMNS.iter().enumerate().filter(has_count).map(|(_, column)| column).collect();
    let mut summed = Vec::new();
    loop {
        let table = with_columns(kinds, &columns);
        if columns.len() > 1 && !text::fits(&table) {
            summed.extend(columns.pop().map(|(name, count)| format!("{name}: {}", grouped(sum(*count)))));
            continue;
        }
        summed.reverse();
        return if summed.is_empty() { table } else { format!("{table}\n  ({})", summed.join("; ")) };
    }
}

fn with_columns(kinds: &[KindReport], columns: &[&KindColumn]) -> String {
    let header: Vec<&str> =
        ["kind", "workspace"].into_iter().chain(columns.iter().map(|(name, _)| *name)).collect();
    let mut table = text::table(&header);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for kind in kinds {
        let workspace = kind.workspace.clone().unwrap_or_else(|| "–".to_owned());
        let number = |count: u64| if count == 0 { "·".to_owned() } else { grouped(count) };
        let numbers = columns.iter().map(|(_, count)| number(count(kind)));
        table.add_row([kind.kind.to_owned(), workspace].into_iter().chain(numbers));
    }
    table.trim_fmt()
}

fn print_report(report: &CredentialsReport) {
    anstream::println!("{BOLD}Credentials{BOLD:#}");
    anstream::println!("{}", table_of_kinds(&report.kinds));
    if !report.admins.is_empty() || report.admins_rejected > 0 {
        anstream::println!("\n{BOLD}Admins{BOLD:#}");
        anstream::println!("  {}", login_summary(&report.admins));
        report.admins.iter().for_each(print_admin);
        report.rejected_admins.iter().take(ADMINS_NAMED).for_each(print_left);
        let more = report.rejected_admins.len().saturating_sub(ADMINS_NAMED);
        if more > 0 {
            anstream::println!("  {BAD}left{BAD:#}   and {more} more were not copied");
        }
    }
    if report.to_do.is_empty() {
        anstream::println!("\n{GOOD}Complete.{GOOD:#} There is nothing to do.");
        return;
    }
    anstream::println!("\n{WARN}To do{WARN:#}");
    for line in &report.to_do {
        anstream::println!("  - {}", text::wrapped(line, 4, 4));
    }
}

/// How many admins can log in, and why the others cannot.
fn login_summary(admins: &[AdminReport]) -> String {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for admin in admins.iter().filter(|admin| !admin.can_log_in) {
        *states.entry(login_obstacle(admin)).or_default() += 1;
    }
    let others: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let can = admins.len() as u64 - states.values().sum::<u64>();
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    format!("{} of {} can log in{others}.", grouped(can), counted(admins.len() as u64, "admin"))
}

/// Why an admin cannot log in.
fn login_obstacle(admin: &AdminReport) -> &'static str {
    if !admin.is_complete {
        "broken"
    } else if !admin.status.may_log_in() {
        admin.status.name()
    } else {
        "without a password"
    }
}

/// Admins left behind that are listed on a screen; JSON has all.
const ADMINS_NAMED: usize = 20;

fn print_left(admin: &RejectedAdmin) {
    let why = match admin.gaps.join(", ") {
        gaps if gaps.is_empty() => "not copied".to_owned(),
        gaps => format!("not copied: {gaps}"),
    };
    let line = format!("{:<20} {why}", admin.display_name());
    anstream::println!("  {BAD}left{BAD:#}   {}", text::wrapped(&line, 9, 9));
}

fn print_admin(admin: &AdminReport) {
    let state =
        if admin.is_complete { format!("{GOOD}whole{GOOD:#} ") } else { format!("{BAD}broken{BAD:#}") };
    let mut notes = Vec::new();
    if admin.status != AdminStatus::Approved {
        notes.push(admin.status.name().to_owned());
    }
    if !admin.token_enabled {
        notes.push("no token".to_owned());
    }
    if !admin.has_password {
        notes.push("no password".to_owned());
    }
    notes.extend(admin.gaps.iter().cloned());
    let notes = if notes.is_empty() { String::new() } else { format!(" – {}", notes.join(", ")) };
    let workspace = admin.workspace.as_deref().unwrap_or("–");
    let line = format!("{:<20} {workspace}: {}{notes}", admin.name, admin.roles.join(", "));
    anstream::println!("  {state} {}", text::wrapped(&line, 9, 9));
}
