//! The engine: does what the rules ask for, and tells them what came of it.
//!
//! One future that is polled by one task. Everything that takes time – a write, a survey, a gate – is in flight beside
//! the others, so a gate that fails or a person who says "rollback" never waits for anything but a write that is on
//! its way. A write is never dropped: it is followed to its end, and what it did is read from the provider.

mod publish;
pub mod write;

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::call::Reply;
use super::clock::Time;
use super::gates::{Measurement, Traffic};
use super::journal::{Entry, Journal, What};
use super::machine::{Event, Machine, Said, Task};
use super::ports::{Answers, Drift, Hook, Ports, Survey};
use super::state::{Command, Goal, Level, Phase, Stage};
use super::status::{Happened, Snapshot};
use crate::dns::{Change, DnsResult, Observed, OriginalTtl, Progress, Share, Target, Ticket};

/// A command with its sender, and the place for the answer.
pub type Order = (Command, String, oneshot::Sender<std::result::Result<String, String>>);

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
    Confirmed(DnsResult<Progress>),
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
    ports: Ports,
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
    look_due: Time,
    telling: FuturesUnordered<BoxFuture<'static, ()>>,
    by_queries: Option<f64>,
    manual: Option<String>,
    events: VecDeque<Happened>,
    leaving: bool,
    taken_over: Option<String>,
    journaled: Option<(Phase, bool)>,
}

impl Engine {
    /// Puts an engine together; it does nothing before [`run`](Self::run).
    pub fn new(
        target: Target,
        ports: Ports,
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
            telling: FuturesUnordered::new(),
            by_queries: None,
            manual: None,
            events: VecDeque::new(),
            leaving: false,
            taken_over: None,
            journaled: None,
        }
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
        self.machine.phase.is_over().then_some(Ended::In(self.machine.phase))
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
                let interval = self.machine.rules.gates.get(gate).map(|(_, policy)| policy.interval.duration());
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
            Some(()) = self.telling.next() => {}
            () = alarm => {}
        }
    }

    fn next_alarm(&self, now: Time) -> Time {
        let mut alarms = vec![self.look_due];
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
                    let text = format!("The journal cannot be written: {}", super::gates::because(&error));
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
            self.note(What::Phase { now: phase, paused: pause, why_back, share, baselines });
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

    fn start_checks(&mut self, now: Time) {
        for gate in 0..self.check_due.len() {
            if self.check_due.get(gate).copied().flatten().is_some_and(|due| due <= now) {
                let baseline = self.machine.tallies.get(gate).and_then(|tally| tally.baseline);
                let check = self.ports.meters.gate(gate, self.machine.share, baseline);
                self.checks.push(Box::pin(async move { (gate, check.await) }));
                if let Some(due) = self.check_due.get_mut(gate) {
                    // Set again when it has answered.
                    *due = None;
                }
            }
        }
    }

    fn start_looks(&mut self) {
        if self.counting.is_none() {
            self.counting = self.ports.meters.traffic();
        }
        // While something is written or awaited, the task itself looks.
        if !self.is_quiet() {
            return;
        }
        if self.look.is_none() {
            let (provider, target) = (self.ports.provider.clone(), self.target.clone());
            self.look = Some(Box::pin(async move { provider.read(&target).await }));
        }
        if self.passing.is_none() && self.machine.verified.is_some() {
            self.passing = Some(self.ports.servers.survey(self.machine.share, PASSING_QUERIES));
        }
    }

    /// Whether the provider should hold what we know of.
    fn is_quiet(&self) -> bool {
        let writing = matches!(self.machine.phase.stage(), Some(Stage::Applying));
        !writing
            && self.pending.is_none()
            && self.overtaken.is_empty()
            && self.doing.as_ref().is_none_or(|d| !d.sent)
            && self.identity.generation > 0
    }

    /// Judges what the provider holds when nothing is being written.
    fn looked(&mut self, seen: DnsResult<Observed>) {
        let Ok(seen) = seen else { return };
        if !self.is_quiet() {
            return;
        }
        let now = self.ports.clock.now();
        let going_back = self.machine.phase.is_going_back();
        let strange = self.strange(&seen);
        match strange {
            None => {}
            Some(Strange::RolledBack(by)) if !going_back => self.rolled_back_by(&seen, by, now),
            Some(Strange::RolledBack(_)) => {}
            Some(Strange::TakenOver(by)) => self.taken_over = Some(by),
            Some(Strange::Changed(_)) if going_back && seen.share() == Some(Share::BLUE) => {}
            Some(Strange::Changed(text)) if going_back => self.feed(Event::NotBack(text), now),
            Some(Strange::Changed(text)) => self.feed(Event::Changed(text), now),
        }
        self.last = Some(seen);
    }

    /// Somebody else was faster; what he wrote is followed to its end.
    fn rolled_back_by(&mut self, seen: &Observed, by: String, now: Time) {
        self.identity.generation = seen.generation();
        self.ticket = None;
        self.feed(Event::RolledBackBy(by), now);
    }

    fn passed_by(&mut self, survey: Survey) {
        if let Answers::Wrong(text) = survey.answers
            && self.machine.verified.is_some()
            && !self.machine.phase.is_going_back()
        {
            let now = self.ports.clock.now();
            self.feed(Event::Wrong(text), now);
        }
    }

    fn obey(&mut self, (command, by, answer): Order) {
        let now = self.ports.clock.now();
        if command == Command::Leave {
            self.leaving = true;
        }
        let refused = self.refusal(&command);
        if refused.is_none() {
            self.feed(Event::Told(command, by), now);
            // What was looked at before a person spoke is looked at again.
            self.look_due = now;
        }
        let reply = match refused {
            Some(text) => Err(text),
            None => Ok(self.in_words()),
        };
        // Whoever asked may have gone.
        let _ = answer.send(reply);
    }

    fn in_words(&self) -> String {
        let sentence = self.machine.phase.sentence(&self.machine.rules.steps);
        if self.machine.paused.is_some() { format!("paused: {sentence}") } else { sentence }
    }

    /// Why a command makes no sense now.
    fn refusal(&self, command: &Command) -> Option<String> {
        let (phase, paused) = (self.machine.phase, self.machine.paused.is_some());
        let sentence = phase.sentence(&self.machine.rules.steps);
        let no = |why: &str| Some(format!("{why}: {sentence}"));
        match command {
            Command::Resume if !paused => no("nothing is paused"),
            Command::Pause if paused => no("it is paused already"),
            Command::Pause | Command::Undo | Command::Promote { .. } if phase.is_going_back() => {
                no("a rollback is not interrupted")
            }
            Command::Finish { .. } if matches!(phase, Phase::Moving { goal: Goal::Finish, .. }) => {
                no("it is being finished already")
            }
            Command::Finish { force: false, .. } if phase == Phase::Draining => {
                no("blue has not been still for long enough (--force finishes all the same)")
            }
            Command::Finish { .. } if !matches!(phase, Phase::Draining | Phase::Drained) => {
                no("it is not at 100 %")
            }
            Command::Undo if !matches!(phase, Phase::Draining | Phase::Drained) && phase.step().is_none() => {
                no("there is no step to take back")
            }
            Command::Promote { .. } if phase.step().is_none() && phase != Phase::Draining && !paused => {
                no("there is no step to leave")
            }
            _ => None,
        }
    }

    fn begin(&mut self, task: Task) -> (bool, BoxFuture<'static, Done>) {
        match task {
            Task::Nothing => (false, Box::pin(std::future::pending())),
            Task::Write(_) => (false, self.read_before_write()),
            Task::Confirm => {
                let (provider, ticket) = (self.ports.provider.clone(), self.ticket.clone());
                let confirm = async move {
                    match ticket {
                        Some(ticket) => provider.confirm(&ticket).await,
                        None => Ok(Progress::InSync),
                    }
                };
                (false, Box::pin(async move { Done::Confirmed(confirm.await) }))
            }
            Task::Survey(share) => {
                let survey = self.ports.servers.survey(share, self.identity.queries);
                (false, Box::pin(async move { Done::Surveyed(survey.await) }))
            }
            Task::AskBefore(index) => (false, self.ask_before(index)),
            Task::AskToFinish => {
                let drift = self.ports.outside.drift();
                (false, Box::pin(async move { Done::Answered(undrifted(drift.await).unwrap_or(Event::Yes)) }))
            }
            Task::AskAfter(_) => {
                let asked = self.ports.outside.hook(Hook::PostStep, self.hook_body("post_step"));
                (false, Box::pin(async move { Done::Answered(must(Hook::PostStep, asked.await)) }))
            }
        }
    }

    /// Drift first: no hook should be asked about a step that cannot begin.
    fn ask_before(&self, index: usize) -> BoxFuture<'static, Done> {
        let outside = self.ports.outside.clone();
        let share = self.machine.rules.share_of(Goal::Step(index));
        let mut confirm = Vec::new();
        if index == 0 {
            confirm.push(Hook::ConfirmRollout);
        }
        if share == Share::GREEN {
            confirm.push(Hook::ConfirmPromotion);
        }
        let body = self.hook_body("before_step");
        Box::pin(async move {
            if let Some(stop) = undrifted(outside.drift().await) {
                return Done::Answered(stop);
            }
            for hook in confirm {
                match outside.hook(hook, body.clone()).await {
                    None | Some(Reply::Yes(_)) => {}
                    Some(Reply::No(text) | Reply::Silent(text)) => {
                        let text = format!("{} does not say yes yet: {text}", hook.word());
                        return Done::Answered(Event::NotYet(text));
                    }
                }
            }
            Done::Answered(must(Hook::PreStep, outside.hook(Hook::PreStep, body).await))
        })
    }

    fn finish_task(&mut self, task: Task, done: Done) {
        let now = self.ports.clock.now();
        // What was begun for another state is looked at, but not taken for an answer to this one.
        let current = self.machine.task(now) == task;
        match done {
            Done::Read(seen) if current => self.write(task, seen, now),
            Done::Applied(change, result) => self.applied(task, *change, result, now),
            Done::Reread(change, why, seen) => self.reread(task, *change, why, seen, now),
            Done::Confirmed(progress) if current => self.confirmed(progress, now),
            Done::Surveyed(survey) if current => self.surveyed(survey, now),
            Done::Answered(event) if current => self.feed(event, now),
            _ => {}
        }
    }

    fn finish_overtaken(&mut self, done: Done) {
        let text = match done {
            Done::Applied(_, Ok(_)) => "a write that was overtaken by the rollback has been carried out",
            _ => "a write that was overtaken by the rollback has ended",
        };
        self.note(What::Result { written: matches!(done, Done::Applied(_, Ok(_))), text: text.to_owned() });
        // Whatever it did, the rollback's own look finds it.
        self.look_due = self.ports.clock.now();
    }

    fn confirmed(&mut self, progress: DnsResult<Progress>, now: Time) {
        let event = match progress {
            Ok(Progress::InSync) => Event::InSync,
            Ok(Progress::Pending) => {
                Event::Later("The provider has not yet told all of its servers".to_owned())
            }
            Err(error) => write::later(&error),
        };
        self.feed(event, now);
    }

    fn surveyed(&mut self, survey: Survey, now: Time) {
        self.by_queries = survey.green.map(|share| share * 100.0);
        let event = match survey.answers {
            Answers::Right => Event::Right,
            Answers::NotYet(text) => Event::Later(text),
            Answers::Wrong(text) => Event::Wrong(text),
        };
        self.feed(event, now);
    }
}

/// What is not as we left it.
enum Strange {
    /// Somebody else has rolled back.
    RolledBack(String),
    /// Somebody else goes on with our run, or another run began.
    TakenOver(String),
    /// The records are not what they should be.
    Changed(String),
}

/// What speaks against going on, if rows were changed since they were moved.
fn undrifted(drift: Drift) -> Option<Event> {
    match drift {
        Drift::Changed(text) | Drift::Unknown(text) => Some(Event::Stop("drift", text)),
        Drift::None | Drift::Unwatched => None,
    }
}

/// A hook that must say yes; anything else is for a person to look at.
fn must(hook: Hook, reply: Option<Reply>) -> Event {
    match reply {
        None | Some(Reply::Yes(_)) => Event::Yes,
        Some(Reply::No(text)) => Event::Stop("hook", format!("{} says no: {text}", hook.word())),
        Some(Reply::Silent(text)) => Event::Stop("hook", format!("{} does not answer: {text}", hook.word())),
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
