//! The rules of a cutover: what follows from what. Pure: it knows no provider, no clock and no file.
//!
//! [`Machine::task`] says what should be done now, [`Machine::on`] takes in what happened. Three rules stand above
//! all others: a rollback is taken at any time and nothing stops it; a share above the present one is only asked for
//! by a step that was reached in order, or by a person; what cannot be said for certain pauses, and never goes on.
//! Here are its words and its state; `moves` is how a move goes on, `health` what gates, servers and counters bring
//! about, `people` what is said to it.

mod health;
mod operator_commands;
mod rules;
mod transitions;

use std::time::Duration;

use crate::cutover::clock::Time;
use crate::cutover::gates::measurement::{Measurement, Traffic};
use crate::cutover::gates::tally::Tally;
use crate::cutover::notice::{Level, Said};
use crate::cutover::state::{Command, Goal, Pause, Phase, Stage};
use crate::dns::Share;
pub use rules::Rules;

/// What should be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Wait for something to happen.
    Nothing,
    /// Look for drift and ask the hooks before a step.
    AskBefore(usize),
    /// Ask the hook after a step.
    AskAfter(usize),
    /// Look once more before the records are made green's for good.
    AskToFinish(LastLooks),
    /// Write to the provider.
    Write(Goal),
    /// Ask the provider whether all of its servers have it.
    Confirm,
    /// Ask every name server.
    Survey(Share),
}

/// What is looked at before the records are made green's for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LastLooks {
    /// Blue's request counter.
    pub counters: bool,
    /// What people have changed since the last run.
    pub drift: bool,
}

impl LastLooks {
    /// Those that nobody has waived; without counters there is nothing to read.
    pub fn of(rules: &Rules, force: bool, accept_drift: bool) -> LastLooks {
        LastLooks { counters: rules.has_counters && !force, drift: !accept_drift }
    }

    /// Whether there is anything to look at.
    pub fn any(self) -> bool {
        self.counters || self.drift
    }
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
    /// Something could not be seen that nothing waits for now; it is said, and looked at again.
    Unseen(String),
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
    /// Why somebody asked for the rollback again that was under way.
    pub asked_again: Option<String>,
    /// Pause when the step has settled: after an undo.
    hold: bool,
    /// Once the last step has settled, go on to here: it has baked before, and perhaps drained.
    pub drain_after: Option<Phase>,
    /// Steps that were left out on the way up, from 0.
    pub skipped: Vec<usize>,
    /// What is still to be looked at before it is finished.
    pub last_looks: LastLooks,
    /// Whether gates must hold when it is finished.
    finish_forced: bool,
    /// Where a running engine stood when it was told to finish; none in a process that does nothing else.
    finish_from: Option<FinishFrom>,
    /// Why it was not finished when somebody last asked a running engine for it.
    pub against_finish: Option<String>,
    /// Why a process that was only to finish did not.
    pub not_finished: Option<String>,
    /// What is said last about waiting, so that it is said once.
    waiting: Option<String>,
}

/// What is taken up again when it is not finished.
#[derive(Debug, Clone)]
struct FinishFrom {
    phase: Phase,
    verified: Option<Time>,
    paused: Option<(Pause, Time)>,
}

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
            asked_again: None,
            hold: false,
            drain_after: None,
            skipped: Vec::new(),
            last_looks: LastLooks::default(),
            finish_forced: false,
            finish_from: None,
            against_finish: None,
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
                (Stage::Asking, Goal::Finish) => Task::AskToFinish(self.last_looks),
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
                Some(self.since + self.rules.steps.get(index)?.bake)
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
            // The last looks may take minutes, and a write may be refused: until it is done, all is still at stake.
            Phase::Moving { goal: Goal::Finish, stage } => {
                matches!(stage, Stage::Asking | Stage::Applying) && self.finish_from.is_some()
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
            Event::Unseen(text) => self.wait(text, said),
            // Nothing was written, and what stands is watched on; whoever says `finish` again has it looked at again.
            Event::Stop(_, text)
                if matches!(
                    self.phase,
                    Phase::Moving { goal: Goal::Finish, stage: Stage::Asking | Stage::Applying }
                ) =>
            {
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
            Event::Counted(traffic) => self.on_counted(traffic, now, said),
            Event::Changed(text) => {
                if !self.phase.is_going_back() {
                    self.pause("changed", text, now, said);
                }
            }
            Event::RolledBackBy(who) => {
                self.holds(Share::BLUE, now);
                self.asked = Share::BLUE;
                self.why_back.get_or_insert_with(|| format!("rolled back by {who}"));
                self.paused = None;
                // What name servers answered before says nothing about this.
                self.verified = None;
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
        if phase.is_going_back() {
            self.skipped.clear();
        }
        match phase {
            Phase::Moving { stage: Stage::Asking | Stage::Applying, goal } => {
                self.verified = None;
                if let Goal::Step(index) = goal {
                    self.skipped.retain(|skipped| *skipped < index);
                }
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
            Phase::Drained => {
                let still =
                    if self.rules.has_counters { "Blue is still" } else { "The time to drain is over" };
                say(said, Level::Info, "drained", format!("{still}; watched on until \"finish\""));
            }
            Phase::Finished => say(said, Level::Info, "finished", "Finished"),
            Phase::RolledBack => {
                say(said, Level::Error, "rolled_back", "Rolled back: new resolutions go to blue");
            }
            _ => {}
        }
    }

    fn pause(&mut self, code: &str, reason: String, now: Time, said: &mut Vec<Said>) {
        let ended = matches!(self.phase, Phase::Finished | Phase::RolledBack);
        if self.paused.is_some() || ended || self.phase.is_going_back() {
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
}

fn say(said: &mut Vec<Said>, level: Level, code: &str, text: impl Into<String>) {
    said.push(Said { level, code: code.to_owned(), text: text.into() });
}

/// Why a person goes back.
pub fn rollback_reason(by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("asked for by {by}") } else { format!("{by}: {reason}") }
}
