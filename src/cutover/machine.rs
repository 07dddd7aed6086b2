//! The rules of a cutover: what follows from what. Pure: it knows no provider, no clock and no file.
//!
//! [`Machine::task`] says what should be done now, [`Machine::on`] takes in what happened. Three rules stand above
//! all others: a rollback is taken at any time and nothing stops it; a share above the present one is only asked for
//! by a step that was reached in order, or by a person; what cannot be said for certain pauses, and never goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Time;
use super::config::{CutoverConfig, Step};
use super::gates::config::{OnFail, Policy};
use super::gates::tally::{Alarm, Tally};
use super::gates::{Measurement, Traffic, Verdict};
use super::state::{Command, Goal, Level, Pause, Phase, Stage};
use crate::dns::Share;

/// What the rules need to know of the configuration.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The steps.
    pub steps: Vec<Step>,
    /// Names and policies of the gates.
    pub gates: Vec<(String, Policy)>,
    /// The short time to live.
    pub ttl: Duration,
    /// How long resolvers may go on with an answer after the last name server gave it.
    pub settle: Duration,
    /// What resolvers may add to that.
    pub resolver_floor: Duration,
    /// From one question to the next.
    pub look_every: Duration,
    /// How long a move may wait for provider and name servers.
    pub settle_limit: Duration,
    /// How long blue must be still.
    pub drain: Duration,
    /// Requests a second below which a side is still.
    pub still_below: f64,
    /// Whether counters are read at all.
    pub has_counters: bool,
}

impl Rules {
    /// Of a configuration.
    pub fn of(config: &CutoverConfig) -> Rules {
        let settings = &config.settings;
        Rules {
            steps: config.steps.clone(),
            gates: config.gates.iter().map(|gate| (gate.name.clone(), gate.policy)).collect(),
            ttl: Duration::from_secs(u64::from(settings.ttl)),
            settle: Duration::from_secs(u64::from(settings.ttl)),
            resolver_floor: settings.resolver_floor.duration(),
            look_every: settings.look_every.duration(),
            settle_limit: settings.settle_limit.duration(),
            drain: settings.drain.time.duration(),
            still_below: settings.drain.still_below,
            has_counters: settings.prometheus.is_some(),
        }
    }

    /// The share that a goal asks for; none for `Finish`, which asks for one side.
    pub fn share_of(&self, goal: Goal) -> Share {
        match goal {
            Goal::Step(index) => self.steps.get(index).map(|step| step.share).unwrap_or_default(),
            Goal::Lower | Goal::Back | Goal::Finish => Share::BLUE,
        }
    }
}

/// What should be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Wait for something to happen.
    Nothing,
    /// Look for drift and ask the hooks before a step.
    AskBefore(usize),
    /// Ask the hook after a step.
    AskAfter(usize),
    /// Look for drift before the records are made green's for good.
    AskToFinish,
    /// Write to the provider.
    Write(Goal),
    /// Ask the provider whether all of its servers have it.
    Confirm,
    /// Ask every name server.
    Survey(Share),
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Nothing but time passing.
    Tick,
    /// Hooks and drift let the step begin, or the step end.
    Yes,
    /// A hook says not yet.
    NotYet(String),
    /// Something that a person must look at; the first part is the pause's code.
    Stop(&'static str, String),
    /// The provider took the write.
    Written,
    /// The provider says that all of its servers have it.
    InSync,
    /// Not yet, or it could not be said; ask again.
    Later(String),
    /// The provider wants to be left alone for so long.
    Throttled(Duration, String),
    /// Every name server answers with the share.
    Right,
    /// A name server answers with an error or with what is neither blue nor green.
    Wrong(String),
    /// A check of a gate.
    Measured(usize, Measurement),
    /// What the counters say.
    Counted(Traffic),
    /// The provider holds something that we did not write.
    Changed(String),
    /// Somebody else rolled back.
    RolledBackBy(String),
    /// What was rolled back is no longer so: a late write has landed, or somebody wrote.
    NotBack(String),
    /// A person said something.
    Told(Command, String),
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// How much it weighs.
    pub level: Level,
    /// A stable word.
    pub code: String,
    /// A sentence without a full stop.
    pub text: String,
}

/// The state and its rules.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The rules.
    pub rules: Rules,
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Time,
    /// Why nothing goes on, and since when.
    pub paused: Option<(Pause, Time)>,
    /// The share that the provider was last known to hold.
    pub share: Share,
    /// The largest share that may have reached the provider since it was last known.
    pub asked: Share,
    /// When the share was last changed.
    pub share_since: Time,
    /// What was seen of each gate.
    pub tallies: Vec<Tally>,
    /// How long the old time to live has still to run.
    pub old_ttl: Duration,
    /// Whether the name servers have been asked and answer right, and since when.
    pub verified: Option<Time>,
    /// Since when blue has been still.
    pub still_since: Option<Time>,
    /// What the counters last said, and when.
    pub traffic: Option<(Traffic, Time)>,
    /// Failures in a row of what is being done.
    pub attempts: u32,
    /// When it is tried again.
    pub retry_at: Option<Time>,
    /// Why it is going back.
    pub why_back: Option<String>,
    /// Pause when the step has settled: after an undo.
    hold: bool,
    /// The last step has baked before: go on to draining once it has settled.
    pub drain_after: bool,
    /// Where it stood when a running engine was told to finish; none in a process that does nothing else.
    finish_from: Option<Phase>,
    /// Why a process that was only to finish did not.
    pub not_finished: Option<String>,
    /// What is said last about waiting, so that it is said once.
    waiting: Option<String>,
}

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

impl Machine {
    /// At the beginning of `phase`, with `share` at the provider.
    pub fn new(rules: Rules, phase: Phase, share: Share, now: Time) -> Machine {
        let tallies = vec![Tally::default(); rules.gates.len()];
        Machine {
            rules,
            phase,
            since: now,
            paused: None,
            share,
            asked: share,
            share_since: now,
            tallies,
            old_ttl: Duration::ZERO,
            verified: None,
            still_since: None,
            traffic: None,
            attempts: 0,
            retry_at: None,
            why_back: None,
            hold: false,
            drain_after: false,
            finish_from: None,
            not_finished: None,
            waiting: None,
        }
    }

    /// What should be done now.
    pub fn task(&self, now: Time) -> Task {
        let waits = self.retry_at.is_some_and(|at| at > now);
        let paused = self.paused.is_some() && !self.phase.is_going_back();
        let halted = paused || self.not_finished.is_some();
        if waits || halted {
            return Task::Nothing;
        }
        match self.phase {
            Phase::Moving { goal, stage } => match (stage, goal) {
                (Stage::Asking, Goal::Step(index)) => Task::AskBefore(index),
                (Stage::Asking, Goal::Finish) => Task::AskToFinish,
                (Stage::Asking | Stage::Applying, _) => Task::Write(goal),
                (Stage::Propagating, _) => Task::Confirm,
                (Stage::Settling, Goal::Finish) if self.verified.is_none() => Task::Survey(self.share),
                (Stage::Settling, _) if self.verified.is_none() => Task::Survey(self.rules.share_of(goal)),
                (Stage::Leaving, Goal::Step(index)) => Task::AskAfter(index),
                _ => Task::Nothing,
            },
            _ => Task::Nothing,
        }
    }

    /// When time alone will change something, if nothing else happens before.
    pub fn alarm(&self) -> Option<Time> {
        let own = match self.phase {
            _ if self.paused.is_some() && !self.phase.is_going_back() => None,
            Phase::Moving { stage: Stage::Settling | Stage::Baking, .. } | Phase::Draining => self.ends_at(),
            _ => None,
        };
        own.into_iter().chain(self.retry_at).min()
    }

    /// When the present stage ends if all goes well.
    pub fn ends_at(&self) -> Option<Time> {
        match self.phase {
            Phase::Moving { goal: Goal::Lower, stage: Stage::Baking } => Some(self.since + self.old_ttl),
            Phase::Moving { goal: Goal::Back, stage: Stage::Baking } => {
                Some(self.since + self.rules.resolver_floor)
            }
            Phase::Moving { goal: Goal::Step(index), stage: Stage::Baking } => {
                Some(self.since + self.rules.steps.get(index)?.bake.duration())
            }
            Phase::Moving { goal: Goal::Finish, stage: Stage::Settling } => self.verified,
            Phase::Moving { stage: Stage::Settling, .. } => self.verified.map(|at| at + self.rules.settle),
            Phase::Draining => self.still_since.map(|at| at + self.rules.drain),
            _ => None,
        }
    }

    /// Whether clients may be on green because of us: a failed gate then goes back, and does not only pause.
    pub fn exposed(&self) -> bool {
        self.share > Share::BLUE || self.asked > Share::BLUE
    }

    /// Whether gates are looked at now.
    pub fn is_watched(&self) -> bool {
        match self.phase {
            Phase::Finished | Phase::RolledBack | Phase::Moving { goal: Goal::Back, .. } => false,
            // A look for drift may take minutes, in which what drained before is still at stake.
            Phase::Moving { goal: Goal::Finish, stage } => {
                stage == Stage::Asking && self.finish_from.is_some()
            }
            _ => true,
        }
    }

    /// The provider was seen to hold this share. What was measured at another one counts no longer.
    pub fn holds(&mut self, share: Share, now: Time) {
        if share != self.share {
            self.share = share;
            self.share_since = now;
            self.tallies.iter_mut().for_each(Tally::restart);
        }
    }

    /// Takes in what happened; what is worth telling comes out.
    pub fn on(&mut self, event: Event, now: Time) -> Vec<Said> {
        let mut said = Vec::new();
        self.take_in(event, now, &mut said);
        // What follows from time alone; more than one thing may be due.
        while self.pass_time(now, &mut said) {}
        said
    }

    fn take_in(&mut self, event: Event, now: Time, said: &mut Vec<Said>) {
        match event {
            Event::Tick => {}
            Event::Yes => self.on_yes(now, said),
            Event::NotYet(text) => {
                self.retry_at = Some(now + self.rules.look_every);
                self.wait(text, said);
            }
            Event::Stop(_, text) if self.phase == Phase::toward(Goal::Finish) => {
                self.do_not_finish(text, now, said);
            }
            Event::Stop(code, text) => self.pause(code, text, now, said),
            Event::Written => self.on_written(now, said),
            Event::InSync => self.on_stage(Stage::Propagating, Stage::Settling, now, said),
            Event::Later(text) => self.on_later(None, text, now, said),
            Event::Throttled(wait, text) => self.on_later(Some(wait), text, now, said),
            Event::Right => {
                self.attempts = 0;
                self.verified.get_or_insert(now);
            }
            Event::Wrong(text) => self.on_wrong(text, now, said),
            Event::Measured(gate, measured) => self.on_measured(gate, measured, now, said),
            Event::Counted(traffic) => self.on_counted(traffic, now),
            Event::Changed(text) => {
                if !self.phase.is_going_back() {
                    self.pause("changed", text, now, said);
                }
            }
            Event::RolledBackBy(who) => {
                self.holds(Share::BLUE, now);
                self.asked = Share::BLUE;
                self.why_back = Some(format!("rolled back by {who}"));
                self.paused = None;
                say(said, Level::Error, "rollback", format!("Rolled back by {who}"));
                self.go(Phase::Moving { goal: Goal::Back, stage: Stage::Propagating }, now, said);
            }
            Event::NotBack(text) => {
                say(said, Level::Error, "not_back", text);
                self.go(Phase::Moving { goal: Goal::Back, stage: Stage::Applying }, now, said);
            }
            Event::Told(command, by) => self.on_told(command, &by, now, said),
        }
    }

    fn go(&mut self, phase: Phase, now: Time, said: &mut Vec<Said>) {
        (self.phase, self.since) = (phase, now);
        (self.attempts, self.retry_at, self.waiting) = (0, None, None);
        match phase {
            Phase::Moving { stage: Stage::Asking | Stage::Applying, goal } => {
                self.verified = None;
                if let (Goal::Step(index), true) = (goal, phase.stage() == Some(Stage::Asking)) {
                    let share = self.rules.share_of(goal);
                    let of = self.rules.steps.len();
                    say(said, Level::Info, "step", format!("Step {} of {of}: {share} to green", index + 1));
                }
            }
            Phase::Draining => {
                self.still_since = (!self.rules.has_counters).then_some(now);
                say(
                    said,
                    Level::Info,
                    "draining",
                    "All new resolutions go to green; waiting for blue to fall still",
                );
            }
            Phase::Drained => say(said, Level::Info, "drained", "Blue is still"),
            Phase::Finished => say(said, Level::Info, "finished", "Finished"),
            Phase::RolledBack => {
                say(said, Level::Error, "rolled_back", "Rolled back: new resolutions go to blue");
            }
            _ => {}
        }
    }

    fn on_stage(&mut self, from: Stage, to: Stage, now: Time, said: &mut Vec<Said>) {
        if let Phase::Moving { goal, stage } = self.phase
            && stage == from
        {
            self.go(Phase::Moving { goal, stage: to }, now, said);
        }
    }

    fn on_yes(&mut self, now: Time, said: &mut Vec<Said>) {
        match self.phase {
            Phase::Moving { goal: goal @ (Goal::Step(_) | Goal::Finish), stage: Stage::Asking } => {
                // Somebody may have said "resume" while a gate still fails.
                if let Some(name) = self.failing_gate() {
                    return self.pause("gate", format!("gate {name} fails"), now, said);
                }
                self.go(Phase::Moving { goal, stage: Stage::Applying }, now, said);
            }
            Phase::Moving { goal: goal @ Goal::Step(index), stage: Stage::Leaving } => {
                let step = self.rules.steps.get(index).copied();
                if step.is_some_and(|step| step.approval && step.share != Share::GREEN) {
                    self.go(Phase::Moving { goal, stage: Stage::Approval }, now, said);
                    let share = self.rules.share_of(goal);
                    say(said, Level::Warn, "approval", format!("{share} has baked; \"promote\" goes on"));
                } else {
                    self.leave_step(index, now, said);
                }
            }
            _ => {}
        }
    }

    /// Nothing was written yet: what drained goes on draining, and a process that was only to finish ends.
    fn do_not_finish(&mut self, why: String, now: Time, said: &mut Vec<Said>) {
        say(said, Level::Warn, "not_finished", format!("Not finished: {why}"));
        match self.finish_from.take() {
            Some(from) => (self.phase, self.since) = (from, now),
            None => self.not_finished = Some(why),
        }
    }

    fn failing_gate(&self) -> Option<String> {
        let failing = |tally: &Tally| tally.last.as_ref().is_some_and(|last| last.verdict == Verdict::Fail);
        let gates = self.rules.gates.iter().zip(&self.tallies);
        gates.filter(|(_, tally)| failing(tally)).map(|((name, _), _)| name.clone()).next()
    }

    fn leave_step(&mut self, index: usize, now: Time, said: &mut Vec<Said>) {
        if index + 1 < self.rules.steps.len() {
            self.go(Phase::toward(Goal::Step(index + 1)), now, said);
        } else {
            self.go(Phase::Draining, now, said);
        }
    }

    fn on_written(&mut self, now: Time, said: &mut Vec<Said>) {
        let Phase::Moving { goal, stage: Stage::Asking | Stage::Applying } = self.phase else { return };
        if goal == Goal::Finish {
            self.go(Phase::Moving { goal, stage: Stage::Propagating }, now, said);
            return;
        }
        let share = self.rules.share_of(goal);
        self.holds(share, now);
        self.asked = share;
        match goal {
            Goal::Back => {
                let ttl = super::span::Span::from(self.rules.ttl);
                let text = format!(
                    "The provider has blue again; resolvers follow within {ttl}, and those that keep answers longer when they let go"
                );
                say(said, Level::Error, "back", text);
            }
            Goal::Lower => say(
                said,
                Level::Info,
                "lowered",
                format!("The provider has the TTL of {} s", self.rules.ttl.as_secs()),
            ),
            _ => say(said, Level::Info, "written", format!("The provider has {share} to green")),
        }
        self.go(Phase::Moving { goal, stage: Stage::Propagating }, now, said);
    }

    fn on_later(&mut self, wait: Option<Duration>, text: String, now: Time, said: &mut Vec<Said>) {
        let Phase::Moving { goal, stage } = self.phase else { return };
        self.attempts += 1;
        let writing = matches!(stage, Stage::Asking | Stage::Applying);
        let overdue = now.saturating_sub(self.since) >= self.rules.settle_limit;
        if overdue && goal != Goal::Back {
            let code = if stage == Stage::Settling { "name_servers" } else { "provider" };
            return self.pause(code, text, now, said);
        }
        let backoff = RETRY_FIRST * 2_u32.pow(self.attempts.min(6) - 1);
        let wait = wait.unwrap_or(if writing { backoff } else { backoff.min(self.rules.look_every) });
        self.retry_at = Some(now + wait.min(RETRY_MOST));
        let level = if writing { Level::Warn } else { Level::Info };
        if self.waiting.as_deref() != Some(&text) {
            say(said, level, if writing { "retry" } else { "waiting" }, text.clone());
            self.waiting = Some(text);
        }
    }

    fn on_wrong(&mut self, text: String, now: Time, said: &mut Vec<Said>) {
        match self.phase {
            // There is no way further back; it is asked again, and every operator told.
            Phase::Moving { goal: Goal::Back, .. } => self.on_later(None, text, now, said),
            _ if self.exposed() => self.roll_back(format!("wrong answers: {text}"), now, said),
            _ => self.pause("name_servers", text, now, said),
        }
    }

    fn on_measured(&mut self, gate: usize, measured: Measurement, now: Time, said: &mut Vec<Said>) {
        let Some((name, policy)) = self.rules.gates.get(gate).cloned() else { return };
        let (line, after) = (measured.line(), now.saturating_sub(self.share_since));
        let Some(tally) = self.tallies.get_mut(gate) else { return };
        let alarm = tally.add(&policy, measured, after);
        if !self.is_watched() {
            return;
        }
        match alarm {
            Some(Alarm::Failed(on_fail)) if self.exposed() && on_fail == OnFail::Rollback => {
                self.roll_back(format!("gate {name}: {line}"), now, said);
            }
            Some(Alarm::Failed(_)) => self.pause("gate", format!("gate {name} fails: {line}"), now, said),
            // Nothing is on green yet, so nothing can be known of it yet.
            Some(Alarm::Unclear) if self.share > Share::BLUE => {
                self.pause("gate", format!("gate {name} cannot be judged: {line}"), now, said);
            }
            Some(Alarm::Unclear) | None => {}
        }
    }

    fn on_counted(&mut self, traffic: Traffic, now: Time) {
        self.traffic = Some((traffic, now));
        let still = traffic.blue.is_some_and(|rate| rate <= self.rules.still_below);
        match self.phase {
            Phase::Draining if !still => self.still_since = None,
            Phase::Draining => {
                self.still_since.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// Goes back to blue, from wherever it is.
    fn roll_back(&mut self, why: String, now: Time, said: &mut Vec<Said>) {
        if self.phase.is_going_back() {
            return;
        }
        self.paused = None;
        self.hold = false;
        self.drain_after = false;
        say(said, Level::Error, "rollback", format!("Rolling back: {why}"));
        self.why_back = Some(why);
        self.go(Phase::Moving { goal: Goal::Back, stage: Stage::Applying }, now, said);
    }

    fn pause(&mut self, code: &str, reason: String, now: Time, said: &mut Vec<Said>) {
        if self.paused.is_some() || self.phase.is_over() || self.phase.is_going_back() {
            return;
        }
        say(said, Level::Warn, "paused", format!("Paused: {reason}"));
        self.retry_at = None;
        self.paused = Some((Pause { code: code.to_owned(), reason }, now));
    }

    fn wait(&mut self, text: String, said: &mut Vec<Said>) {
        if self.waiting.as_deref() != Some(&text) {
            say(said, Level::Info, "waiting", text.clone());
            self.waiting = Some(text);
        }
    }

    /// Ends the pause; what was watched before it counts on.
    fn unpause(&mut self, now: Time) {
        if let Some((_, at)) = self.paused.take() {
            let paused = now.saturating_sub(at);
            match self.phase.stage() {
                Some(Stage::Baking) => self.since += paused,
                // What waited for something begins its patience anew.
                _ => self.since = now,
            }
            self.attempts = 0;
            self.waiting = None;
            self.tallies.iter_mut().for_each(Tally::restart);
        }
    }

    fn on_told(&mut self, command: Command, by: &str, now: Time, said: &mut Vec<Said>) {
        say(said, Level::Info, "told", format!("{by}: {}", command.word()));
        match command {
            Command::Rollback { reason } => {
                let why = super::open::asked_for(by, &reason);
                match self.phase {
                    Phase::Finished | Phase::RolledBack => {}
                    _ => self.roll_back(why, now, said),
                }
            }
            Command::Pause => self.pause("operator", format!("asked for by {by}"), now, said),
            Command::Resume => self.unpause(now),
            Command::Promote { full } => self.promote(full, now, said),
            Command::Retry => self.retry(now, said),
            Command::Undo => self.undo(by, now, said),
            Command::Finish { force, accept_drift } => {
                let may = self.phase == Phase::Drained || (force && self.phase == Phase::Draining);
                if may {
                    self.paused = None;
                    self.finish_from = Some(self.phase);
                    let stage = if accept_drift { Stage::Applying } else { Stage::Asking };
                    self.go(Phase::Moving { goal: Goal::Finish, stage }, now, said);
                }
            }
            Command::Leave => {}
        }
    }

    fn promote(&mut self, full: bool, now: Time, said: &mut Vec<Said>) {
        let last = self.rules.steps.len().saturating_sub(1);
        match self.phase {
            Phase::Moving { goal: Goal::Step(index), stage } => {
                self.unpause(now);
                if full && index < last {
                    self.go(Phase::toward(Goal::Step(last)), now, said);
                } else if matches!(stage, Stage::Baking | Stage::Leaving | Stage::Approval | Stage::Settling)
                {
                    self.leave_step(index, now, said);
                }
            }
            Phase::Draining => {
                self.unpause(now);
                self.go(Phase::Drained, now, said);
            }
            _ => self.unpause(now),
        }
    }

    fn retry(&mut self, now: Time, said: &mut Vec<Said>) {
        match self.phase {
            Phase::Moving { goal, .. } if goal != Goal::Back => {
                self.unpause(now);
                self.go(Phase::toward(goal), now, said);
            }
            _ => self.unpause(now),
        }
    }

    fn undo(&mut self, by: &str, now: Time, said: &mut Vec<Said>) {
        let index = match self.phase {
            Phase::Draining | Phase::Drained => self.rules.steps.len().saturating_sub(1),
            Phase::Moving { goal: Goal::Step(index), .. } => index,
            _ => return,
        };
        // A step that has not been written yet is undone by not writing it, but an earlier try may have landed.
        if index == 0 {
            return self.roll_back(format!("undone by {by}"), now, said);
        }
        self.paused = None;
        self.drain_after = false;
        self.hold = true;
        say(
            said,
            Level::Warn,
            "undo",
            format!("One step back, to {}", self.rules.share_of(Goal::Step(index - 1))),
        );
        self.go(Phase::Moving { goal: Goal::Step(index - 1), stage: Stage::Applying }, now, said);
    }

    /// Does the next thing that is due by time alone; whether there was one.
    fn pass_time(&mut self, now: Time, said: &mut Vec<Said>) -> bool {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.paused.is_some() && !self.phase.is_going_back() {
            return false;
        }
        let before = self.phase;
        match self.phase {
            Phase::Ready => self.go(Phase::toward(Goal::Step(0)), now, said),
            _ if self.ends_at().is_none_or(|at| at > now) => {}
            Phase::Moving { goal, stage: Stage::Settling } => self.settled(goal, now, said),
            Phase::Moving { goal, stage: Stage::Baking } => self.baked(goal, now, said),
            Phase::Draining => self.drained(now, said),
            _ => {}
        }
        self.phase != before
    }

    fn drained(&mut self, now: Time, said: &mut Vec<Said>) {
        if self.gates_let_on(said) {
            self.go(Phase::Drained, now, said);
        }
    }

    fn settled(&mut self, goal: Goal, now: Time, said: &mut Vec<Said>) {
        if goal == Goal::Finish {
            return self.go(Phase::Finished, now, said);
        }
        if let (Goal::Step(index), true) = (goal, self.drain_after)
            && index + 1 == self.rules.steps.len()
        {
            self.drain_after = false;
            return self.go(Phase::Draining, now, said);
        }
        self.go(Phase::Moving { goal, stage: Stage::Baking }, now, said);
        match goal {
            Goal::Step(index) => {
                let bake = self.rules.steps.get(index).map(|step| step.bake).unwrap_or_default();
                let share = self.rules.share_of(goal);
                say(
                    said,
                    Level::Info,
                    "baking",
                    format!("Every name server answers with {share}; watching it for {bake}"),
                );
            }
            Goal::Lower if !self.old_ttl.is_zero() => {
                let wait = super::span::Span::from(self.old_ttl);
                say(
                    said,
                    Level::Info,
                    "old_ttl",
                    format!("Waiting {wait} until the old TTL has run out everywhere"),
                );
            }
            _ => {}
        }
        if std::mem::take(&mut self.hold) {
            self.pause("undone", "one step was taken back".to_owned(), now, said);
        }
    }

    fn baked(&mut self, goal: Goal, now: Time, said: &mut Vec<Said>) {
        match goal {
            Goal::Lower => self.go(Phase::Ready, now, said),
            Goal::Back => match self.traffic {
                // Read since the rollback: an older number says nothing.
                Some((Traffic { green: Some(rate), .. }, at))
                    if at >= self.since && rate > self.rules.still_below =>
                {
                    let text = "green still gets requests over connections that were open".to_owned();
                    self.wait(text, said);
                }
                None if self.rules.has_counters
                    && now < self.since + self.rules.resolver_floor + self.patience() => {}
                Some((Traffic { green: Some(_), .. }, _)) => self.go(Phase::RolledBack, now, said),
                _ => {
                    let text =
                        "Nothing tells whether green is still: connections that were open may still be used";
                    say(said, Level::Warn, "not_counted", text);
                    self.go(Phase::RolledBack, now, said);
                }
            },
            Goal::Step(_) => {
                if self.gates_let_on(said) {
                    self.go(Phase::Moving { goal, stage: Stage::Leaving }, now, said);
                }
            }
            Goal::Finish => {}
        }
    }

    /// How long a first look at the counters may take before a rollback ends without one.
    fn patience(&self) -> Duration {
        self.rules.look_every * 2
    }

    fn gates_let_on(&mut self, said: &mut Vec<Said>) -> bool {
        let gates = self.rules.gates.iter().zip(&self.tallies);
        let held: Vec<&str> = gates
            .filter(|((_, policy), tally)| !tally.lets_on(policy))
            .map(|((name, _), _)| name.as_str())
            .collect();
        if held.is_empty() {
            return true;
        }
        let text = format!("Baked, and waiting for a pass of: {}", held.join(", "));
        self.wait(text, said);
        false
    }
}

fn say(said: &mut Vec<Said>, level: Level, code: &str, text: impl Into<String>) {
    said.push(Said { level, code: code.to_owned(), text: text.into() });
}
