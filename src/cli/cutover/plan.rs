//! `cutover plan`: every request of every step, before any is sent.

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::super::args::Format;
use super::super::text::{self, BOLD, wrapped};
use super::{DatabaseArgs, PlaceArgs, Site, word_of};
use crate::cutover::engine::write::{LOWERED, ROLLED_BACK, STEP, stands};
use crate::cutover::preflight::{Preflight, as_line, not_proven};
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
    pub place: PlaceArgs,

    /// Only work out the requests; ask name servers, Prometheus and databases nothing
    #[arg(long)]
    requests_only: bool,

    #[command(flatten)]
    databases: DatabaseArgs,
}

/// One write of the plan.
struct Planned {
    what: String,
    change: Change,
}

/// Runs the command.
pub async fn run(args: &PlanArgs) -> Result<u8> {
    let site = Site::open(&args.place).await?;
    let seen = site.read().await?;
    let entries = site.entries();
    let opening = site.scene(&seen, &entries).start()?;
    let ttl = u32::try_from(opening.machine.rules.ttl.as_secs()).unwrap_or(u32::MAX);
    let (planned, back) = work_out(&site, &seen, ttl, &opening.identity.originals)?;
    let findings = if args.requests_only { Vec::new() } else { look(&site, args, &seen).await? };
    let refused = findings.iter().any(|finding| finding.severity >= Severity::Unproven);
    let manual = site.provider.manual_command(&back);
    match args.place.common.format {
        Format::Json => print_json(&site, &planned, &findings, &back, &manual),
        Format::Text => print(&site, &seen, &planned, &findings, &manual),
    }
    Ok(if refused { 4 } else { 0 })
}

async fn look(site: &Site, args: &PlanArgs, seen: &Observed) -> Result<Vec<Finding>> {
    let (servers, meters) = (site.servers().await?, site.meters()?);
    let databases = args.databases.resolve(&args.place.common)?;
    let preflight = Preflight {
        config: &site.config,
        provider: site.provider.as_ref(),
        seen,
        servers: &servers,
        meters: &meters,
        databases: databases.as_deref(),
    };
    Ok(preflight.run(&mut |_| {}).await)
}

/// Each write planned from what the one before would leave, and the way back from the middle of them.
fn work_out(
    site: &Site,
    seen: &Observed,
    ttl: u32,
    originals: &[OriginalTtl],
) -> Result<(Vec<Planned>, Change)> {
    let (run, now) = (Uuid::nil(), site.who.wall);
    let marker = |generation: u64, state: &str, step: usize, share: Share| Marker {
        run,
        generation,
        state: state.to_owned(),
        step: u32::try_from(step).unwrap_or(u32::MAX),
        share,
        started_at: now,
        written_at: now,
        owner: site.who.owner.clone(),
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
        format!("TTL {ttl} s, still all to blue"),
        split(Share::BLUE, marker(1, LOWERED, 0, Share::BLUE), Precondition::Unchanged),
    )];
    for (at, step) in site.config.steps.iter().enumerate() {
        let bake =
            if step.bake.is_zero() { String::new() } else { format!(", watched for {}", compact(step.bake)) };
        let what = format!("step {}: {} to green{bake}", at + 1, step.share);
        let generation = u64::try_from(at).unwrap_or(0) + 2;
        wanted.push((
            what,
            split(step.share, marker(generation, STEP, at, step.share), Precondition::Unchanged),
        ));
    }
    let last = match site.config.settings.final_ttl {
        Some(ttl) => Ttl::All(ttl),
        None => Ttl::Each(originals.to_vec()),
    };
    let finish = Desired {
        form: RecordForm::Plain(Side::Green),
        ttl: last,
        marker: None,
        precondition: Precondition::Unchanged,
    };
    wanted.push(("finish: ordinary records of green".to_owned(), finish));
    let (mut planned, mut before, mut middle) = (Vec::new(), seen.clone(), seen.clone());
    for (what, desired) in wanted {
        let change = site.provider.plan(&site.config.target, &before, &desired)?;
        if desired.marker.is_some() {
            middle = change.after.clone();
        }
        before = change.after.clone();
        planned.push(Planned { what, change });
    }
    let generation = middle.generation() + 1;
    let back = split(Share::BLUE, marker(generation, ROLLED_BACK, 0, Share::BLUE), Precondition::Overwrite);
    let back = site.provider.plan(&site.config.target, &middle, &back)?;
    Ok((planned, back))
}

fn print(site: &Site, seen: &Observed, planned: &[Planned], findings: &[Finding], manual: &str) {
    anstream::println!("{BOLD}What stands there{BOLD:#}  {}, TTL {} s\n", stands(seen), seen.max_ttl());
    for one in planned {
        anstream::println!("{BOLD}{}{BOLD:#}", one.what);
        for line in one.change.request.to_string().lines() {
            anstream::println!("    {line}");
        }
        anstream::println!();
    }
    let total: std::time::Duration = site.config.steps.iter().map(|step| step.bake).sum();
    let old = compact(std::time::Duration::from_secs(u64::from(seen.max_ttl())));
    anstream::println!(
        "{BOLD}Time{BOLD:#}  {old} for the old TTL, {} of watching, {} of drain",
        compact(total),
        compact(site.config.settings.drain.time)
    );
    anstream::println!("\n{BOLD}To go back at any time{BOLD:#}\n    {}", site.who.rollback_command);
    anstream::println!("{BOLD}By hand, where nothing else works{BOLD:#}");
    // At the margin: it is pasted into a shell, and its last line ends a text there.
    anstream::println!("{manual}");
    if findings.is_empty() {
        return;
    }
    anstream::println!("\n{BOLD}Preflight{BOLD:#}");
    for finding in findings {
        let (word, style) = word_of(finding.severity);
        let remedy = if finding.severity == Severity::Ok { "" } else { &finding.remedy };
        let text = format!("{}. {remedy}", finding.message);
        anstream::println!("{style}{word}{style:#}  {}", wrapped(text.trim_end(), 6, 6));
    }
    let open = not_proven(findings);
    if !open.is_empty() {
        let text = format!(
            "\"start\" asks whether to take that on trust, and refuses where nobody can be asked, unless cutover.toml says: [preflight] {}",
            as_line(&open)
        );
        anstream::println!("\n{}", wrapped(&text, 0, 0));
    }
}

fn print_json(site: &Site, planned: &[Planned], findings: &[Finding], back: &Change, manual: &str) {
    let writes: Vec<_> =
        planned.iter().map(|one| json!({ "what": one.what, "request": one.change.request })).collect();
    text::print_json(&json!({
        "format": 1,
        "writes": writes,
        "steps": site.config.steps,
        "findings": findings,
        "rollback": { "command": site.who.rollback_command, "request": back.request, "by_hand": manual },
    }));
}
