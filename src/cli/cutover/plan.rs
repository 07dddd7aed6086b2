//! `cutover plan`: every request of every step, before any is sent.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::args::Format;
use super::super::text::{self, BOLD, wrapped};
use super::{ConfigFileArgs, CutoverContext, DatabaseArgs, label};
use crate::cutover::marker::{LOWERED, ROLLED_BACK, STEP, describe_records};
use crate::cutover::preflight::{acceptance_line, unproven_findings};
use crate::dns::{
    Change, Desired, Marker, Observed, OriginalTtl, Precondition, RecordForm, Request, Share, Side, Ttl,
};
use crate::duration::compact;
use crate::error::Result;
use crate::finding::{Finding, Severity};

#[derive(Debug, Clone, Args)]
pub(super) struct CutoverPlanArgs {
    #[command(flatten)]
    pub(super) place: ConfigFileArgs,

    /// Show the requests only, without preflight
    #[arg(long)]
    requests_only: bool,

    #[command(flatten)]
    databases: DatabaseArgs,
}

struct PlannedWrite {
    /// Such as "step 1: 5 % to green".
    title: String,
    change: Change,
}

pub(super) async fn run(args: &CutoverPlanArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    let observed = context.read().await?;
    let entries = context.entries();
    let initial = context.start_context(&observed, &entries).start()?;
    let ttl = u32::try_from(initial.machine.rules.ttl.as_secs()).unwrap_or(u32::MAX);
    let (writes, rollback) = plan_writes(&context, &observed, ttl, &initial.identity.originals)?;
    let findings =
        if args.requests_only { Vec::new() } else { run_preflight(&context, args, &observed).await? };
    let is_refused = findings.iter().any(|finding| finding.severity >= Severity::Unproven);
    let manual = context.provider.manual_command(&rollback);
    match args.place.common.format {
        Format::Json => print_json(&context, &writes, &findings, &rollback.request, &manual),
        Format::Text => print(&context, &observed, &writes, &findings, &manual),
    }
    Ok(if is_refused { 4 } else { 0 })
}

async fn run_preflight(
    context: &CutoverContext,
    args: &CutoverPlanArgs,
    observed: &Observed,
) -> Result<Vec<Finding>> {
    let (servers, health) = (context.servers().await?, context.health()?);
    let databases = args.databases.resolve(&args.place.common)?;
    let preflight = context.preflight(observed, &servers, &health, databases.as_deref());
    Ok(preflight.run(&mut |_| {}).await)
}

/// Each write planned from the result of the one before, and the rollback from the last step.
fn plan_writes(
    context: &CutoverContext,
    observed: &Observed,
    ttl: u32,
    originals: &[OriginalTtl],
) -> Result<(Vec<PlannedWrite>, Change)> {
    let now = context.operator.wall;
    let marker = |generation: u64, state: &str, step: usize, share: Share| Marker {
        run: Uuid::nil(),
        generation,
        state: state.to_owned(),
        step: u32::try_from(step).unwrap_or(u32::MAX),
        share,
        started_at: now,
        written_at: now,
        owner: context.operator.owner.clone(),
        lease_until: None,
        originals: originals.to_vec(),
        note: String::new(),
    };
    let split = |marker: Marker, precondition| Desired {
        form: RecordForm::Split(marker.share),
        ttl: Ttl::All(ttl),
        marker: Some(marker),
        precondition,
    };
    let unchanged = Precondition::Unchanged;
    let lower = marker(1, LOWERED, 0, Share::BLUE);
    let mut planned = vec![(format!("TTL {ttl} s, all to blue"), split(lower, unchanged))];
    for (generation, (index, step)) in (2..).zip(context.config.steps.iter().enumerate()) {
        let bake =
            if step.bake.is_zero() { String::new() } else { format!(", bakes for {}", compact(step.bake)) };
        let title = format!("step {}: {} to green{bake}", index + 1, step.share);
        planned.push((title, split(marker(generation, STEP, index, step.share), unchanged)));
    }
    let final_ttl = context.config.settings.final_ttl;
    let finish = Desired {
        form: RecordForm::Plain(Side::Green),
        ttl: final_ttl.map_or_else(|| Ttl::Each(originals.to_vec()), Ttl::All),
        marker: None,
        precondition: unchanged,
    };
    planned.push(("finish: plain records of green".to_owned(), finish));
    let (mut writes, mut before, mut last_step) = (Vec::new(), observed.clone(), observed.clone());
    for (title, desired) in planned {
        let change = context.provider.plan(&context.config.target, &before, &desired)?;
        if desired.marker.is_some() {
            last_step = change.after.clone();
        }
        before = change.after.clone();
        writes.push(PlannedWrite { title, change });
    }
    let rolled_back = marker(last_step.generation() + 1, ROLLED_BACK, 0, Share::BLUE);
    let desired = split(rolled_back, Precondition::Overwrite);
    let rollback = context.provider.plan(&context.config.target, &last_step, &desired)?;
    Ok((writes, rollback))
}

fn print(
    context: &CutoverContext,
    observed: &Observed,
    writes: &[PlannedWrite],
    findings: &[Finding],
    manual: &str,
) {
    let (records, ttl) = (describe_records(observed), observed.max_ttl());
    anstream::println!("{BOLD}Current records{BOLD:#}  {records}, TTL {ttl} s\n");
    for write in writes {
        anstream::println!("{BOLD}{}{BOLD:#}", write.title);
        for line in write.change.request.to_string().lines() {
            anstream::println!("    {line}");
        }
        anstream::println!();
    }
    let bake: Duration = context.config.steps.iter().map(|step| step.bake).sum();
    anstream::println!(
        "{BOLD}Duration{BOLD:#}  {} until the old TTL expires, {} of bake time, {} of drain",
        compact(Duration::from_secs(u64::from(ttl))),
        compact(bake),
        compact(context.config.settings.drain.time)
    );
    anstream::println!("\n{BOLD}To roll back at any time{BOLD:#}\n    {}", context.operator.rollback_command);
    anstream::println!("{BOLD}Manually, if kongferry cannot{BOLD:#}");
    // Not indented: the last line of the command may end a here-document.
    anstream::println!("{manual}");
    if findings.is_empty() {
        return;
    }
    anstream::println!("\n{BOLD}Preflight{BOLD:#}");
    for finding in findings {
        let (word, style) = label(finding.severity);
        let remedy = if finding.severity == Severity::Ok { "" } else { &finding.remedy };
        let text = format!("{}. {remedy}", finding.message);
        anstream::println!("{style}{word}{style:#}  {}", wrapped(text.trim_end(), 6, 6));
    }
    let open = unproven_findings(findings);
    if !open.is_empty() {
        let line = acceptance_line(&open);
        let text = format!(
            "\"start\" asks an operator to accept what is not proven. Without a terminal it refuses, unless cutover.toml has: [preflight] {line}"
        );
        anstream::println!("\n{}", wrapped(&text, 0, 0));
    }
}

fn print_json(
    context: &CutoverContext,
    writes: &[PlannedWrite],
    findings: &[Finding],
    rollback: &Request,
    manual: &str,
) {
    let writes: Vec<Value> =
        writes.iter().map(|write| json!({ "what": write.title, "request": write.change.request })).collect();
    text::print_json(&json!({
        "format": 1,
        "writes": writes,
        "steps": context.config.steps,
        "findings": findings,
        "rollback": rollback_json(&context.operator.rollback_command, rollback, manual),
    }));
}

/// `by_hand` is the old name of `manual_command`.
fn rollback_json(command: &str, request: &Request, manual: &str) -> Value {
    json!({ "command": command, "request": request, "manual_command": manual, "by_hand": manual })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_name_of_earlier_versions_too() {
        let request = Request::Program { command: vec!["dns".to_owned()], input: Value::Null };
        let json = rollback_json("kongferry cutover rollback", &request, "curl …");
        assert_eq!((&json["manual_command"], &json["by_hand"]), (&"curl …".into(), &"curl …".into()));
    }
}
