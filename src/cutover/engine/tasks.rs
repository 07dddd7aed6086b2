//! The current task: how it starts, and which event its result is.

use futures::future::BoxFuture;

use super::{Engine, TaskResult, write};
use crate::cutover::call::CallReply;
use crate::cutover::clock::Time;
use crate::cutover::environment::{DriftStatus, Hook, NameServerReport, NameServerState};
use crate::cutover::gates::measurement::Traffic;
use crate::cutover::journal::JournalEvent;
use crate::cutover::machine::{Event, FinishChecks, Task};
use crate::cutover::state::Goal;
use crate::dns::{DnsResult, Propagation, Share};

impl Engine {
    pub(super) fn begin(&mut self, task: Task) -> (bool, BoxFuture<'static, TaskResult>) {
        match task {
            Task::Wait => (false, Box::pin(std::future::pending())),
            Task::Write(_) => (false, self.read_before_write()),
            Task::Confirm => {
                let (provider, ticket) = (self.environment.provider.clone(), self.ticket.clone());
                let confirm = async move {
                    match ticket {
                        Some(ticket) => provider.confirm(&ticket).await,
                        None => Ok(Propagation::InSync),
                    }
                };
                (false, Box::pin(async move { TaskResult::Confirmed(confirm.await) }))
            }
            Task::QueryNameServers(share) => {
                let survey = self.environment.name_servers.query(share, self.identity.queries);
                (false, Box::pin(async move { TaskResult::Surveyed(survey.await) }))
            }
            Task::CheckBeforeStep(index) => (false, self.check_before_step(index)),
            Task::CheckBeforeFinish(checks) => (false, self.check_before_finish(checks)),
            Task::CallPostStepHook(_) => {
                let asked = self.environment.integrations.hook(Hook::PostStep, self.hook_body("post_step"));
                (false, Box::pin(async move { TaskResult::Answered(required(Hook::PostStep, asked.await)) }))
            }
        }
    }

    /// Drift first: a hook is not asked about a step that cannot begin.
    fn check_before_step(&self, index: usize) -> BoxFuture<'static, TaskResult> {
        let integrations = self.environment.integrations.clone();
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
            if let Some(stop) = drift_block(integrations.drift().await) {
                return TaskResult::Answered(stop);
            }
            for hook in confirm {
                match integrations.hook(hook, body.clone()).await {
                    None | Some(CallReply::Success(_)) => {}
                    Some(CallReply::Failure(text) | CallReply::NoReply(text)) => {
                        let text = format!("{} has not confirmed yet: {text}", hook.as_str());
                        return TaskResult::Answered(Event::HookPending(text));
                    }
                }
            }
            TaskResult::Answered(required(Hook::PreStep, integrations.hook(Hook::PreStep, body).await))
        })
    }

    /// Counters first: they answer at once.
    fn check_before_finish(&self, checks: FinishChecks) -> BoxFuture<'static, TaskResult> {
        let (health, integrations) = (self.environment.health.clone(), self.environment.integrations.clone());
        let idle_below = self.machine.rules.idle_below;
        Box::pin(async move {
            if checks.counters {
                let traffic = match health.read_traffic() {
                    Some(traffic) => traffic.await,
                    None => Traffic::default(),
                };
                if let Some(reason) = busy_reason(traffic, idle_below) {
                    return TaskResult::Answered(Event::Blocked("blue", reason));
                }
            }
            let drift = if checks.drift { integrations.drift().await } else { DriftStatus::NotChecked };
            TaskResult::Answered(match drift_block(drift) {
                Some(Event::Blocked(code, text)) => Event::Blocked(
                    code,
                    format!(
                        "{text} (\"kongferry migrate\" applies what is new on blue; --accept-drift finishes with green as it is)"
                    ),
                ),
                _ => Event::ChecksPassed,
            })
        })
    }

    pub(super) fn finish_task(&mut self, task: Task, done: TaskResult) {
        let now = self.environment.clock.now();
        // The result of a task for an earlier state is no answer for this one.
        let current = self.machine.task(now) == task;
        match done {
            TaskResult::Read(observed) if current => self.write(task, observed, now),
            TaskResult::Applied(change, result) => self.on_applied(task, *change, result, now),
            TaskResult::Reread(change, reason, observed) => {
                self.on_reread(task, *change, reason, observed, now);
            }
            TaskResult::Confirmed(progress) if current => self.on_confirmed(progress, now),
            TaskResult::Surveyed(survey) if current => self.on_name_servers_answered(survey, now),
            TaskResult::Answered(event) if current => self.handle_event(event, now),
            _ => {}
        }
    }

    pub(super) fn finish_overtaken(&mut self, done: TaskResult) {
        let text = match done {
            TaskResult::Applied(_, Ok(_)) => {
                "a write that was overtaken by the rollback has been carried out"
            }
            _ => "a write that was overtaken by the rollback has ended",
        };
        self.record(JournalEvent::Result {
            written: matches!(done, TaskResult::Applied(_, Ok(_))),
            text: text.to_owned(),
        });
        // Whatever it wrote, the next check of the provider reads it.
        self.next_check = self.environment.clock.now();
    }

    fn on_confirmed(&mut self, progress: DnsResult<Propagation>, now: Time) {
        let event = match progress {
            Ok(Propagation::InSync) => Event::InSync,
            Ok(Propagation::Pending) => {
                Event::RetryLater("The provider has not yet told all of its servers".to_owned())
            }
            Err(error) => write::later(&error),
        };
        self.handle_event(event, now);
    }

    fn on_name_servers_answered(&mut self, survey: NameServerReport, now: Time) {
        self.by_queries = survey.green.map(|share| share * 100.0);
        let event = match survey.answers {
            NameServerState::Agree => Event::NameServersAgree,
            NameServerState::Pending(text) => Event::RetryLater(text),
            NameServerState::Wrong(text) => Event::WrongAnswer(text),
        };
        self.handle_event(event, now);
    }
}

/// Why blue does not count as idle; without a number it does not.
fn busy_reason(traffic: Traffic, idle_below: f64) -> Option<String> {
    match traffic.blue {
        None => Some("blue's requests cannot be counted (--force finishes anyway)".to_owned()),
        Some(rate) if rate > idle_below => Some(format!(
            "blue receives {rate:.2} requests a second, more than the idle limit of {idle_below} (--force finishes anyway)"
        )),
        Some(_) => None,
    }
}

/// What speaks against going on, if rows were changed since they were moved.
fn drift_block(drift: DriftStatus) -> Option<Event> {
    match drift {
        DriftStatus::Changed(text) | DriftStatus::Unknown(text) => Some(Event::Blocked("drift", text)),
        DriftStatus::None | DriftStatus::NotChecked => None,
    }
}

/// A hook that must succeed; anything else pauses for the operator.
fn required(hook: Hook, reply: Option<CallReply>) -> Event {
    match reply {
        None | Some(CallReply::Success(_)) => Event::ChecksPassed,
        Some(CallReply::Failure(text)) => {
            Event::Blocked("hook", format!("{} refuses: {text}", hook.as_str()))
        }
        Some(CallReply::NoReply(text)) => {
            Event::Blocked("hook", format!("{} does not answer: {text}", hook.as_str()))
        }
    }
}
