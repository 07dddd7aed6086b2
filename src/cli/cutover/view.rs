//! Follows a cutover: on the whole screen, as lines or as JSON; and the choice after Ctrl-C.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::super::args::{CommonArgs, Format};
use super::super::text::{BOLD, WARN};
use super::render::{event_line, fit_to_screen, render};
use crate::cutover::engine::{CommandRequest, send_command};
use crate::cutover::state::OperatorCommand;
use crate::cutover::status::{StatusSnapshot, TimedNotice};

type StatusReceiver = watch::Receiver<Option<StatusSnapshot>>;

const REDRAW_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputMode {
    /// The whole screen.
    Live,
    /// Each event as a line on stderr.
    Lines,
    /// Each change as a line of JSON on stderr.
    Json,
    Quiet,
}

impl OutputMode {
    pub(super) fn of(common: &CommonArgs) -> OutputMode {
        match common.format {
            Format::Json => OutputMode::Json,
            Format::Text if common.quiet => OutputMode::Quiet,
            Format::Text if std::io::stdout().is_terminal() => OutputMode::Live,
            Format::Text => OutputMode::Lines,
        }
    }
}

/// Shows a running engine until it ends, and handles Ctrl-C.
pub(super) async fn show(
    mode: OutputMode,
    mut status: StatusReceiver,
    command_sender: mpsc::Sender<CommandRequest>,
    owner: String,
) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let send = async |command| {
        if let Some(Err(reason)) = send_command(&command_sender, command, &owner).await {
            anstream::eprintln!("{WARN}refused:{WARN:#} {reason}");
        }
    };
    let mut view = View::new(mode);
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => {
                view.close();
                let command = choose(&mut interrupt, &status).await;
                let leaves = command == Some(OperatorCommand::Leave);
                if let Some(command) = command {
                    send(command).await;
                }
                if leaves { view.mode = OutputMode::Quiet } else { view.open() }
            }
            _ = terminate.recv() => send(OperatorCommand::Leave).await,
            changed = status.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(REDRAW_EVERY) => {}
        }
        view.show(&status);
    }
    view.end(&status);
}

/// Shows an engine of another process, until it ends or Ctrl-C.
pub(super) async fn follow(mode: OutputMode, mut status: StatusReceiver) {
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
    let mut view = View::new(mode);
    loop {
        view.show(&status);
        tokio::select! {
            _ = interrupt.recv() => break,
            changed = status.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(REDRAW_EVERY) => {}
        }
    }
    view.end(&status);
}

/// The operator's choice after Ctrl-C: a command, or none to continue.
async fn choose(interrupt: &mut Signal, status: &StatusReceiver) -> Option<OperatorCommand> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Some(OperatorCommand::Leave);
    }
    let share = status.borrow().as_ref().map(|status| status.share.weight).unwrap_or_default();
    anstream::eprintln!(
        "\n{BOLD}The records send {share} to green. The cutover continues while you choose:{BOLD:#}"
    );
    anstream::eprintln!("  p  pause at this share          r      roll back to blue");
    anstream::eprintln!("  l  leave the records, exit      Enter  continue");
    anstream::eprint!("> ");
    let _ = std::io::stderr().flush();
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = line => line.ok().and_then(std::result::Result::ok).unwrap_or_default(),
        // A second Ctrl-C leaves.
        _ = interrupt.recv() => "l".to_owned(),
        () = engine_end(status.clone()) => String::new(),
    };
    match line.trim() {
        "p" | "pause" => Some(OperatorCommand::Pause),
        "r" | "rollback" => Some(OperatorCommand::Rollback { reason: String::new() }),
        "l" | "leave" => Some(OperatorCommand::Leave),
        _ => None,
    }
}

async fn engine_end(mut status: StatusReceiver) {
    while status.changed().await.is_ok() {}
}

struct View {
    mode: OutputMode,
    /// Whether the alternate screen is shown.
    is_open: bool,
    last_printed: Option<TimedNotice>,
    last_json: String,
}

impl View {
    fn new(mode: OutputMode) -> View {
        let mut view = View { mode, is_open: false, last_printed: None, last_json: String::new() };
        view.open();
        view
    }

    fn open(&mut self) {
        if self.mode == OutputMode::Live && !self.is_open {
            // The alternate screen, without a cursor.
            print!("\x1b[?1049h\x1b[?25l");
            self.is_open = true;
        }
    }

    fn close(&mut self) {
        if self.is_open {
            print!("\x1b[?25h\x1b[?1049l");
            let _ = std::io::stdout().flush();
            self.is_open = false;
        }
    }

    fn show(&mut self, status: &StatusReceiver) {
        let status = status.borrow();
        let Some(snapshot) = status.as_ref() else { return };
        match self.mode {
            OutputMode::Live if self.is_open => draw(snapshot),
            OutputMode::Lines => self.print_events(snapshot),
            OutputMode::Json => self.print_json(snapshot),
            OutputMode::Live | OutputMode::Quiet => {}
        }
    }

    /// Prints the events since the last printed one.
    fn print_events(&mut self, snapshot: &StatusSnapshot) {
        let last_printed = self.last_printed.as_ref();
        let printed = last_printed.and_then(|last| snapshot.events.iter().rposition(|event| event == last));
        for event in snapshot.events.iter().skip(printed.map_or(0, |index| index + 1)) {
            anstream::eprintln!("{}", event_line(event));
            self.last_printed = Some(event.clone());
        }
    }

    /// Prints a line of JSON when phase, pause or share has changed.
    fn print_json(&mut self, snapshot: &StatusSnapshot) {
        let key = serde_json::to_string(&(snapshot.phase, &snapshot.paused, snapshot.share.weight));
        let key = key.unwrap_or_default();
        if key != self.last_json {
            self.last_json = key;
            anstream::eprintln!("{}", snapshot.to_json());
        }
    }

    /// Shows the last status, on the normal screen too.
    fn end(&mut self, status: &StatusReceiver) {
        self.show(status);
        self.close();
        if self.mode == OutputMode::Live
            && let Some(snapshot) = status.borrow().as_ref()
        {
            for line in render(snapshot, usize::from(console::Term::stdout().size().1)) {
                anstream::println!("{line}");
            }
        }
    }
}

fn draw(snapshot: &StatusSnapshot) {
    let (rows, columns) = console::Term::stdout().size();
    let mut frame = String::from("\x1b[H");
    for line in fit_to_screen(snapshot, usize::from(columns), usize::from(rows)) {
        frame.push_str(&line);
        frame.push_str("\x1b[K\n");
    }
    frame.push_str("\x1b[J");
    anstream::print!("{frame}");
    let _ = std::io::stdout().flush();
}
