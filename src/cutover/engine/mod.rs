//! The engine: does what the rules ask for, and tells them what came of it.
//!
//! One future that is polled by one task. Everything that takes time – a write, a survey, a gate – is in flight beside
//! the others, so a gate that fails or a person who says "rollback" never waits for anything but a write that is on
//! its way. A write is never dropped: it is followed to its end, and what it did is read from the provider. Here is the
//! loop; `tasks` is the work in hand, `write` the one that changes something, `looks` what is seen in passing, `orders`
//! what people say, `publish` what they see.

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
use super::environment::{Drift, Environment, Survey};
use super::gates::measurement::{Measurement, Traffic};
use super::journal::{Entry, Journal, What};
use super::machine::{Event, Machine, Task};
use super::notice::{Level, Said};
use super::state::{Command, Goal, Phase};
use super::status::{Happened, Snapshot};
use crate::dns::{Change, DnsResult, Observed, OriginalTtl, Propagation, Target, Ticket};

/// A command with its sender, and the place for the answer.
pub type Order = (Command, String, Answer);

/// Where the answer to a command goes: a sentence, or why not.
type Answer = oneshot::Sender<std::result::Result<String, String>>;

/// How a run of the engine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// In this phase, which needs no watching.
    In(Phase),
    /// A person left it as it was.
    Left,
    /// Somebody else took over.
    TakenOver(String),
    /// It was only to finish, and this speaks against it; nothing was changed.
    NotFinished(String),
}

/// Who runs what.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The run.
    pub run: Uuid,
    /// `user@host`, with the process.
    pub owner: String,
    /// The marker's generation that we know of; 0 before the first write.
    pub generation: u64,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// The times to live of before.
    pub originals: Vec<OriginalTtl>,
    /// The time to live that `finish` leaves; those of before where none is given.
    pub final_ttl: Option<u32>,
    /// How to go back, for people.
    pub rollback_command: String,
    /// How many queries judge a share.
    pub queries: u32,
}

/// What the task in hand has come to.
enum Done {
    Read(DnsResult<Observed>),
    Applied(Box<Change>, DnsResult<Ticket>),
    Reread(Box<Change>, String, DnsResult<Observed>),
    Confirmed(DnsResult<Propagation>),
    Surveyed(Survey),
    Answered(Event),
}

/// A task in hand.
struct Doing {
    task: Task,
    /// Whether a write may be on its way.
    sent: bool,
    since: Time,
    work: BoxFuture<'static, Done>,
}

/// The number of queries of a look in passing: enough to see errors, too few to judge a share.
const PASSING_QUERIES: u32 = 40;

/// How long a rollback waits for a write that is on its way before it is sent after it.
const GRACE: Duration = Duration::from_secs(3);

/// How many events are shown.
const EVENTS: usize = 40;

/// The engine. Made by `open`, run once.
pub struct Engine {
    target: Target,
    ports: Environment,
    identity: Identity,
    machine: Machine,
    journal: Box<dyn Journal>,
    journal_failed: bool,
    /// Kept, so that the other end never closes.
    speaker: mpsc::Sender<Order>,
    orders: mpsc::Receiver<Order>,
    shown: watch::Sender<Option<Snapshot>>,
    /// What the provider was last seen to hold.
    last: Option<Observed>,
    ticket: Option<Ticket>,
    /// A write of which nobody knows whether it was carried out.
    pending: Option<Change>,
    doing: Option<Doing>,
    /// Writes that were overtaken by a rollback.
    overtaken: FuturesUnordered<BoxFuture<'static, Done>>,
    checks: FuturesUnordered<BoxFuture<'static, (usize, Measurement)>>,
    check_due: Vec<Option<Time>>,
    look: Option<BoxFuture<'static, DnsResult<Observed>>>,
    passing: Option<BoxFuture<'static, Survey>>,
    counting: Option<BoxFuture<'static, Traffic>>,
    drifting: Option<BoxFuture<'static, Drift>>,
    drift_due: Option<Time>,
    look_due: Time,
    telling: FuturesUnordered<BoxFuture<'static, ()>>,
    by_queries: Option<f64>,
    manual: Option<String>,
    events: VecDeque<Happened>,
    leaving: bool,
    /// Whether it stays at work from `drained` until `finish`.
    stays: bool,
    /// Whoever said `finish` and is told what came of it.
    finisher: Option<Answer>,
    taken_over: Option<String>,
    journaled: Option<(Phase, bool)>,
}

impl Engine {
    /// Puts an engine together; it does nothing before [`run`](Self::run).
    pub fn new(
        target: Target,
        ports: Environment,
        identity: Identity,
        machine: Machine,
        journal: Box<dyn Journal>,
    ) -> Engine {
        let now = ports.clock.now();
        let (speaker, orders) = mpsc::channel(16);
        Engine {
            check_due: vec![Some(now); machine.rules.gates.len()],
            look_due: now + machine.rules.look_every,
            target,
            ports,
            identity,
            machine,
            journal,
            journal_failed: false,
            speaker,
            orders,
            shown: watch::Sender::new(None),
            last: None,
            ticket: None,
            pending: None,
            doing: None,
            overtaken: FuturesUnordered::new(),
            checks: FuturesUnordered::new(),
            look: None,
            passing: None,
            counting: None,
            drifting: None,
            drift_due: None,
            telling: FuturesUnordered::new(),
            by_queries: None,
            manual: None,
            events: VecDeque::new(),
            leaving: false,
            stays: false,
            finisher: None,
            taken_over: None,
            journaled: None,
        }
    }

    /// Stays at work in `drained`, until somebody says `finish`.
    pub fn until_finished(mut self) -> Engine {
        self.stays = true;
        self
    }

    /// How people speak to the engine.
    pub fn speaker(&self) -> mpsc::Sender<Order> {
        self.speaker.clone()
    }

    /// Where the engine shows itself.
    pub fn watch(&self) -> watch::Receiver<Option<Snapshot>> {
        self.shown.subscribe()
    }

    /// Runs until nothing needs to be watched any more, somebody leaves, or somebody else takes over.
    pub async fn run(mut self) -> Ended {
        self.open();
        loop {
            let now = self.ports.clock.now();
            self.feed(Event::Tick, now);
            self.start_what_is_due(now);
            self.publish(now);
            self.answer_finisher();
            if let Some(ended) = self.ended() {
                self.close(now).await;
                return ended;
            }
            self.wait(now).await;
        }
    }

    fn ended(&self) -> Option<Ended> {
        if self.doing.as_ref().is_some_and(|doing| doing.sent) || !self.overtaken.is_empty() {
            return None;
        }
        if let Some(by) = &self.taken_over {
            return Some(Ended::TakenOver(by.clone()));
        }
        if self.leaving {
            return Some(Ended::Left);
        }
        if let Some(why) = &self.machine.not_finished {
            return Some(Ended::NotFinished(why.clone()));
        }
        let phase = self.machine.phase;
        let ended = phase.is_over() && !(self.stays && phase == Phase::Drained);
        ended.then_some(Ended::In(phase))
    }

    fn open(&mut self) {
        let opened = What::Opened {
            owner: self.identity.owner.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.note(opened);
        self.note_phase();
        // Opened to go back: nobody has been told yet why.
        if let Some(why) = self.machine.why_back.clone() {
            let text = format!("Rolling back: {why}");
            self.say(Said { level: Level::Error, code: "rollback".to_owned(), text });
        }
        if let Some(why) = self.machine.asked_again.take() {
            let text = format!("A rollback is under way already; {why}");
            self.say(Said { level: Level::Info, code: "rollback_again".to_owned(), text });
        }
    }

    /// Lets the last notifications go out.
    async fn close(&mut self, now: Time) {
        let limit = self.ports.clock.until(now + Duration::from_secs(15));
        let told = async { while self.telling.next().await.is_some() {} };
        tokio::select! {
            biased;
            () = told => {}
            () = limit => {}
        }
    }

    /// Waits for the next thing to happen and takes it in.
    async fn wait(&mut self, now: Time) {
        let alarm = self.ports.clock.until(self.next_alarm(now));
        tokio::select! {
            biased;
            Some(order) = self.orders.recv() => self.obey(order),
            done = work(&mut self.doing) => {
                let task = self.doing.take().map_or(Task::Nothing, |doing| doing.task);
                self.finish_task(task, done);
            }
            Some(done) = self.overtaken.next() => self.finish_overtaken(done),
            Some((gate, measured)) = self.checks.next() => {
                let now = self.ports.clock.now();
                let interval = self.machine.rules.gates.get(gate).map(|(_, policy)| policy.interval);
                if let Some(due) = self.check_due.get_mut(gate) {
                    *due = Some(now + interval.unwrap_or_default());
                }
                self.feed(Event::Measured(gate, measured), now);
            }
            seen = slot(&mut self.look) => { self.look = None; self.looked(seen); }
            survey = slot(&mut self.passing) => { self.passing = None; self.passed_by(survey); }
            traffic = slot(&mut self.counting) => {
                self.counting = None;
                let now = self.ports.clock.now();
                self.feed(Event::Counted(traffic), now);
            }
            drift = slot(&mut self.drifting) => { self.drifting = None; self.drifted(drift); }
            Some(()) = self.telling.next() => {}
            () = alarm => {}
        }
    }

    fn next_alarm(&self, now: Time) -> Time {
        let mut alarms = vec![self.look_due];
        alarms.extend(self.drift_due);
        alarms.extend(self.machine.alarm());
        if self.machine.is_watched() {
            alarms.extend(self.check_due.iter().flatten());
        }
        if let Some(doing) = self.doing.as_ref().filter(|doing| doing.sent) {
            alarms.push(doing.since + GRACE);
        }
        // What is overdue was held up by something else, and is not waited for.
        let next = alarms.into_iter().filter(|alarm| *alarm > now).min();
        next.unwrap_or(now + self.machine.rules.look_every)
    }

    /// Tells the rules what happened and everybody what came of it.
    fn feed(&mut self, event: Event, now: Time) {
        let said = self.machine.on(event, now);
        for said in said {
            self.say(said);
        }
        self.note_phase();
    }

    fn say(&mut self, said: Said) {
        let at = self.ports.clock.wall();
        self.note(What::Said { said: said.clone() });
        self.events.push_back(Happened { at, said: said.clone() });
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        let body = self.hook_body(&said.code);
        self.telling.push(self.ports.outside.tell(said, body));
    }

    fn note(&mut self, what: What) -> bool {
        let entry = Entry { at: self.ports.clock.wall(), run: self.identity.run, what };
        match self.journal.append(&entry) {
            Ok(()) => true,
            Err(error) => {
                if !std::mem::replace(&mut self.journal_failed, true) {
                    let text = format!("The journal cannot be written: {}", error.one_line());
                    let said = Said { level: Level::Error, code: "journal".to_owned(), text };
                    self.events.push_back(Happened { at: entry.at, said });
                }
                false
            }
        }
    }

    fn note_phase(&mut self) {
        let (phase, paused) = (self.machine.phase, self.machine.paused.is_some());
        if self.journaled != Some((phase, paused)) {
            self.journaled = Some((phase, paused));
            let pause = self.machine.paused.as_ref().map(|(pause, _)| pause.clone());
            let baselines = self.machine.tallies.iter().map(|tally| tally.baseline).collect();
            let (why_back, share) = (self.machine.why_back.clone(), self.machine.share);
            let skipped = self.machine.skipped.clone();
            self.note(What::Phase { now: phase, paused: pause, why_back, share, baselines, skipped });
        }
    }

    fn start_what_is_due(&mut self, now: Time) {
        self.overtake(now);
        let task = self.machine.task(now);
        if self.doing.as_ref().is_some_and(|doing| doing.task != task && !doing.sent) {
            self.doing = None;
        }
        if self.doing.is_none() && task != Task::Nothing && self.taken_over.is_none() && !self.leaving {
            let (sent, work) = self.begin(task);
            self.doing = Some(Doing { task, sent, since: now, work });
        }
        if self.machine.is_watched() {
            self.start_checks(now);
        }
        self.start_drift(now);
        if self.look_due <= now {
            self.look_due = now + self.machine.rules.look_every;
            self.start_looks();
        }
    }

    /// A rollback does not wait for ever for a write that is on its way.
    fn overtake(&mut self, now: Time) {
        let going_back = self.machine.phase.is_going_back();
        let slow = |doing: &Doing| {
            doing.sent && going_back && doing.task != Task::Write(Goal::Back) && doing.since + GRACE <= now
        };
        if let Some(doing) = self.doing.take_if(|doing| slow(doing)) {
            self.overtaken.push(doing.work);
        }
    }
}

async fn work(doing: &mut Option<Doing>) -> Done {
    match doing {
        Some(doing) => doing.work.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn slot<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(work) => work.as_mut().await,
        None => std::future::pending().await,
    }
}
