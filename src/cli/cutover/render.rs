//! The status of a cutover as lines of text.

use anstyle::{AnsiColor, Style};

use super::super::text::{BAD, BOLD, GOOD, WARN, spent};
use crate::cutover::gates::measurement::GateVerdict;
use crate::cutover::notice::Level;
use crate::cutover::state::{CutoverPhase, Goal};
use crate::cutover::status::{GateStatus, StatusSnapshot, TimedNotice};
use crate::dns::Share;

const BANNER_WARN: Style =
    AnsiColor::Black.on_default().bg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow))).bold();
const BANNER_BAD: Style =
    AnsiColor::White.on_default().bg_color(Some(anstyle::Color::Ansi(AnsiColor::Red))).bold();
/// How many events are shown if the screen is large enough.
const MAX_EVENTS: usize = 8;
const DIM: Style = Style::new().dimmed();

pub(super) fn event_line(event: &TimedNotice) -> String {
    let style = match event.notice.level {
        Level::Info => Style::new(),
        Level::Warn => WARN,
        Level::Error => BAD,
    };
    let time = event.at.with_timezone(&chrono::Local).format("%H:%M:%S");
    format!("{DIM}{time}{DIM:#}  {style}{}{style:#}", event.notice.text)
}

/// The status with as many events as fit the screen: the rollback command is always visible.
pub(super) fn fit_to_screen(snapshot: &StatusSnapshot, width: usize, rows: usize) -> Vec<String> {
    let space = rows.saturating_sub(1);
    let all = status_lines(snapshot, width, MAX_EVENTS);
    let excess = all.len().saturating_sub(space);
    let mut lines =
        if excess == 0 { all } else { status_lines(snapshot, width, MAX_EVENTS.saturating_sub(excess)) };
    // On a smaller screen the lines above the rollback command are cut.
    if lines.len() > space {
        let rollback = lines.iter().position(|line| line.contains("TO ROLL BACK")).unwrap_or(0);
        let tail = lines.split_off(rollback);
        lines.truncate(space.saturating_sub(tail.len()));
        lines.extend(tail);
        lines.truncate(space);
    }
    lines
}

/// The status in lines of at most `width` columns.
pub(super) fn render(snapshot: &StatusSnapshot, width: usize) -> Vec<String> {
    status_lines(snapshot, width, MAX_EVENTS)
}

fn status_lines(snapshot: &StatusSnapshot, width: usize, events: usize) -> Vec<String> {
    let width = width.clamp(40, 140);
    let mut lines = vec![title(snapshot), String::new()];
    lines.extend(banner(snapshot, width));
    lines.extend([steps(snapshot), bar(snapshot, width), String::new(), shares(snapshot)]);
    lines.extend(requests(snapshot));
    let gates = &snapshot.gates;
    if !gates.is_empty() {
        lines.extend([String::new(), format!("  {BOLD}GATES{BOLD:#}")]);
        let name = gates.iter().map(|gate| gate.name.chars().count()).max().unwrap_or(0);
        let value = gates.iter().map(|gate| value_of(gate).chars().count()).max().unwrap_or(0);
        lines.extend(gates.iter().map(|gate| gate_line(gate, name, value)));
    }
    let first = snapshot.events.len().saturating_sub(events);
    if first < snapshot.events.len() {
        lines.extend([String::new(), format!("  {BOLD}EVENTS{BOLD:#}")]);
    }
    lines.extend(snapshot.events.iter().skip(first).map(|event| format!("  {}", event_line(event))));
    lines.extend([
        String::new(),
        format!("  {BOLD}TO ROLL BACK{BOLD:#}  {BOLD}{}{BOLD:#}", snapshot.rollback_command),
    ]);
    lines.iter_mut().for_each(|line| *line = cut(line, width));
    if let Some(manual) = &snapshot.manual_command {
        lines.push(format!("  {BAD}THE PROVIDER REFUSES THE WRITE. MANUAL ROLLBACK:{BAD:#}"));
        // Neither cut nor indented: it is pasted into a shell.
        lines.extend(manual.lines().map(str::to_owned));
    }
    lines
}

fn title(snapshot: &StatusSnapshot) -> String {
    let time = snapshot.at.with_timezone(&chrono::Local).format("%H:%M:%S");
    let owner = if snapshot.owner.is_empty() {
        String::new()
    } else {
        format!("  {DIM}by {}{DIM:#}", snapshot.owner)
    };
    format!("{BOLD}CUTOVER  {}{BOLD:#}   {DIM}{time}{DIM:#}{owner}", snapshot.records.join("  "))
}

fn banner(snapshot: &StatusSnapshot, width: usize) -> Vec<String> {
    let (style, text) = match (snapshot.phase, &snapshot.paused) {
        (CutoverPhase::Moving { goal: Goal::Rollback, .. } | CutoverPhase::RolledBack, _) => {
            let reason = snapshot.rollback_reason.as_deref().unwrap_or_default();
            (BANNER_BAD, format!("{}  {reason}", snapshot.sentence.to_uppercase()))
        }
        (_, Some(pause)) => (BANNER_WARN, format!("PAUSED  {}", pause.reason)),
        _ => return Vec::new(),
    };
    let text = cut(&text, width - 4);
    vec![format!("  {style} {text:<0$} {style:#}", width.saturating_sub(6)), String::new()]
}

/// `✔ TTL  ✔ 1 %  ▶ 5 %  · 10 %  · 50 %  · 100 %  · drain`
fn steps(snapshot: &StatusSnapshot) -> String {
    let share = snapshot.share.weight;
    let is_lowering = matches!(snapshot.phase, CutoverPhase::Moving { goal: Goal::LowerTtl, .. });
    let has_started = snapshot.state != "not_started";
    let mut marks = vec![progress_mark("TTL", !is_lowering && has_started, is_lowering)];
    for (index, step) in snapshot.steps.iter().enumerate() {
        let is_current = snapshot.step == Some(index);
        if !is_current && snapshot.skipped.contains(&index) {
            marks.push(format!("{WARN}» {}{WARN:#}", step.share));
            continue;
        }
        let is_done = share >= step.share && share > Share::BLUE && !snapshot.phase.is_going_back();
        marks.push(progress_mark(&step.share.to_string(), is_done, is_current));
    }
    let has_drained =
        matches!(snapshot.phase, CutoverPhase::Drained | CutoverPhase::Finished) && share == Share::GREEN;
    marks.push(progress_mark("drain", has_drained, snapshot.phase == CutoverPhase::Draining));
    if !snapshot.skipped.is_empty() {
        marks.push(format!("{WARN}(» skipped){WARN:#}"));
    }
    format!("  {}", marks.join("   "))
}

fn progress_mark(name: &str, is_done: bool, is_current: bool) -> String {
    match (is_current, is_done) {
        (true, _) => format!("{BOLD}▶ {name}{BOLD:#}"),
        (false, true) => format!("{GOOD}✔ {name}{GOOD:#}"),
        (false, false) => format!("{DIM}· {name}{DIM:#}"),
    }
}

fn bar(snapshot: &StatusSnapshot, width: usize) -> String {
    let left = snapshot.seconds_left.map(|left| format!("  {} left", spent(left))).unwrap_or_default();
    // Space for the longest sentence, so that the bar keeps its width.
    let columns = width.saturating_sub(62).clamp(10, 60);
    // Every share above zero is visible.
    let exact = snapshot.share.weight.fraction() * columns as f64;
    let filled = if exact > 0.0 { (exact.round() as usize).max(1) } else { 0 };
    let (green, blue) = ("█".repeat(filled), "░".repeat(columns - filled));
    format!("  {GOOD}{green}{GOOD:#}{DIM}{blue}{DIM:#}  {}{BOLD}{left}{BOLD:#}", snapshot.sentence)
}

fn shares(snapshot: &StatusSnapshot) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{share:.1} %"));
    format!(
        "  {BOLD}ON GREEN{BOLD:#}    at the provider {BOLD}{}{BOLD:#}   by queries {BOLD}{}{BOLD:#}   by counters {BOLD}{}{BOLD:#}",
        snapshot.share.weight,
        percent(snapshot.share.by_queries),
        percent(snapshot.share.by_counters)
    )
}

fn requests(snapshot: &StatusSnapshot) -> Option<String> {
    let traffic = snapshot.traffic?;
    let rate = |rate: Option<f64>| rate.map_or_else(|| "no data".to_owned(), |rate| format!("{rate:.1}/s"));
    Some(format!(
        "  {BOLD}REQUESTS{BOLD:#}    blue {BOLD}{}{BOLD:#}   green {BOLD}{}{BOLD:#}",
        rate(traffic.blue),
        rate(traffic.green)
    ))
}

fn value_of(gate: &GateStatus) -> &str {
    gate.last.as_ref().map_or("not checked yet", |last| last.value.as_str())
}

fn gate_line(gate: &GateStatus, name: usize, value: usize) -> String {
    let (mark, style) = match gate.verdict() {
        Some(GateVerdict::Pass) => ("✔", GOOD),
        Some(GateVerdict::Fail) => ("✘", BAD),
        Some(GateVerdict::Inconclusive) => ("?", WARN),
        None => ("·", DIM),
    };
    let (limit, why) = gate.last.as_ref().map_or(("", ""), |last| (&last.limit, &last.why));
    format!(
        "  {style}{mark} {:<name$}  {:<value$}{style:#}  {limit:<12}  {DIM}{why}{DIM:#}",
        gate.name,
        value_of(gate)
    )
}

/// Cuts a line at the width; its colors end there.
fn cut(line: &str, width: usize) -> String {
    if console::measure_text_width(line) <= width {
        return line.to_owned();
    }
    format!("{}\x1b[0m", console::truncate_str(line, width, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cutover::gates::measurement::{Measurement, Traffic};
    use crate::cutover::notice::Notice;
    use crate::cutover::state::{Activity, Pause};
    use crate::cutover::status::Shares;
    use crate::cutover::step::guide_steps;

    fn snapshot() -> StatusSnapshot {
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let phase = CutoverPhase::Moving { goal: Goal::Step(2), activity: Activity::Baking };
        let gate = |name: &str, measured: Option<Measurement>| GateStatus {
            name: name.to_owned(),
            last: measured,
            passes: 3,
            seconds_to_next: Some(4.0),
        };
        StatusSnapshot {
            format: 1,
            run: uuid::Uuid::from_u128(1),
            records: vec!["api.example.com/A".to_owned()],
            state: "step".to_owned(),
            phase,
            sentence: phase.sentence(&guide_steps()),
            paused: None,
            rollback_reason: None,
            steps: guide_steps(),
            step: Some(2),
            skipped: Vec::new(),
            share: Shares {
                weight: Share::percent(10).unwrap(),
                by_queries: Some(9.97),
                by_counters: Some(8.6),
            },
            seconds_left: Some(740.0),
            seconds_in_stage: 10.0,
            gates: vec![
                gate(
                    "kong-errors",
                    Some(Measurement {
                        why: "blue has 0.1 %".to_owned(),
                        ..Measurement::judged(true, "0.12 %", "≤ 1.1 %")
                    }),
                ),
                gate("login", Some(Measurement::judged(false, "HTTP 401 in 3 ms", "HTTP 200"))),
                gate(
                    "kong-latency",
                    Some(Measurement::inconclusive("green had 12 of the 100 requests required")),
                ),
                gate("new", None),
            ],
            traffic: Some(Traffic { blue: Some(120.0), green: None }),
            events: vec![TimedNotice {
                at,
                notice: Notice {
                    level: Level::Info,
                    code: "step".to_owned(),
                    text: "Step 3 of 5: 10 % to green".to_owned(),
                },
            }],
            owner: "anna@ops-1/42".to_owned(),
            at,
            watched: true,
            rollback_command: "kongferry cutover rollback".to_owned(),
            manual_command: None,
        }
    }

    fn plain(snapshot: &StatusSnapshot, width: usize) -> String {
        let lines: Vec<String> = render(snapshot, width)
            .iter()
            .map(|line| console::strip_ansi_codes(line).trim_end().to_owned())
            .collect();
        // Times are printed in the local time zone.
        let clock = regex::Regex::new(r"\d\d:\d\d:\d\d").unwrap();
        clock.replace_all(&lines.join("\n"), "HH:MM:SS").into_owned()
    }

    #[test]
    fn status_view_renders() {
        insta::assert_snapshot!(plain(&snapshot(), 100));
    }

    #[test]
    fn json_has_the_field_names_of_earlier_versions() {
        let rolled_back = StatusSnapshot { rollback_reason: Some("a gate".to_owned()), ..snapshot() };
        let json = rolled_back.to_json();
        assert_eq!((&json["rollback_reason"], &json["why_back"]), (&"a gate".into(), &"a gate".into()));
        let mut of_earlier_version = json;
        of_earlier_version.as_object_mut().unwrap().remove("rollback_reason");
        assert_eq!(serde_json::from_value::<StatusSnapshot>(of_earlier_version).unwrap(), rolled_back);
    }

    #[test]
    fn a_pause_has_a_banner() {
        let pause = Pause {
            code: "gate".to_owned(),
            reason: "gate login fails: HTTP 401 in 3 ms, must be HTTP 200".to_owned(),
        };
        let paused = StatusSnapshot { paused: Some(pause), seconds_left: None, ..snapshot() };
        assert!(plain(&paused, 100).contains("PAUSED  gate login fails: HTTP 401 in 3 ms"));
    }

    #[test]
    fn a_small_screen_keeps_the_rollback_command() {
        let pause = Pause { code: "operator".to_owned(), reason: "asked for".to_owned() };
        let many = snapshot().events.iter().cycle().take(20).cloned().collect();
        let paused = StatusSnapshot { paused: Some(pause), events: many, ..snapshot() };
        for rows in [20, 24, 40] {
            let lines = fit_to_screen(&paused, 80, rows);
            assert!(lines.len() < rows, "{rows}: {}", lines.len());
            assert!(lines.iter().any(|line| line.contains("kongferry cutover rollback")), "{rows}");
        }
        assert!(fit_to_screen(&paused, 80, 24).iter().any(|line| line.contains("Step 3 of 5")));
    }

    #[test]
    fn a_skipped_step_is_not_marked_as_done() {
        let phase = CutoverPhase::Moving { goal: Goal::Step(4), activity: Activity::Baking };
        let share = Shares { weight: Share::GREEN, ..snapshot().share };
        let full = StatusSnapshot { phase, step: Some(4), share, skipped: vec![1, 2, 3], ..snapshot() };
        let line = "✔ TTL   ✔ 1 %   » 5 %   » 10 %   » 50 %   ▶ 100 %   · drain   (» skipped)";
        assert!(plain(&full, 80).contains(line), "{}", plain(&full, 80));
    }

    #[test]
    fn a_cutover_finished_on_blue_is_not_marked_as_drained() {
        let share = Shares { weight: Share::BLUE, ..snapshot().share };
        let back = StatusSnapshot { phase: CutoverPhase::Finished, step: None, share, ..snapshot() };
        assert!(plain(&back, 100).contains("· drain"));
        let share = Shares { weight: Share::GREEN, ..share };
        assert!(plain(&StatusSnapshot { share, ..back }, 100).contains("✔ drain"));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let waiting = CutoverPhase::Moving { goal: Goal::LowerTtl, activity: Activity::Baking };
        let sentence = waiting.sentence(&guide_steps());
        let lowering =
            StatusSnapshot { phase: waiting, sentence, seconds_left: Some(86_000.0), ..snapshot() };
        for (snapshot, width) in [snapshot(), lowering]
            .iter()
            .flat_map(|status| [40, 60, 80, 100, 110, 140].map(|width| (status, width)))
        {
            for line in plain(snapshot, width).lines() {
                assert!(console::measure_text_width(line) <= width, "{width}: {line}");
            }
        }
    }
}
