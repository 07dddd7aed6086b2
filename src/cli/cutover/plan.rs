//! `cutover plan`: every request of every step, before any is sent.

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::super::args::Format;
use super::super::text::{self, BOLD, wrapped};
use super::{ConfigFileArgs, CutoverContext, DatabaseArgs, label};
use crate::cutover::engine::write::{LOWERED, ROLLED_BACK, STEP, describe_records};
use crate::cutover::preflight::{Preflight, as_line, unproven_findings};
use crate::dns::{
    Change, Desired, Marker, Observed, OriginalTtl, Precondition, RecordForm, Share, Side, Ttl,
};
use crate::duration::compact;
use crate::error::Result;
use crate::finding::{Finding, Severity};

/// Arguments of `cutover plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,

    /// Show the requests only, without querying servers or databases
    #[arg(long)]
    requests_only: bool,

    #[command(flatten)]
    databases: DatabaseArgs,
}

/// One write of the plan.
struct PlannedWrite {
    what: String,
    change: Change,
}

/// Runs the command.
pub async fn run(args: &PlanArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    let observed = context.read().await?;
    let entries = context.entries();
    let initial = context.start_context(&observed, &entries).start()?;
    let ttl = u32::try_from(initial.machine.rules.ttl.as_secs()).unwrap_or(u32::MAX);
    let (planned, back) = plan_writes(&context, &observed, ttl, &initial.identity.originals)?;
    let findings =
        if args.requests_only { Vec::new() } else { run_preflight(&context, args, &observed).await? };
    let refused = findings.iter().any(|finding| finding.severity >= Severity::Unproven);
    let manual = context.provider.manual_command(&back);
    match args.place.common.format {
        Format::Json => print_json(&context, &planned, &findings, &back, &manual),
        Format::Text => print(&context, &observed, &planned, &findings, &manual),
    }
    Ok(if refused { 4 } else { 0 })
}

async fn run_preflight(
    context: &CutoverContext,
    args: &PlanArgs,
    observed: &Observed,
) -> Result<Vec<Finding>> {
    let (servers, health) = (context.servers().await?, context.health()?);
    let databases = args.databases.resolve(&args.place.common)?;
    let preflight = Preflight {
        config: &context.config,
        provider: context.provider.as_ref(),
        observed,
        servers: &servers,
        health: &health,
        databases: databases.as_deref(),
    };
    Ok(preflight.run(&mut |_| {}).await)
}

/// Each write planned from what the one before would leave, and the way back from the middle of them.
fn plan_writes(
    context: &CutoverContext,
    observed: &Observed,
    ttl: u32,
    originals: &[OriginalTtl],
) -> Result<(Vec<PlannedWrite>, Change)> {
    let (run, now) = (Uuid::nil(), context.operator.wall);
    let marker = |generation: u64, state: &str, step: usize, share: Share| Marker {
        run,
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
    let split = |share, marker, precondition| Desired {
        form: RecordForm::Split(share),
        ttl: Ttl::All(ttl),
        marker: Some(marker),
        precondition,
    };
    let mut wanted = vec![(
        format!("TTL {ttl} s, all to blue"),
        split(Share::BLUE, marker(1, LOWERED, 0, Share::BLUE), Precondition::Unchanged),
    )];
    for (at, step) in context.config.steps.iter().enumerate() {
        let bake =
            if step.bake.is_zero() { String::new() } else { format!(", watched for {}", compact(step.bake)) };
        let what = format!("step {}: {} to green{bake}", at + 1, step.share);
        let generation = u64::try_from(at).unwrap_or(0) + 2;
        wanted.push((
            what,
            split(step.share, marker(generation, STEP, at, step.share), Precondition::Unchanged),
        ));
    }
    let last = match context.config.settings.final_ttl {
        Some(ttl) => Ttl::All(ttl),
        None => Ttl::Each(originals.to_vec()),
    };
    let finish = Desired {
        form: RecordForm::Plain(Side::Green),
        ttl: last,
        marker: None,
        precondition: Precondition::Unchanged,
    };
    wanted.push(("finish: plain records of green".to_owned(), finish));
    let (mut planned, mut before, mut middle) = (Vec::new(), observed.clone(), observed.clone());
    for (what, desired) in wanted {
        let change = context.provider.plan(&context.config.target, &before, &desired)?;
        if desired.marker.is_some() {
            middle = change.after.clone();
        }
        before = change.after.clone();
        planned.push(PlannedWrite { what, change });
    }
    let generation = middle.generation() + 1;
    let back = split(Share::BLUE, marker(generation, ROLLED_BACK, 0, Share::BLUE), Precondition::Overwrite);
    let back = context.provider.plan(&context.config.target, &middle, &back)?;
    Ok((planned, back))
}

fn print(
    context: &CutoverContext,
    observed: &Observed,
    planned: &[PlannedWrite],
    findings: &[Finding],
    manual: &str,
) {
    anstream::println!(
        "{BOLD}Current records{BOLD:#}  {}, TTL {} s\n",
        describe_records(observed),
        observed.max_ttl()
    );
    for one in planned {
        anstream::println!("{BOLD}{}{BOLD:#}", one.what);
        for line in one.change.request.to_string().lines() {
            anstream::println!("    {line}");
        }
        anstream::println!();
    }
    let total: std::time::Duration = context.config.steps.iter().map(|step| step.bake).sum();
    let old = compact(std::time::Duration::from_secs(u64::from(observed.max_ttl())));
    anstream::println!(
        "{BOLD}Time{BOLD:#}  {old} for the old TTL, {} of watching, {} of draining",
        compact(total),
        compact(context.config.settings.drain.time)
    );
    anstream::println!("\n{BOLD}To roll back at any time{BOLD:#}\n    {}", context.operator.rollback_command);
    anstream::println!("{BOLD}Manually, if kongferry cannot{BOLD:#}");
    // At the margin: it is pasted into a shell, and its last line ends a text there.
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
        let text = format!(
            "\"start\" asks to accept that, and refuses without a terminal, unless cutover.toml has: [preflight] {}",
            as_line(&open)
        );
        anstream::println!("\n{}", wrapped(&text, 0, 0));
    }
}

fn print_json(
    context: &CutoverContext,
    planned: &[PlannedWrite],
    findings: &[Finding],
    back: &Change,
    manual: &str,
) {
    let writes: Vec<_> =
        planned.iter().map(|one| json!({ "what": one.what, "request": one.change.request })).collect();
    text::print_json(&json!({
        "format": 1,
        "writes": writes,
        "steps": context.config.steps,
        "findings": findings,
        "rollback": { "command": context.operator.rollback_command, "request": back.request, "manual_command": manual, "by_hand": manual },
    }));
}
