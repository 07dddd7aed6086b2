//! The current task: how it starts, and which event its result is.

use futures::future::BoxFuture;

use super::write::later;
use super::{Engine, TaskResult};
use crate::cutover::call::CallReply;
use crate::cutover::environment::{DriftStatus, Hook, NameServerReport, NameServerState};
use crate::cutover::gates::measurement::Traffic;
use crate::cutover::journal::JournalEvent;
use crate::cutover::machine::{Event, FinishChecks, Task};
use crate::cutover::state::Goal;
use crate::dns::{DnsResult, Propagation, Share};

impl Engine {
    pub(super) fn start_task(&mut self, task: Task) -> BoxFuture<'static, TaskResult> {
        let environment = &self.environment;
        match task {
            Task::Wait => Box::pin(std::future::pending()),
            Task::Write(_) => self.read_before_write(),
            Task::Confirm => {
                let (provider, ticket) = (environment.provider.clone(), self.ticket.clone());
                Box::pin(async move {
                    TaskResult::Confirmed(match ticket {
                        Some(ticket) => provider.confirm(&ticket).await,
                        None => Ok(Propagation::InSync),
                    })
                })
            }
            Task::QueryNameServers(share) => {
                let query = environment.name_servers.clone().query(share, self.identity.queries);
                Box::pin(async move { TaskResult::Queried(query.await) })
            }
            Task::CheckBeforeStep(index) => self.check_before_step(index),
            Task::CheckBeforeFinish(checks) => self.check_before_finish(checks),
            Task::CallPostStepHook(_) => {
                let hook = environment.integrations.clone().hook(Hook::PostStep, self.hook_body("post_step"));
                Box::pin(async move { TaskResult::Checked(required(Hook::PostStep, hook.await)) })
            }
        }
    }

    /// Drift first: no hook is called for a step that cannot begin.
    fn check_before_step(&self, index: usize) -> BoxFuture<'static, TaskResult> {
        let integrations = self.environment.integrations.clone();
        let mut confirmations = Vec::new();
        if index == 0 {
            confirmations.push(Hook::ConfirmRollout);
        }
        if self.machine.rules.share_of(Goal::Step(index)) == Share::GREEN {
            confirmations.push(Hook::ConfirmPromotion);
        }
        let body = self.hook_body("before_step");
        Box::pin(async move {
            if let Some(blocked) = drift_block(integrations.clone().drift().await) {
                return TaskResult::Checked(blocked);
            }
            for hook in confirmations {
                match integrations.clone().hook(hook, body.clone()).await {
                    None | Some(CallReply::Success(_)) => {}
                    Some(CallReply::Failure(text) | CallReply::NoReply(text)) => {
                        let text = format!("The hook {} has not confirmed yet: {text}", hook.as_str());
                        return TaskResult::Checked(Event::HookPending(text));
                    }
                }
            }
            TaskResult::Checked(required(Hook::PreStep, integrations.hook(Hook::PreStep, body).await))
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
                    return TaskResult::Checked(Event::Blocked("blue", reason));
                }
            }
            let drift = if checks.drift { integrations.drift().await } else { DriftStatus::NotChecked };
            TaskResult::Checked(match drift_block(drift) {
                Some(Event::Blocked(code, text)) => Event::Blocked(
                    code,
                    format!(
                        "{text} (\"kongferry migrate\" applies changes on blue; --accept-drift finishes with green as it is)"
                    ),
                ),
                _ => Event::ChecksPassed,
            })
        })
    }

    pub(super) fn finish_task(&mut self, task: Task, result: TaskResult) {
        // The result of a task for an earlier state does not count for the present one.
        let is_current = self.machine.task(self.now()) == task;
        match result {
            TaskResult::Read(observed) if is_current => self.write(task, observed),
            TaskResult::Applied(change, result) => self.on_applied(task, *change, result),
            TaskResult::Reread(change, reason, observed) => self.on_reread(task, *change, reason, observed),
            TaskResult::Confirmed(progress) if is_current => self.on_confirmed(progress),
            TaskResult::Queried(report) if is_current => self.on_name_servers_answered(report),
            TaskResult::Checked(event) if is_current => self.handle_event(event),
            _ => {}
        }
    }

    pub(super) fn finish_overtaken(&mut self, result: &TaskResult) {
        let written = matches!(result, TaskResult::Applied(_, Ok(_)));
        let end = if written { "was applied" } else { "has ended" };
        let text = format!("a write that the rollback overtook {end}");
        self.record(JournalEvent::Result { written, text });
        // The next check of the provider reads whatever it wrote.
        self.next_check = self.now();
    }

    fn on_confirmed(&mut self, progress: DnsResult<Propagation>) {
        self.handle_event(match progress {
            Ok(Propagation::InSync) => Event::InSync,
            Ok(Propagation::Pending) => {
                Event::RetryLater("The provider has not yet updated all of its name servers".to_owned())
            }
            Err(error) => later(&error),
        });
    }

    fn on_name_servers_answered(&mut self, report: NameServerReport) {
        self.by_queries = report.green.map(|share| share * 100.0);
        self.handle_event(match report.answers {
            NameServerState::Agree => Event::NameServersAgree,
            NameServerState::Pending(text) => Event::RetryLater(text),
            NameServerState::Wrong(text) => Event::WrongAnswer(text),
        });
    }
}

/// Why blue does not count as idle; without a number it does not.
fn busy_reason(traffic: Traffic, idle_below: f64) -> Option<String> {
    match traffic.blue {
        None => Some("blue's requests cannot be counted (--force finishes anyway)".to_owned()),
        Some(rate) if rate > idle_below => Some(format!(
            "blue receives {rate:.2} requests per second, more than the idle limit of {idle_below} (--force finishes anyway)"
        )),
        Some(_) => None,
    }
}

fn drift_block(drift: DriftStatus) -> Option<Event> {
    match drift {
        DriftStatus::Changed(text) | DriftStatus::Unknown(text) => Some(Event::Blocked("drift", text)),
        DriftStatus::None | DriftStatus::NotChecked => None,
    }
}

/// A hook that must succeed; anything else pauses.
fn required(hook: Hook, reply: Option<CallReply>) -> Event {
    let (result, text) = match reply {
        None | Some(CallReply::Success(_)) => return Event::ChecksPassed,
        Some(CallReply::Failure(text)) => ("refused", text),
        Some(CallReply::NoReply(text)) => ("did not answer", text),
    };
    Event::Blocked("hook", format!("the hook {} {result}: {text}", hook.as_str()))
}
