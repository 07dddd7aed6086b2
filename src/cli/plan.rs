//! `plan`: its flags, and the result of the rehearsal.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::args::{BlueArgs, CommonArgs, Format, GreenArgs, TableArgs};
use super::connect::application_name;
use super::{progress, summary, text};
use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::config::GreenConfig;
use crate::green::session::Green;
use crate::inspect::InspectOptions;
use crate::progress::ProgressPhase;
use crate::rehearsal::{self, PlanReport, Rehearsal, Scratch};

#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    tables: TableArgs,

    /// Convert every row without a scratch PostgreSQL
    ///
    /// Finds what is wrong with a row by itself. Duplicates, references and everything else that only PostgreSQL can
    /// check are not checked.
    #[arg(long, conflicts_with = "scratch")]
    quick: bool,

    /// List how each column is converted
    ///
    /// Blue's type, the rule, and green's type.
    #[arg(long)]
    columns: bool,

    /// Empty PostgreSQL database to rehearse in
    ///
    /// postgres:// address. Default: a server of kongferry's own, which is started for the rehearsal and removed after it.
    #[arg(long, value_name = "URL")]
    scratch: Option<String>,

    /// File for the rows that would be rejected
    ///
    /// One JSON object per line. Secrets are written as a short digest and a length; mode 0600. After review it is the FILE of migrate --accept-rejects.
    /// Default: rejected rows are counted, not written.
    #[arg(long, value_name = "FILE")]
    rejects_file: Option<PathBuf>,

    /// Write secrets to the rejects file in clear text
    #[arg(long)]
    show_secrets: bool,

    /// Accept that other sessions use green's database
    ///
    /// Without it they are a finding.
    #[arg(long)]
    green_online: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Runs the command.
pub async fn run(args: &PlanArgs) -> Result<u8> {
    let blue_config = args.blue.resolve(&args.common)?;
    let green_config =
        if args.green.is_given(&args.common) { Some(args.green.resolve(&args.common)?) } else { None };
    let rehearsal = Rehearsal {
        inspect: InspectOptions { only_reading: true, ..args.tables.choices(args.green_online)? },
        rejects_file: args.rejects_file.clone(),
        show_secrets: args.show_secrets,
        scratch: scratch(args)?,
    };
    if green_config.is_none() && args.quick {
        return Err(Error::usage(
            "plan --quick requires an address of green, whose tables determine the conversions",
        )
        .remedy(
            "Pass --green, or leave out --quick: plan then creates the tables of blue's version itself.",
        ));
    }
    let before = if args.quick {
        "checking both databases"
    } else {
        "checking both databases, starting a scratch PostgreSQL"
    };
    let observer = progress::observer(&args.common, before, phase_name);
    let green = match &green_config {
        Some(config) => Some(Green::connect(config, &application_name()).await?),
        None => None,
    };
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    let report = Box::pin(rehearsal::run(blue, green.as_ref(), &rehearsal, observer)).await?;
    print(args, &report);
    Ok(report.exit_code())
}

/// "apply" alone would read as if green were written.
fn phase_name(phase: ProgressPhase) -> &'static str {
    match phase {
        ProgressPhase::Applying => "apply to the scratch server",
        other => other.label(),
    }
}

fn scratch(args: &PlanArgs) -> Result<Scratch> {
    Ok(match (&args.scratch, args.quick) {
        (_, true) => Scratch::None,
        (Some(address), false) => Scratch::At(Box::new(GreenConfig::parse(address)?)),
        (None, false) => Scratch::Own,
    })
}

fn print(args: &PlanArgs, report: &PlanReport) {
    if args.common.format == Format::Json {
        return text::print_json(report);
    }
    if args.columns {
        print_columns(report);
    }
    summary::print(&report.report, args.common.is_verbose());
    for line in &report.not_checked {
        anstream::println!("\n{}not checked:{:#} {}", text::WARN, text::WARN, text::wrapped(line, 13, 7));
    }
}

fn print_columns(report: &PlanReport) {
    for table in &report.columns {
        anstream::println!("{}{}{:#}", text::BOLD, table.table, text::BOLD);
        let mut rendered = text::table(&["column", "on blue", "rule", "on green"]);
        rendered.column_iter_mut().for_each(|column| {
            column.set_cell_alignment(comfy_table::CellAlignment::Left);
        });
        for column in &table.columns {
            rendered.add_row([&column.column, &column.blue, &column.rule, &column.green]);
        }
        anstream::println!("{}\n", rendered.trim_fmt());
    }
}
