//! Prints findings, and asks the operator to accept what preflight could not prove.

use std::io::IsTerminal;

use super::super::args::Format;
use super::super::confirm::read_reply;
use super::super::text::{WARN, counted, wrapped};
use super::{CutoverContext, label};
use crate::cutover::config::Unproven;
use crate::cutover::preflight::{acceptance_line, unproven_findings};
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
            .remedy("Read the findings above first."));
    }
    let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning);
    let notes = match counted(warnings.count() as u64, "note") {
        none if none.starts_with("0 ") => String::new(),
        notes => format!(" with {notes}"),
    };
    if !open.is_empty() {
        anstream::eprintln!("\n{WARN}Not proven:{WARN:#}");
        for finding in &open {
            anstream::eprintln!("  - {}", wrapped(&finding.message, 4, 4));
        }
    }
    let action = if open.is_empty() { "Lower" } else { "Accept what is not proven, lower" };
    anstream::eprint!("\nPreflight is complete{notes}. {action} the TTL and start? [y/N] ");
    if read_reply().await? {
        return Ok(());
    }
    Err(Error::refused("not started; nothing was changed"))
}

fn refuse_unproven(open: &[&Finding]) -> Error {
    let checks = counted(open.len() as u64, "check");
    let refused = Error::refused(format!(
        "preflight could not prove {checks}, and only an operator at a terminal, without --yes, can accept that"
    ))
    .remedy(format!(
        "Follow the remedies above, start at a terminal without --yes, or set in cutover.toml: [preflight] {}.",
        acceptance_line(open)
    ));
    open.iter()
        .fold(refused, |error, finding| error.detail(format!("{}. {}", finding.message, finding.remedy)))
}

/// Asks the operator to continue without checks for drift, if the run would check and the databases are not configured.
pub(super) async fn consent_without_databases(
    context: &CutoverContext,
    has_databases: bool,
    checks_drift: bool,
) -> Result<()> {
    let settings = &context.config.settings.preflight;
    let is_accepted = !settings.drift || settings.unproven.contains(&Unproven::Databases);
    if has_databases || is_accepted || !checks_drift {
        return Ok(());
    }
    let message = "changes by Admin API clients on blue or green will not be detected: the databases are not configured";
    if !std::io::stdin().is_terminal() {
        return Err(Error::refused(message).remedy(
            "Pass --blue and --green, or set in cutover.toml: [preflight] unproven = [\"databases\"].",
        ));
    }
    anstream::eprint!("{message}.\nContinue anyway? [y/N] ");
    if read_reply().await? {
        return Ok(());
    }
    Err(Error::refused("not continued; nothing was changed"))
}
