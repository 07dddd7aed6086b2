//! Prints findings, and asks the operator to accept what preflight could not prove.

use std::io::IsTerminal;

use super::super::args::Format;
use super::super::confirm::read_reply;
use super::super::text::{WARN, wrapped};
use super::{CutoverContext, label};
use crate::cutover::config::Unproven;
use crate::cutover::preflight::{as_line, unproven_findings};
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};

/// Prints a finding, unless the output is JSON.
pub(super) fn print_finding(finding: &Finding, format: Format) {
    if format == Format::Json {
        return;
    }
    let (word, style) = label(finding.severity);
    anstream::println!("{style}{word}{style:#}  {}", wrapped(&finding.message, 6, 6));
    if !finding.remedy.is_empty() && finding.severity != Severity::Ok {
        anstream::println!("      {}", wrapped(&finding.remedy, 6, 6));
    }
}

/// Asks the operator to confirm. Without a terminal `--yes` confirms, and `cutover.toml` accepts what is not proven.
pub(super) async fn consent(yes_given: bool, findings: &[Finding]) -> Result<()> {
    let open = unproven_findings(findings);
    let terminal = std::io::stdin().is_terminal();
    if !open.is_empty() && (yes_given || !terminal) {
        return Err(refuse_unproven(&open));
    }
    if yes_given {
        return Ok(());
    }
    if !terminal {
        return Err(Error::usage("confirmation required, but standard input is not a terminal: pass --yes")
            .remedy("Read the notes above first."));
    }
    let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    let notes = if warnings > 0 { format!(" with {warnings} notes") } else { String::new() };
    if !open.is_empty() {
        anstream::eprintln!("\n{WARN}Not proven:{WARN:#}");
        for finding in &open {
            anstream::eprintln!("  - {}", wrapped(&finding.message, 4, 4));
        }
    }
    let lower = if open.is_empty() { "Lower" } else { "Accept that, lower" };
    anstream::eprint!("\nPreflight is complete{notes}. {lower} the TTL and start? [y/N] ");
    if read_reply().await? {
        return Ok(());
    }
    Err(Error::refused("not started; nothing was changed"))
}

fn refuse_unproven(open: &[&Finding]) -> Error {
    let things =
        if open.len() == 1 { "one thing is".to_owned() } else { format!("{} things are", open.len()) };
    let refused = Error::refused(format!(
        "{things} not proven, and only an operator at a terminal, without --yes, can accept that"
    ))
    .remedy(format!(
        "Prove it, start at a terminal without --yes, or accept it in cutover.toml: [preflight] {}",
        as_line(open)
    ));
    open.iter().fold(refused, |error, one| error.detail(format!("{}. {}", one.message, one.remedy)))
}

/// Asks the operator to continue without the databases, and so without checks for drift. `checks_drift` is whether the run
/// would check otherwise.
pub(super) async fn consent_without_databases(
    context: &CutoverContext,
    has_databases: bool,
    checks_drift: bool,
) -> Result<()> {
    let wanted = &context.config.settings.preflight;
    let trusted = !wanted.drift || wanted.unproven.contains(&Unproven::Databases);
    if has_databases || trusted || !checks_drift {
        return Ok(());
    }
    let what = "changes by Admin API clients on blue or green will not be detected: the databases are not configured";
    if !std::io::stdin().is_terminal() {
        return Err(Error::refused(what).remedy(
            "Give --blue and --green, or accept it in cutover.toml: [preflight] unproven = [\"databases\"]",
        ));
    }
    anstream::eprint!("{what}.\nContinue anyway? [y/N] ");
    if read_reply().await? {
        return Ok(());
    }
    Err(Error::refused("not continued; nothing was changed"))
}
