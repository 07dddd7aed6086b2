//! How a cutover looks: a screen that a room can read, plain lines where there is no screen, and the question that
//! Ctrl-C asks.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::super::args::{CommonArgs, Format};
use super::super::text::{BAD, BOLD, GOOD, WARN, spent};
use super::run::somebody_is_there;
use crate::cutover::engine::Order;
use crate::cutover::gates::measurement::Verdict;
use crate::cutover::notice::Level;
use crate::cutover::state::{Command, Goal, Phase};
use crate::cutover::status::{GateStatus, Happened, Snapshot};
use crate::dns::Share;

type Shown = watch::Receiver<Option<Snapshot>>;

/// How often the screen is drawn anew.
const FRAME: Duration = Duration::from_millis(500);

/// What is said in white on a colour.
const BANNER_WARN: Style =
    AnsiColor::Black.on_default().bg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow))).bold();
const BANNER_BAD: Style =
    AnsiColor::White.on_default().bg_color(Some(anstyle::Color::Ansi(AnsiColor::Red))).bold();
/// How many events are shown where there is room.
const EVENTS: usize = 8;
const DIM: Style = Style::new().dimmed();

/// Where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// The whole terminal.
    Live,
    /// Each event as a line on stderr.
    Lines,
    /// Each snapshot as a line of JSON on stdout.
    Json,
    /// Nowhere.
    Quiet,
}

impl Screen {
    /// What fits the terminal and the flags.
    pub fn of(common: &CommonArgs) -> Screen {
        match common.format {
            Format::Json => Screen::Json,
            Format::Text if common.quiet => Screen::Quiet,
            Format::Text if std::io::stdout().is_terminal() => Screen::Live,
            Format::Text => Screen::Lines,
        }
    }
}

/// Shows a running engine until it ends, and takes Ctrl-C.
pub async fn show(screen: Screen, mut shown: Shown, speaker: mpsc::Sender<Order>, me: String) {
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let mut painter = Painter::new(screen);
    loop {
        tokio::select! {
            biased;
            _ = int.recv() => {
                painter.close();
                if ask(&speaker, &me, &mut int, &mut shown).await { painter.reopen() } else { painter.screen = Screen::Quiet }
            }
            _ = term.recv() => { say(&speaker, &me, Command::Leave).await; }
            changed = shown.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(FRAME) => {}
        }
        painter.paint(&shown);
    }
    painter.paint(&shown);
    painter.close();
    painter.last(&shown);
}

/// Shows without a say, until Ctrl-C.
pub async fn look_on(screen: Screen, mut shown: Shown) {
    let Ok(mut int) = signal(SignalKind::interrupt()) else { return };
    let mut painter = Painter::new(screen);
    loop {
        painter.paint(&shown);
        tokio::select! {
            _ = int.recv() => break,
            changed = shown.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(FRAME) => {}
        }
    }
    painter.paint(&shown);
    painter.close();
    painter.last(&shown);
}

/// What Ctrl-C asks: whether the view goes on.
async fn ask(
    speaker: &mpsc::Sender<Order>,
    me: &str,
    int: &mut tokio::signal::unix::Signal,
    shown: &mut Shown,
) -> bool {
    if !somebody_is_there() {
        say(speaker, me, Command::Leave).await;
        return false;
    }
    let share = shown.borrow().as_ref().map(|shown| shown.share.weight).unwrap_or_default();
    anstream::eprintln!(
        "\n{BOLD}The records send {share} to green. The cutover goes on while you choose:{BOLD:#}"
    );
    anstream::eprintln!("  p  pause here, and go on watching      r  roll back to blue");
    anstream::eprintln!("  l  leave it as it is, stop watching    Enter  go on as before");
    anstream::eprint!("> ");
    let _ = std::io::stderr().flush();
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = line => line.ok().and_then(std::result::Result::ok).unwrap_or_default(),
        // Whoever presses it again wants to get away.
        _ = int.recv() => "l".to_owned(),
        () = over(shown.clone()) => String::new(),
    };
    let command = match line.trim() {
        "p" | "pause" => Command::Pause,
        "r" | "rollback" => Command::Rollback { reason: String::new() },
        "l" | "leave" => Command::Leave,
        _ => return true,
    };
    let leaves = command == Command::Leave;
    say(speaker, me, command).await;
    !leaves
}

async fn over(mut shown: Shown) {
    while shown.changed().await.is_ok() {}
}

async fn say(speaker: &mpsc::Sender<Order>, me: &str, command: Command) {
    let (answer, answered) = oneshot::channel();
    if speaker.send((command, me.to_owned(), answer)).await.is_ok()
        && let Ok(Err(why)) = answered.await
    {
        anstream::eprintln!("{WARN}no:{WARN:#} {why}");
    }
}

/// Draws, and remembers what was drawn.
struct Painter {
    screen: Screen,
    open: bool,
    told: Option<Happened>,
    json: String,
}

impl Painter {
    fn new(screen: Screen) -> Painter {
        let mut painter = Painter { screen, open: false, told: None, json: String::new() };
        painter.reopen();
        painter
    }

    fn reopen(&mut self) {
        if self.screen == Screen::Live && !self.open {
            // The other screen, without a cursor.
            print!("\x1b[?1049h\x1b[?25l");
            self.open = true;
        }
    }

    fn close(&mut self) {
        if self.open {
            print!("\x1b[?25h\x1b[?1049l");
            let _ = std::io::stdout().flush();
            self.open = false;
        }
    }

    fn paint(&mut self, shown: &Shown) {
        let shown = shown.borrow();
        let Some(snapshot) = shown.as_ref() else { return };
        match self.screen {
            Screen::Live if self.open => self.draw(snapshot),
            Screen::Lines => self.tell(snapshot),
            Screen::Json => self.write(snapshot),
            Screen::Live | Screen::Quiet => {}
        }
    }

    fn draw(&self, snapshot: &Snapshot) {
        let (rows, columns) = console::Term::stdout().size();
        let lines = fitted(snapshot, usize::from(columns), usize::from(rows));
        let mut frame = String::from("\x1b[H");
        for line in &lines {
            frame.push_str(line);
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        anstream::print!("{frame}");
        let _ = std::io::stdout().flush();
    }

    /// The events since the last one that was told.
    fn tell(&mut self, snapshot: &Snapshot) {
        let known =
            self.told.as_ref().and_then(|told| snapshot.events.iter().rposition(|event| event == told));
        for event in snapshot.events.iter().skip(known.map_or(0, |at| at + 1)) {
            anstream::eprintln!("{}", event_line(event));
            self.told = Some(event.clone());
        }
    }

    /// One line of JSON whenever something but the time has changed.
    fn write(&mut self, snapshot: &Snapshot) {
        let timeless = Snapshot {
            seconds_left: None,
            seconds_in_stage: 0.0,
            at: chrono::DateTime::default(),
            ..snapshot.clone()
        };
        let key = serde_json::to_string(&(timeless.phase, timeless.paused, timeless.share.weight))
            .unwrap_or_default();
        if key != self.json {
            self.json = key;
            if let Ok(line) = serde_json::to_string(snapshot) {
                anstream::eprintln!("{line}");
            }
        }
    }

    /// What stays on the ordinary screen.
    fn last(&self, shown: &Shown) {
        if self.screen == Screen::Live
            && let Some(snapshot) = shown.borrow().as_ref()
        {
            for line in render(snapshot, usize::from(console::Term::stdout().size().1)) {
                anstream::println!("{line}");
            }
        }
    }
}

fn event_line(event: &Happened) -> String {
    let style = match event.said.level {
        Level::Info => Style::new(),
        Level::Warn => WARN,
        Level::Error => BAD,
    };
    let time = event.at.with_timezone(&chrono::Local).format("%H:%M:%S");
    format!("{DIM}{time}{DIM:#}  {style}{}{style:#}", event.said.text)
}

/// The picture with as many events as the screen has room for: the way back is never below its edge.
fn fitted(snapshot: &Snapshot, width: usize, rows: usize) -> Vec<String> {
    let room = rows.saturating_sub(1);
    let whole = picture(snapshot, width, EVENTS);
    let over = whole.len().saturating_sub(room);
    let mut lines = if over == 0 { whole } else { picture(snapshot, width, EVENTS.saturating_sub(over)) };
    // On a screen that is lower still, what stands above the way back gives way.
    if lines.len() > room {
        let back = lines.iter().position(|line| line.contains("TO GO BACK")).unwrap_or(0);
        let tail = lines.split_off(back);
        lines.truncate(room.saturating_sub(tail.len()));
        lines.extend(tail);
        lines.truncate(room);
    }
    lines
}

/// The whole picture, in lines of at most `width`.
pub fn render(snapshot: &Snapshot, width: usize) -> Vec<String> {
    picture(snapshot, width, EVENTS)
}

fn picture(snapshot: &Snapshot, width: usize, events: usize) -> Vec<String> {
    let width = width.clamp(40, 140);
    let mut lines = vec![title(snapshot), String::new()];
    lines.extend(banner(snapshot, width));
    lines.push(steps(snapshot));
    lines.push(bar(snapshot, width));
    lines.push(String::new());
    lines.push(shares(snapshot));
    lines.extend(requests(snapshot));
    if !snapshot.gates.is_empty() {
        lines.extend([String::new(), format!("  {BOLD}GATES{BOLD:#}")]);
        let name = snapshot.gates.iter().map(|gate| gate.name.chars().count()).max().unwrap_or(0);
        let value = snapshot.gates.iter().map(|gate| value_of(gate).chars().count()).max().unwrap_or(0);
        lines.extend(snapshot.gates.iter().map(|gate| gate_line(gate, name, value, width)));
    }
    let last: Vec<&Happened> = snapshot.events.iter().rev().take(events).rev().collect();
    if !last.is_empty() {
        lines.extend([String::new(), format!("  {BOLD}EVENTS{BOLD:#}")]);
    }
    lines.extend(last.iter().map(|event| format!("  {}", cut(&event_line(event), width - 2))));
    lines.extend([
        String::new(),
        format!("  {BOLD}TO GO BACK{BOLD:#}  {BOLD}{}{BOLD:#}", snapshot.rollback_command),
    ]);
    lines.iter_mut().for_each(|line| *line = cut(line, width));
    if let Some(manual) = &snapshot.manual_command {
        lines.push(format!("  {BAD}THE PROVIDER REFUSES US. BY HAND:{BAD:#}"));
        // Not indented: the command may end with a line that must stand at the margin.
        lines.extend(manual.lines().map(str::to_owned));
    }
    lines
}

fn title(snapshot: &Snapshot) -> String {
    let time = snapshot.at.with_timezone(&chrono::Local).format("%H:%M:%S");
    let owner = if snapshot.owner.is_empty() {
        String::new()
    } else {
        format!("  {DIM}by {}{DIM:#}", snapshot.owner)
    };
    format!("{BOLD}CUTOVER  {}{BOLD:#}   {DIM}{time}{DIM:#}{owner}", snapshot.records.join("  "))
}

fn banner(snapshot: &Snapshot, width: usize) -> Vec<String> {
    let line = |style: Style, text: String| {
        let text = cut(&text, width - 4);
        vec![format!("  {style} {text:<0$} {style:#}", width.saturating_sub(6)), String::new()]
    };
    match (snapshot.phase, &snapshot.paused) {
        (Phase::Moving { goal: Goal::Back, .. } | Phase::RolledBack, _) => {
            let why = snapshot.why_back.clone().unwrap_or_default();
            line(BANNER_BAD, format!("{}  {why}", snapshot.sentence.to_uppercase()))
        }
        (_, Some(pause)) => line(BANNER_WARN, format!("PAUSED  {}", pause.reason)),
        _ => Vec::new(),
    }
}

/// `✔ TTL  ✔ 1 %  ▶ 5 %  · 10 %  · 50 %  · 100 %  · drain`
fn steps(snapshot: &Snapshot) -> String {
    let share = snapshot.share.weight;
    let lowered = !matches!(snapshot.phase, Phase::Moving { goal: Goal::Lower, .. });
    let begun = snapshot.state != "not_started";
    let mut parts = vec![part("TTL", lowered && begun, !lowered)];
    for (at, step) in snapshot.steps.iter().enumerate() {
        let now = snapshot.step == Some(at);
        if !now && snapshot.skipped.contains(&at) {
            parts.push(format!("{WARN}» {}{WARN:#}", step.share));
            continue;
        }
        let done = !now && share >= step.share && share > Share::BLUE && !snapshot.phase.is_going_back();
        parts.push(part(&step.share.to_string(), done, now));
    }
    let drained = matches!(snapshot.phase, Phase::Drained | Phase::Finished) && share == Share::GREEN;
    parts.push(part("drain", drained, snapshot.phase == Phase::Draining));
    if !snapshot.skipped.is_empty() {
        parts.push(format!("{WARN}(» skipped){WARN:#}"));
    }
    format!("  {}", parts.join("   "))
}

fn part(name: &str, done: bool, now: bool) -> String {
    match (now, done) {
        (true, _) => format!("{BOLD}▶ {name}{BOLD:#}"),
        (false, true) => format!("{GOOD}✔ {name}{GOOD:#}"),
        (false, false) => format!("{DIM}· {name}{DIM:#}"),
    }
}

fn bar(snapshot: &Snapshot, width: usize) -> String {
    let left = snapshot.seconds_left.map(|left| format!("  {} left", spent(left))).unwrap_or_default();
    // Room for the longest sentence, so that the bar does not jump with each second.
    let room = width.saturating_sub(62).clamp(10, 60);
    // A share above nothing is never drawn as nothing.
    let exact = snapshot.share.weight.fraction() * room as f64;
    let full = if exact > 0.0 { (exact.round() as usize).max(1) } else { 0 };
    let (green, blue) = ("█".repeat(full), "░".repeat(room - full));
    cut(
        &format!("  {GOOD}{green}{GOOD:#}{DIM}{blue}{DIM:#}  {}{BOLD}{left}{BOLD:#}", snapshot.sentence),
        width,
    )
}

fn shares(snapshot: &Snapshot) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{share:.1} %"));
    format!(
        "  {BOLD}ON GREEN{BOLD:#}    at the provider {BOLD}{}{BOLD:#}   by queries {BOLD}{}{BOLD:#}   by counters {BOLD}{}{BOLD:#}",
        snapshot.share.weight,
        percent(snapshot.share.by_queries),
        percent(snapshot.share.by_counters)
    )
}

fn requests(snapshot: &Snapshot) -> Option<String> {
    let traffic = snapshot.traffic?;
    let rate = |rate: Option<f64>| rate.map_or_else(|| "no data".to_owned(), |rate| format!("{rate:.1}/s"));
    Some(format!(
        "  {BOLD}REQUESTS{BOLD:#}    blue {BOLD}{}{BOLD:#}   green {BOLD}{}{BOLD:#}",
        rate(traffic.blue),
        rate(traffic.green)
    ))
}

fn value_of(gate: &GateStatus) -> &str {
    gate.last.as_ref().map_or("not looked at yet", |last| last.value.as_str())
}

fn gate_line(gate: &GateStatus, name: usize, value: usize, width: usize) -> String {
    let (mark, style) = match gate.verdict() {
        Some(Verdict::Pass) => ("✔", GOOD),
        Some(Verdict::Fail) => ("✘", BAD),
        Some(Verdict::Inconclusive) => ("?", WARN),
        None => ("·", DIM),
    };
    let last = gate.last.as_ref();
    let limit = last.map(|last| last.limit.as_str()).unwrap_or_default();
    let why = last.map(|last| last.why.as_str()).unwrap_or_default();
    let line = format!(
        "  {style}{mark} {:<name$}  {:<value$}{style:#}  {limit:<12}  {DIM}{why}{DIM:#}",
        gate.name,
        value_of(gate)
    );
    cut(&line, width)
}

/// No line is longer than the screen; colours end where they are cut.
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
    use crate::cutover::notice::Said;
    use crate::cutover::state::{Pause, Stage};
    use crate::cutover::status::Shares;
    use crate::cutover::step::guide_steps;

    fn snapshot() -> Snapshot {
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let phase = Phase::Moving { goal: Goal::Step(2), stage: Stage::Baking };
        let gate = |name: &str, measured: Option<Measurement>| GateStatus {
            name: name.to_owned(),
            last: measured,
            passes: 3,
            seconds_to_next: Some(4.0),
        };
        Snapshot {
            format: 1,
            run: uuid::Uuid::from_u128(1),
            records: vec!["api.example.com/A".to_owned()],
            state: "step".to_owned(),
            phase,
            sentence: phase.sentence(&guide_steps()),
            paused: None,
            why_back: None,
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
                    Some(Measurement::inconclusive(
                        "green had 12 of the 100 requests that a judgement needs",
                    )),
                ),
                gate("new", None),
            ],
            traffic: Some(Traffic { blue: Some(120.0), green: None }),
            events: vec![Happened {
                at,
                said: Said {
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

    fn plain(snapshot: &Snapshot, width: usize) -> String {
        let lines: Vec<String> = render(snapshot, width)
            .iter()
            .map(|line| console::strip_ansi_codes(line).trim_end().to_owned())
            .collect();
        // The clock on the wall is that of whoever runs the test.
        let clock = regex::Regex::new(r"\d\d:\d\d:\d\d").unwrap();
        clock.replace_all(&lines.join("\n"), "HH:MM:SS").into_owned()
    }

    #[test]
    fn a_room_can_read_where_it_stands() {
        insta::assert_snapshot!(plain(&snapshot(), 100));
    }

    #[test]
    fn a_pause_is_seen_from_afar() {
        let pause = Pause {
            code: "gate".to_owned(),
            reason: "gate login fails: HTTP 401 in 3 ms, must be HTTP 200".to_owned(),
        };
        let paused = Snapshot { paused: Some(pause), seconds_left: None, ..snapshot() };
        assert!(plain(&paused, 100).contains("PAUSED  gate login fails: HTTP 401 in 3 ms"));
    }

    #[test]
    fn a_low_screen_keeps_the_way_back() {
        let pause = Pause { code: "operator".to_owned(), reason: "asked for".to_owned() };
        let many = snapshot().events.iter().cycle().take(20).cloned().collect();
        let paused = Snapshot { paused: Some(pause), events: many, ..snapshot() };
        for rows in [20, 24, 40] {
            let lines = fitted(&paused, 80, rows);
            assert!(lines.len() < rows, "{rows}: {}", lines.len());
            assert!(lines.iter().any(|line| line.contains("kongferry cutover rollback")), "{rows}");
        }
        assert!(fitted(&paused, 80, 24).iter().any(|line| line.contains("Step 3 of 5")));
    }

    #[test]
    fn what_was_skipped_does_not_look_done() {
        let phase = Phase::Moving { goal: Goal::Step(4), stage: Stage::Baking };
        let share = Shares { weight: Share::GREEN, ..snapshot().share };
        let full = Snapshot { phase, step: Some(4), share, skipped: vec![1, 2, 3], ..snapshot() };
        let line = "✔ TTL   ✔ 1 %   » 5 %   » 10 %   » 50 %   ▶ 100 %   · drain   (» skipped)";
        assert!(plain(&full, 80).contains(line), "{}", plain(&full, 80));
    }

    #[test]
    fn what_was_finished_on_blue_has_not_drained() {
        let share = Shares { weight: Share::BLUE, ..snapshot().share };
        let back = Snapshot { phase: Phase::Finished, step: None, share, ..snapshot() };
        assert!(plain(&back, 100).contains("· drain"));
        let share = Shares { weight: Share::GREEN, ..share };
        assert!(plain(&Snapshot { share, ..back }, 100).contains("✔ drain"));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let waiting = Phase::Moving { goal: Goal::Lower, stage: Stage::Baking };
        let sentence = waiting.sentence(&guide_steps());
        let lowering = Snapshot { phase: waiting, sentence, seconds_left: Some(86_000.0), ..snapshot() };
        for (snapshot, width) in [snapshot(), lowering]
            .iter()
            .flat_map(|shown| [40, 60, 80, 100, 110, 140].map(|width| (shown, width)))
        {
            for line in plain(snapshot, width).lines() {
                assert!(console::measure_text_width(line) <= width, "{width}: {line}");
            }
        }
    }
}
