//! Follows a cutover on the terminal: the whole screen, one line per event or JSON, and the question after Ctrl-C.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::super::args::{CommonArgs, Format};
use super::super::text::{BOLD, WARN};
use super::render::{event_line, fit_to_screen, render};
use crate::cutover::engine::CommandRequest;
use crate::cutover::state::OperatorCommand;
use crate::cutover::status::{StatusSnapshot, TimedNotice};

type StatusReceiver = watch::Receiver<Option<StatusSnapshot>>;

/// How often the screen is drawn anew.
const FRAME: Duration = Duration::from_millis(500);

/// Where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// The whole terminal.
    Live,
    /// Each event as a line on stderr.
    Lines,
    /// Each snapshot as a line of JSON on stdout.
    Json,
    /// Nowhere.
    Quiet,
}

impl OutputMode {
    /// What fits the terminal and the flags.
    pub fn of(common: &CommonArgs) -> OutputMode {
        match common.format {
            Format::Json => OutputMode::Json,
            Format::Text if common.quiet => OutputMode::Quiet,
            Format::Text if std::io::stdout().is_terminal() => OutputMode::Live,
            Format::Text => OutputMode::Lines,
        }
    }
}

/// Shows a running engine until it ends, and takes Ctrl-C.
pub async fn show(
    screen: OutputMode,
    mut status: StatusReceiver,
    command_sender: mpsc::Sender<CommandRequest>,
    me: String,
) {
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
                if ask(&command_sender, &me, &mut int, &mut status).await { painter.reopen() } else { painter.screen = OutputMode::Quiet }
            }
            _ = term.recv() => { say(&command_sender, &me, OperatorCommand::Leave).await; }
            changed = status.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(FRAME) => {}
        }
        painter.paint(&status);
    }
    painter.paint(&status);
    painter.close();
    painter.last(&status);
}

/// Shows without a say, until Ctrl-C.
pub async fn follow(screen: OutputMode, mut status: StatusReceiver) {
    let Ok(mut int) = signal(SignalKind::interrupt()) else { return };
    let mut painter = Painter::new(screen);
    loop {
        painter.paint(&status);
        tokio::select! {
            _ = int.recv() => break,
            changed = status.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(FRAME) => {}
        }
    }
    painter.paint(&status);
    painter.close();
    painter.last(&status);
}

/// What Ctrl-C asks: whether the view goes on.
async fn ask(
    command_sender: &mpsc::Sender<CommandRequest>,
    me: &str,
    int: &mut tokio::signal::unix::Signal,
    status: &mut StatusReceiver,
) -> bool {
    if !is_interactive() {
        say(command_sender, me, OperatorCommand::Leave).await;
        return false;
    }
    let share = status.borrow().as_ref().map(|status| status.share.weight).unwrap_or_default();
    anstream::eprintln!(
        "\n{BOLD}The records send {share} to green. The cutover continues while you choose:{BOLD:#}"
    );
    anstream::eprintln!("  p  pause here, keep watching           r  roll back to blue");
    anstream::eprintln!("  l  leave it as it is, stop watching    Enter  continue");
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
        () = over(status.clone()) => String::new(),
    };
    let command = match line.trim() {
        "p" | "pause" => OperatorCommand::Pause,
        "r" | "rollback" => OperatorCommand::Rollback { reason: String::new() },
        "l" | "leave" => OperatorCommand::Leave,
        _ => return true,
    };
    let leaves = command == OperatorCommand::Leave;
    say(command_sender, me, command).await;
    !leaves
}

async fn over(mut status: StatusReceiver) {
    while status.changed().await.is_ok() {}
}

async fn say(command_sender: &mpsc::Sender<CommandRequest>, me: &str, command: OperatorCommand) {
    let (answer, answered) = oneshot::channel();
    if command_sender.send((command, me.to_owned(), answer)).await.is_ok()
        && let Ok(Err(why)) = answered.await
    {
        anstream::eprintln!("{WARN}no:{WARN:#} {why}");
    }
}

/// Draws, and remembers what was drawn.
struct Painter {
    screen: OutputMode,
    open: bool,
    last_printed: Option<TimedNotice>,
    json: String,
}

impl Painter {
    fn new(screen: OutputMode) -> Painter {
        let mut painter = Painter { screen, open: false, last_printed: None, json: String::new() };
        painter.reopen();
        painter
    }

    fn reopen(&mut self) {
        if self.screen == OutputMode::Live && !self.open {
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

    fn paint(&mut self, status: &StatusReceiver) {
        let status = status.borrow();
        let Some(snapshot) = status.as_ref() else { return };
        match self.screen {
            OutputMode::Live if self.open => self.draw(snapshot),
            OutputMode::Lines => self.print_events(snapshot),
            OutputMode::Json => self.write(snapshot),
            OutputMode::Live | OutputMode::Quiet => {}
        }
    }

    fn draw(&self, snapshot: &StatusSnapshot) {
        let (rows, columns) = console::Term::stdout().size();
        let lines = fit_to_screen(snapshot, usize::from(columns), usize::from(rows));
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
    fn print_events(&mut self, snapshot: &StatusSnapshot) {
        let known = self
            .last_printed
            .as_ref()
            .and_then(|last_printed| snapshot.events.iter().rposition(|event| event == last_printed));
        for event in snapshot.events.iter().skip(known.map_or(0, |at| at + 1)) {
            anstream::eprintln!("{}", event_line(event));
            self.last_printed = Some(event.clone());
        }
    }

    /// One line of JSON whenever something but the time has changed.
    fn write(&mut self, snapshot: &StatusSnapshot) {
        let timeless = StatusSnapshot {
            seconds_left: None,
            seconds_in_stage: 0.0,
            at: chrono::DateTime::default(),
            ..snapshot.clone()
        };
        let key = serde_json::to_string(&(timeless.phase, timeless.paused, timeless.share.weight))
            .unwrap_or_default();
        if key != self.json {
            self.json = key;
            if let Ok(line) = serde_json::to_string(&snapshot.to_json()) {
                anstream::eprintln!("{line}");
            }
        }
    }

    /// What stays on the ordinary screen.
    fn last(&self, status: &StatusReceiver) {
        if self.screen == OutputMode::Live
            && let Some(snapshot) = status.borrow().as_ref()
        {
            for line in render(snapshot, usize::from(console::Term::stdout().size().1)) {
                anstream::println!("{line}");
            }
        }
    }
}

/// Whether an operator can be asked.
fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
