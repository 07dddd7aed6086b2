//! `verify --since-run`: what changed since the last run.

use std::sync::Arc;

use super::args::{BlueArgs, CommonArgs, Format, GreenArgs, TableArgs};
use super::connect::application_name;
use super::progress;
use super::text::{self, BAD, Class, GOOD, WARN, counted, spent, wrapped};
use crate::blue::session::Blue;
use crate::error::Result;
use crate::green::session::Green;
use crate::migrate::drift::{self, DriftCounts, DriftReport};
use crate::progress::ProgressPhase;

pub async fn run(blue: &BlueArgs, green: &GreenArgs, tables: &TableArgs, common: &CommonArgs) -> Result<u8> {
    let choices = tables.choices(true)?;
    let (blue_config, green_config) = (blue.resolve(common)?, green.resolve(common)?);
    let observer = progress::observer(common, "checking both databases", ProgressPhase::label);
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    let drift = Box::pin(drift::detect(blue, &green, &choices, observer)).await?;
    match common.format {
        Format::Json => text::print_json(&drift),
        Format::Text => print(&drift),
    }
    Ok(drift.exit_code())
}

const CLASSES: [Class<DriftCounts>; 6] = [
    ("unchanged", |counts| counts.unchanged),
    ("new", |counts| counts.added),
    ("changed", |counts| counts.changed),
    ("deleted", |counts| counts.deleted),
    ("changed on green", |counts| counts.on_green),
    ("rejected", |counts| counts.rejected),
];

fn print(drift: &DriftReport) {
    let (style, title) = if drift.clean { (GOOD, "No drift.") } else { (BAD, "Drift.") };
    let sentence = format!("{} ({})", drift.sentence(), spent(drift.seconds));
    anstream::println!("{style}{title}{style:#} {}", wrapped(&sentence, title.len() + 1, 2));
    anstream::println!("  blue   {}", text::side(&drift.blue, "keyspace"));
    anstream::println!("  green  {}", text::side(&drift.green, "database"));
    if drift.tables.is_empty() {
        return;
    }
    let rows: Vec<(String, DriftCounts)> =
        drift.tables.iter().map(|table| (table.table.clone(), table.counts)).collect();
    let mut total = DriftCounts::default();
    rows.iter().for_each(|(_, counts)| total.add(counts));
    anstream::println!("\n{}", text::by_class(&CLASSES, &rows, &total));
    for table in drift.tables.iter().filter(|table| !table.deleted_keys.is_empty()) {
        let keys: Vec<String> =
            table.deleted_keys.iter().map(crate::mapping::row_json::display_key).collect();
        let more = if table.counts.deleted > keys.len() as u64 { " …" } else { "" };
        let line = format!(
            "{} of {} were deleted on blue and are not deleted on green yet: {}{more}",
            counted(table.counts.deleted, "row"),
            table.table,
            keys.join(", ")
        );
        anstream::println!("  {WARN}{}{WARN:#}", wrapped(&line, 2, 4));
    }
    let newest = drift.tables.iter().filter_map(|table| Some((table.newest_write?, &table.table))).max();
    if let Some((time, table)) = newest {
        let line = format!(
            "The newest of these writes was to {table} at {} UTC, by blue's clock.",
            time.format("%Y-%m-%d %H:%M:%S")
        );
        anstream::println!("  {}", wrapped(&line, 2, 4));
    }
    if !drift.clean {
        let remedy = match drift.admin.on_green {
            0 => "Run migrate again: it applies only these changes.",
            _ => {
                "Make the changes of green on blue too, or undo them. Then run migrate again; it lists them."
            }
        };
        anstream::println!("\n{WARN}to do:{WARN:#} {}", wrapped(remedy, 7, 7));
    }
}
