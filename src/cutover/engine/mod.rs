//! The engine carries out the state machine's tasks and passes their results back as events.
//!
//! One future that one task polls. Everything that takes time (a write, a query, a gate) runs concurrently, so that a
//! failed gate or a rollback waits for nothing but a write in flight. A write is never dropped: its result is read from
//! the provider. This file has the loop; `tasks` the current task, `write` the one that changes records,
//! `background_checks` the checks, `operator_commands` the commands, and `publish` the status.

mod background_checks;
mod operator_commands;
mod publish;
mod tasks;
pub mod write;

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

/// A command with its sender, and the place for the answer.
pub type CommandRequest = (OperatorCommand, String, ReplySender);

/// Where the answer to a command goes: a sentence, or why not.
type ReplySender = oneshot::Sender<std::result::Result<String, String>>;

/// How a run of the engine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineOutcome {
    /// In this phase, which needs no watching.
    Reached(CutoverPhase),
    /// An operator ended the process; the records stay as they are.
    Left,
    TakenOver(String),
    /// `finish` was refused for this reason; nothing was changed.
    NotFinished(String),
}

#[derive(Debug, Clone)]
pub struct RunIdentity {
    pub run: Uuid,
    pub owner: String,
    /// The marker's generation that we know of; 0 before the first write.
    pub generation: u64,
    pub started_at: DateTime<Utc>,
    /// The times to live of before.
    pub originals: Vec<OriginalTtl>,
    /// The time to live that `finish` leaves; those of before where none is given.
    pub final_ttl: Option<u32>,
    pub rollback_command: String,
    /// How many queries judge a share.
    pub queries: u32,
}

/// What the task in hand has come to.
enum TaskResult {
    Read(DnsResult<Observed>),
    Applied(Box<Change>, DnsResult<Ticket>),
    Reread(Box<Change>, String, DnsResult<Observed>),
    Confirmed(DnsResult<Propagation>),
    Surveyed(NameServerReport),
    Answered(Event),
}

struct RunningTask {
    task: Task,
    /// Whether a write may be on its way.
    sent: bool,
    since: Time,
    work: BoxFuture<'static, TaskResult>,
}

/// The number of queries of a look in passing: enough to see errors, too few to judge a share.
const PASSING_QUERIES: u32 = 40;

/// How long a rollback waits for a write that is on its way before it is sent after it.
const GRACE: Duration = Duration::from_secs(3);

const EVENTS: usize = 40;

/// The engine. Made by `open`, run once.
pub struct Engine {
    target: Target,
    environment: Environment,
    identity: RunIdentity,
    machine: Machine,
    journal: Box<dyn CutoverJournal>,
    journal_failed: bool,
    /// Kept, so that the other end never closes.
    command_sender: mpsc::Sender<CommandRequest>,
    commands: mpsc::Receiver<CommandRequest>,
    status: watch::Sender<Option<StatusSnapshot>>,
    /// What the provider was last seen to hold.
    last: Option<Observed>,
    ticket: Option<Ticket>,
    /// A write whose result is unknown.
    pending: Option<Change>,
    running: Option<RunningTask>,
    /// Writes that were overtaken by a rollback.
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
    /// Whether it runs on from `drained` until `finish`.
    runs_until_finish: bool,
    /// The client that waits for the result of `finish`.
    finish_reply: Option<ReplySender>,
    taken_over: Option<String>,
    recorded_phase: Option<(CutoverPhase, bool)>,
}

impl Engine {
    /// Puts an engine together; it does nothing before [`run`](Self::run).
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
            last: None,
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

    /// The channel for commands to the engine.
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
            let now = self.environment.clock.now();
            self.handle_event(Event::Tick, now);
            self.start_due_work(now);
            self.publish(now);
            self.reply_to_finish();
            if let Some(ended) = self.ended() {
                self.flush_notifications(now).await;
                return ended;
            }
            self.wait(now).await;
        }
    }

    fn ended(&self) -> Option<EngineOutcome> {
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
        let ended = phase.is_over() && !(self.runs_until_finish && phase == CutoverPhase::Drained);
        ended.then_some(EngineOutcome::Reached(phase))
    }

    fn announce_start(&mut self) {
        let opened = JournalEvent::Opened {
            owner: self.identity.owner.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.record(opened);
        self.record_phase();
        // A rollback from the start has not been reported yet.
        if let Some(reason) = self.machine.rollback_reason.clone() {
            let text = format!("Rolling back: {reason}");
            self.report(Notice { level: Level::Error, code: "rollback".to_owned(), text });
        }
        if let Some(reason) = self.machine.repeated_rollback_reason.take() {
            let text = format!("A rollback is under way already; {reason}");
            self.report(Notice { level: Level::Info, code: "rollback_again".to_owned(), text });
        }
    }

    /// Lets the last notifications go out.
    async fn flush_notifications(&mut self, now: Time) {
        let limit = self.environment.clock.until(now + Duration::from_secs(15));
        let told = async { while self.notifications.next().await.is_some() {} };
        tokio::select! {
            biased;
            () = told => {}
            () = limit => {}
        }
    }

    /// Waits for the next thing to happen and takes it in.
    async fn wait(&mut self, now: Time) {
        let deadline = self.environment.clock.until(self.next_deadline(now));
        tokio::select! {
            biased;
            Some(order) = self.commands.recv() => self.handle_command(order),
            done = work(&mut self.running) => {
                let task = self.running.take().map_or(Task::Wait, |running| running.task);
                self.finish_task(task, done);
            }
            Some(done) = self.overtaken.next() => self.finish_overtaken(done),
            Some((gate, measured)) = self.checks.next() => {
                let now = self.environment.clock.now();
                let interval = self.machine.rules.gates.get(gate).map(|(_, policy)| policy.interval);
                if let Some(due) = self.gate_due.get_mut(gate) {
                    *due = Some(now + interval.unwrap_or_default());
                }
                self.handle_event(Event::GateMeasured(gate, measured), now);
            }
            observed = pending_result(&mut self.provider_check) => { self.provider_check = None; self.on_provider_read(observed); }
            survey = pending_result(&mut self.background_query) => { self.background_query = None; self.on_background_answers(survey); }
            traffic = pending_result(&mut self.traffic_check) => {
                self.traffic_check = None;
                let now = self.environment.clock.now();
                self.handle_event(Event::TrafficMeasured(traffic), now);
            }
            drift = pending_result(&mut self.drift_check) => { self.drift_check = None; self.on_drift(drift); }
            Some(()) = self.notifications.next() => {}
            () = deadline => {}
        }
    }

    fn next_deadline(&self, now: Time) -> Time {
        let mut deadlines = vec![self.next_check];
        deadlines.extend(self.drift_due);
        deadlines.extend(self.machine.next_deadline());
        if self.machine.runs_gates() {
            deadlines.extend(self.gate_due.iter().flatten());
        }
        if let Some(running) = self.running.as_ref().filter(|running| running.sent) {
            deadlines.push(running.since + GRACE);
        }
        // What is overdue was held up by something else, and is not waited for.
        let next = deadlines.into_iter().filter(|deadline| *deadline > now).min();
        next.unwrap_or(now + self.machine.rules.check_every)
    }

    /// Passes an event to the state machine and reports its notices.
    fn handle_event(&mut self, event: Event, now: Time) {
        let notice = self.machine.handle(event, now);
        for notice in notice {
            self.report(notice);
        }
        self.record_phase();
    }

    fn report(&mut self, notice: Notice) {
        let at = self.environment.clock.wall();
        self.record(JournalEvent::Notice { notice: notice.clone() });
        self.events.push_back(TimedNotice { at, notice: notice.clone() });
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        let body = self.hook_body(&notice.code);
        self.notifications.push(self.environment.integrations.notify(notice, body));
    }

    fn record(&mut self, what: JournalEvent) -> bool {
        let entry = JournalEntry { at: self.environment.clock.wall(), run: self.identity.run, what };
        match self.journal.append(&entry) {
            Ok(()) => true,
            Err(error) => {
                if !std::mem::replace(&mut self.journal_failed, true) {
                    let text = format!("The journal cannot be written: {}", error.one_line());
                    let notice = Notice { level: Level::Error, code: "journal".to_owned(), text };
                    self.events.push_back(TimedNotice { at: entry.at, notice });
                }
                false
            }
        }
    }

    fn record_phase(&mut self) {
        let (phase, paused) = (self.machine.phase, self.machine.paused.is_some());
        if self.recorded_phase != Some((phase, paused)) {
            self.recorded_phase = Some((phase, paused));
            let pause = self.machine.paused.as_ref().map(|(pause, _)| pause.clone());
            let baselines = self.machine.tallies.iter().map(|tally| tally.baseline).collect();
            let (rollback_reason, share) = (self.machine.rollback_reason.clone(), self.machine.share);
            let skipped = self.machine.skipped.clone();
            self.record(JournalEvent::Phase {
                now: phase,
                paused: pause,
                rollback_reason,
                share,
                baselines,
                skipped,
            });
        }
    }

    fn start_due_work(&mut self, now: Time) {
        self.overtake(now);
        let task = self.machine.task(now);
        if self.running.as_ref().is_some_and(|running| running.task != task && !running.sent) {
            self.running = None;
        }
        if self.running.is_none() && task != Task::Wait && self.taken_over.is_none() && !self.leaving {
            let (sent, work) = self.begin(task);
            self.running = Some(RunningTask { task, sent, since: now, work });
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

    /// A rollback does not wait for ever for a write that is on its way.
    fn overtake(&mut self, now: Time) {
        let going_back = self.machine.phase.is_going_back();
        let slow = |running: &RunningTask| {
            running.sent
                && going_back
                && running.task != Task::Write(Goal::Rollback)
                && running.since + GRACE <= now
        };
        if let Some(running) = self.running.take_if(|running| slow(running)) {
            self.overtaken.push(running.work);
        }
    }
}

async fn work(running: &mut Option<RunningTask>) -> TaskResult {
    match running {
        Some(running) => running.work.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn pending_result<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(work) => work.as_mut().await,
        None => std::future::pending().await,
    }
}
