//! The task in hand: how it is begun, and what its end tells the rules.

use futures::future::BoxFuture;

use super::{Done, Engine, write};
use crate::cutover::call::Reply;
use crate::cutover::clock::Time;
use crate::cutover::environment::{Answers, Drift, Hook, Survey};
use crate::cutover::gates::measurement::Traffic;
use crate::cutover::journal::What;
use crate::cutover::machine::{Event, LastLooks, Task};
use crate::cutover::state::Goal;
use crate::dns::{DnsResult, Propagation, Share};

impl Engine {
    pub(super) fn begin(&mut self, task: Task) -> (bool, BoxFuture<'static, Done>) {
        match task {
            Task::Nothing => (false, Box::pin(std::future::pending())),
            Task::Write(_) => (false, self.read_before_write()),
            Task::Confirm => {
                let (provider, ticket) = (self.ports.provider.clone(), self.ticket.clone());
                let confirm = async move {
                    match ticket {
                        Some(ticket) => provider.confirm(&ticket).await,
                        None => Ok(Propagation::InSync),
                    }
                };
                (false, Box::pin(async move { Done::Confirmed(confirm.await) }))
            }
            Task::Survey(share) => {
                let survey = self.ports.servers.survey(share, self.identity.queries);
                (false, Box::pin(async move { Done::Surveyed(survey.await) }))
            }
            Task::AskBefore(index) => (false, self.ask_before(index)),
            Task::AskToFinish(looks) => (false, self.ask_to_finish(looks)),
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

    /// Counters first: they answer at once.
    fn ask_to_finish(&self, looks: LastLooks) -> BoxFuture<'static, Done> {
        let (meters, outside) = (self.ports.meters.clone(), self.ports.outside.clone());
        let still_below = self.machine.rules.still_below;
        Box::pin(async move {
            if looks.counters {
                let traffic = match meters.traffic() {
                    Some(traffic) => traffic.await,
                    None => Traffic::default(),
                };
                if let Some(why) = not_still(traffic, still_below) {
                    return Done::Answered(Event::Stop("blue", why));
                }
            }
            let drift = if looks.drift { outside.drift().await } else { Drift::Unwatched };
            Done::Answered(match undrifted(drift) {
                Some(Event::Stop(code, text)) => Event::Stop(
                    code,
                    format!(
                        "{text} (\"kongferry migrate\" applies what is new on blue; --accept-drift finishes with what stands on green)"
                    ),
                ),
                _ => Event::Yes,
            })
        })
    }

    pub(super) fn finish_task(&mut self, task: Task, done: Done) {
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

    pub(super) fn finish_overtaken(&mut self, done: Done) {
        let text = match done {
            Done::Applied(_, Ok(_)) => "a write that was overtaken by the rollback has been carried out",
            _ => "a write that was overtaken by the rollback has ended",
        };
        self.note(What::Result { written: matches!(done, Done::Applied(_, Ok(_))), text: text.to_owned() });
        // Whatever it did, the rollback's own look finds it.
        self.look_due = self.ports.clock.now();
    }

    fn confirmed(&mut self, progress: DnsResult<Propagation>, now: Time) {
        let event = match progress {
            Ok(Propagation::InSync) => Event::InSync,
            Ok(Propagation::Pending) => {
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

/// Why blue cannot be taken for still. No number is none.
fn not_still(traffic: Traffic, still_below: f64) -> Option<String> {
    match traffic.blue {
        None => Some("blue's requests cannot be counted (--force finishes all the same)".to_owned()),
        Some(rate) if rate > still_below => Some(format!(
            "blue still gets {rate:.2} requests a second, and {still_below} are taken for still (--force finishes all the same)"
        )),
        Some(_) => None,
    }
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
