//! The engine carries out the state machine's tasks and passes their results back as events.
//!
//! One future that one task polls. Everything that takes time (a write, a query, a gate) runs concurrently, so that a
//! failed gate or a rollback waits for nothing but a write in flight. A write is never dropped: its result is read from
//! the provider.

mod background_checks;
mod operator_commands;
mod publish;
mod tasks;
mod write;

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::clock::Time;
use super::environment::{DriftStatus, Environment, NameServerReport};
use super::gates::measurement::{Measurement, Traffic};
use super::journal::{CutoverJournal, JournalEntry, JournalEvent};
use super::machine::{Event, Machine, Task};
use super::notice::{Level, Notice};
use super::state::{CutoverPhase, Goal, OperatorCommand};
use super::status::{StatusSnapshot, TimedNotice};
use crate::dns::{Change, DnsResult, Observed, OriginalTtl, Propagation, Target, Ticket};

/// A command, who sent it, and where the reply goes.
pub type CommandRequest = (OperatorCommand, String, ReplySender);

type ReplySender = oneshot::Sender<CommandResult>;

/// The state as a sentence, or why the command was refused.
pub type CommandResult = std::result::Result<String, String>;

/// Sends a command and waits for its result; `None` if the engine has ended.
pub async fn send_command(
    engine: &mpsc::Sender<CommandRequest>,
    command: OperatorCommand,
    by: &str,
) -> Option<CommandResult> {
    let (reply, result) = oneshot::channel();
    engine.send((command, by.to_owned(), reply)).await.ok()?;
    result.await.ok()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineOutcome {
    /// The run is over, or waits for `finish` only.
    Reached(CutoverPhase),
    /// An operator ended the process; the records stay as they are.
    Left,
    TakenOver(String),
    /// `finish` was refused; nothing was changed.
    NotFinished(String),
}

#[derive(Debug, Clone)]
pub struct RunIdentity {
    pub run: Uuid,
    pub owner: String,
    /// The marker's last known generation; 0 before the first write.
    pub generation: u64,
    pub started_at: DateTime<Utc>,
    /// The TTLs from before the cutover.
    pub originals: Vec<OriginalTtl>,
    /// The TTL that `finish` writes instead of the original ones.
    pub final_ttl: Option<u32>,
    pub rollback_command: String,
    /// The number of queries that judge a share.
    pub queries: u32,
}

enum TaskResult {
    Read(DnsResult<Observed>),
    Applied(Box<Change>, DnsResult<Ticket>),
    Reread(Box<Change>, String, DnsResult<Observed>),
    Confirmed(DnsResult<Propagation>),
    Queried(NameServerReport),
    Checked(Event),
}

struct RunningTask {
    task: Task,
    /// Whether a write may be in flight.
    sent: bool,
    since: Time,
    work: BoxFuture<'static, TaskResult>,
}

/// The queries of a background check: enough to see errors, too few to judge a share.
const BACKGROUND_QUERIES: u32 = 40;

/// How long a rollback waits for a write in flight before it overtakes it.
const OVERTAKE_AFTER: Duration = Duration::from_secs(3);

/// How many events the status keeps.
const MAX_EVENTS: usize = 40;

/// How long the last notifications may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(15);

/// Carries out one run.
pub struct Engine {
    target: Target,
    environment: Environment,
    identity: RunIdentity,
    machine: Machine,
    journal: Box<dyn CutoverJournal>,
    journal_failed: bool,
    /// Kept, so that the channel never closes.
    command_sender: mpsc::Sender<CommandRequest>,
    commands: mpsc::Receiver<CommandRequest>,
    status: watch::Sender<Option<StatusSnapshot>>,
    /// The last known records.
    observed: Option<Observed>,
    ticket: Option<Ticket>,
    /// A write whose result is unknown.
    pending: Option<Change>,
    running: Option<RunningTask>,
    /// Writes that a rollback overtook.
    overtaken: FuturesUnordered<BoxFuture<'static, TaskResult>>,
    checks: FuturesUnordered<BoxFuture<'static, (usize, Measurement)>>,
    gate_due: Vec<Option<Time>>,
    provider_check: Option<BoxFuture<'static, DnsResult<Observed>>>,
    background_query: Option<BoxFuture<'static, NameServerReport>>,
    traffic_check: Option<BoxFuture<'static, Traffic>>,
    drift_check: Option<BoxFuture<'static, DriftStatus>>,
    drift_due: Option<Time>,
    next_check: Time,
    notifications: FuturesUnordered<BoxFuture<'static, ()>>,
    by_queries: Option<f64>,
    manual_command: Option<String>,
    events: VecDeque<TimedNotice>,
    leaving: bool,
    /// Whether it keeps running in `drained`.
    runs_until_finish: bool,
    /// The client that waits for the result of `finish`.
    finish_reply: Option<ReplySender>,
    taken_over: Option<String>,
    recorded_phase: Option<(CutoverPhase, bool)>,
}

impl Engine {
    pub fn new(
        target: Target,
        environment: Environment,
        identity: RunIdentity,
        machine: Machine,
        journal: Box<dyn CutoverJournal>,
    ) -> Engine {
        let now = environment.clock.now();
        let (command_sender, commands) = mpsc::channel(16);
        Engine {
            gate_due: vec![Some(now); machine.rules.gates.len()],
            next_check: now + machine.rules.check_every,
            target,
            environment,
            identity,
            machine,
            journal,
            journal_failed: false,
            command_sender,
            commands,
            status: watch::Sender::new(None),
            observed: None,
            ticket: None,
            pending: None,
            running: None,
            overtaken: FuturesUnordered::new(),
            checks: FuturesUnordered::new(),
            provider_check: None,
            background_query: None,
            traffic_check: None,
            drift_check: None,
            drift_due: None,
            notifications: FuturesUnordered::new(),
            by_queries: None,
            manual_command: None,
            events: VecDeque::new(),
            leaving: false,
            runs_until_finish: false,
            finish_reply: None,
            taken_over: None,
            recorded_phase: None,
        }
    }

    /// Keeps running in `drained`, until `finish`.
    pub fn until_finished(mut self) -> Engine {
        self.runs_until_finish = true;
        self
    }

    pub fn command_sender(&self) -> mpsc::Sender<CommandRequest> {
        self.command_sender.clone()
    }

    pub fn watch(&self) -> watch::Receiver<Option<StatusSnapshot>> {
        self.status.subscribe()
    }

    /// Runs until the end, a `leave`, or a takeover by another process.
    pub async fn run(mut self) -> EngineOutcome {
        self.announce_start();
        loop {
            self.handle_event(Event::Tick);
            self.start_due_work();
            self.publish();
            self.reply_to_finish();
            if let Some(outcome) = self.outcome() {
                self.flush_notifications().await;
                return outcome;
            }
            self.wait().await;
        }
    }

    fn now(&self) -> Time {
        self.environment.clock.now()
    }

    fn outcome(&self) -> Option<EngineOutcome> {
        if self.running.as_ref().is_some_and(|running| running.sent) || !self.overtaken.is_empty() {
            return None;
        }
        if let Some(by) = &self.taken_over {
            return Some(EngineOutcome::TakenOver(by.clone()));
        }
        if self.leaving {
            return Some(EngineOutcome::Left);
        }
        if let Some(reason) = &self.machine.not_finished {
            return Some(EngineOutcome::NotFinished(reason.clone()));
        }
        let phase = self.machine.phase;
        let has_ended = phase.is_over() && !(self.runs_until_finish && phase == CutoverPhase::Drained);
        has_ended.then_some(EngineOutcome::Reached(phase))
    }

    fn announce_start(&mut self) {
        let (owner, version) = (self.identity.owner.clone(), env!("CARGO_PKG_VERSION").to_owned());
        self.record(JournalEvent::Opened { owner, version });
        self.record_phase();
        // A rollback from the start has not been reported yet.
        if let Some(reason) = self.machine.rollback_reason.clone() {
            self.report(Level::Error, "rollback", format!("Rolling back: {reason}"));
        }
        if let Some(reason) = self.machine.repeated_rollback_reason.take() {
            self.report(Level::Info, "rollback_again", format!("A rollback is already under way; {reason}"));
        }
    }

    async fn flush_notifications(&mut self) {
        let limit = self.environment.clock.until(self.now() + FLUSH_LIMIT);
        let delivered = async { while self.notifications.next().await.is_some() {} };
        tokio::select! {
            biased;
            () = delivered => {}
            () = limit => {}
        }
    }

    /// Waits for the next result or deadline and handles it.
    async fn wait(&mut self) {
        let deadline = self.environment.clock.until(self.next_deadline());
        tokio::select! {
            biased;
            Some(command) = self.commands.recv() => self.handle_command(command),
            result = task_result(&mut self.running) => {
                let task = self.running.take().map_or(Task::Wait, |running| running.task);
                self.finish_task(task, result);
            }
            Some(result) = self.overtaken.next() => self.finish_overtaken(&result),
            Some((gate, measured)) = self.checks.next() => {
                let interval = self.machine.rules.gates.get(gate).map(|(_, policy)| policy.interval);
                let due = self.now() + interval.unwrap_or_default();
                self.gate_due.get_mut(gate).into_iter().for_each(|next| *next = Some(due));
                self.handle_event(Event::GateMeasured(gate, measured));
            }
            observed = check_result(&mut self.provider_check) => self.on_provider_read(observed),
            report = check_result(&mut self.background_query) => self.on_background_answers(report),
            traffic = check_result(&mut self.traffic_check) => self.handle_event(Event::TrafficMeasured(traffic)),
            drift = check_result(&mut self.drift_check) => self.on_drift(drift),
            Some(()) = self.notifications.next() => {}
            () = deadline => {}
        }
    }

    fn next_deadline(&self) -> Time {
        let now = self.now();
        let mut deadlines = vec![self.next_check];
        deadlines.extend(self.drift_due);
        deadlines.extend(self.machine.next_deadline());
        if self.machine.runs_gates() {
            deadlines.extend(self.gate_due.iter().flatten());
        }
        if let Some(running) = self.running.as_ref().filter(|running| running.sent) {
            deadlines.push(running.since + OVERTAKE_AFTER);
        }
        // What is overdue waits for something else.
        let next = deadlines.into_iter().filter(|deadline| *deadline > now).min();
        next.unwrap_or(now + self.machine.rules.check_every)
    }

    /// Passes an event to the state machine and reports its notices.
    fn handle_event(&mut self, event: Event) {
        for notice in self.machine.handle(event, self.environment.clock.now()) {
            self.report_notice(notice);
        }
        self.record_phase();
    }

    fn report(&mut self, level: Level, code: &str, text: String) {
        self.report_notice(Notice { level, code: code.to_owned(), text });
    }

    fn report_notice(&mut self, notice: Notice) {
        let at = self.environment.clock.wall();
        self.record(JournalEvent::Notice { notice: notice.clone() });
        self.events.push_back(TimedNotice { at, notice: notice.clone() });
        while self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
        let body = self.hook_body(&notice.code);
        let integrations = self.environment.integrations.clone();
        self.notifications.push(integrations.notify(notice, body));
    }

    /// Whether the entry is on the disk.
    fn record(&mut self, event: JournalEvent) -> bool {
        let entry = JournalEntry { at: self.environment.clock.wall(), run: self.identity.run, event };
        let Err(error) = self.journal.append(&entry) else { return true };
        if !std::mem::replace(&mut self.journal_failed, true) {
            let text = format!("The journal cannot be written: {}", error.one_line());
            let notice = Notice { level: Level::Error, code: "journal".to_owned(), text };
            self.events.push_back(TimedNotice { at: entry.at, notice });
        }
        false
    }

    fn record_phase(&mut self) {
        let machine = &self.machine;
        let recorded = Some((machine.phase, machine.paused.is_some()));
        if self.recorded_phase != recorded {
            self.recorded_phase = recorded;
            self.record(JournalEvent::Phase {
                now: machine.phase,
                paused: machine.paused.as_ref().map(|(pause, _)| pause.clone()),
                rollback_reason: machine.rollback_reason.clone(),
                share: machine.share,
                baselines: machine.tallies.iter().map(|tally| tally.baseline).collect(),
                skipped: machine.skipped.clone(),
            });
        }
    }

    fn start_due_work(&mut self) {
        let now = self.now();
        self.overtake(now);
        let task = self.machine.task(now);
        if self.running.as_ref().is_some_and(|running| running.task != task && !running.sent) {
            self.running = None;
        }
        if self.running.is_none() && task != Task::Wait && self.taken_over.is_none() && !self.leaving {
            let work = self.start_task(task);
            self.running = Some(RunningTask { task, sent: false, since: now, work });
        }
        if self.machine.runs_gates() {
            self.start_gate_checks(now);
        }
        self.start_drift(now);
        if self.next_check <= now {
            self.next_check = now + self.machine.rules.check_every;
            self.start_background_checks();
        }
    }

    /// A rollback waits only for a while for a write in flight.
    fn overtake(&mut self, now: Time) {
        if !self.machine.phase.is_going_back() {
            return;
        }
        let is_overdue = |running: &mut RunningTask| {
            running.sent
                && running.task != Task::Write(Goal::Rollback)
                && running.since + OVERTAKE_AFTER <= now
        };
        if let Some(running) = self.running.take_if(is_overdue) {
            self.overtaken.push(running.work);
        }
    }
}

async fn task_result(running: &mut Option<RunningTask>) -> TaskResult {
    match running {
        Some(running) => running.work.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Waits for a check, if there is one, and takes it away.
async fn check_result<T>(check: &mut Option<BoxFuture<'static, T>>) -> T {
    let result = match check {
        Some(work) => work.as_mut().await,
        None => std::future::pending().await,
    };
    *check = None;
    result
}
