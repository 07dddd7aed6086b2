//! The state of a cutover, as the journal, the marker and messages name it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::step::CutoverStep;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum CutoverPhase {
    Moving {
        #[serde(flatten)]
        goal: Goal,
        #[serde(rename = "stage")]
        activity: Activity,
    },
    /// The old TTL has expired everywhere; nothing goes to green yet.
    #[default]
    Ready,
    /// All new resolutions go to green; traffic on blue is counted until it stops.
    Draining,
    /// Blue has been idle for the drain time.
    Drained,
    /// The records are plain again, with their final TTL.
    Finished,
    /// All new resolutions go to blue again, and green is idle.
    RolledBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "goal", content = "index")]
pub enum Goal {
    /// Lower the TTL and wait for the old one to expire.
    #[serde(rename = "lower")]
    LowerTtl,
    /// Write the share of a step, counted from 0.
    Step(usize),
    #[serde(rename = "back")]
    Rollback,
    /// Write plain records of one side with their final TTL.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Drift is checked, hooks are called.
    #[serde(rename = "asking")]
    Checking,
    Applying,
    /// The provider has not yet confirmed.
    Propagating,
    /// Every name server is queried, then one TTL must expire.
    Settling,
    /// Gates are checked for the bake time. For a rollback: until traffic on green has stopped.
    Baking,
    #[serde(rename = "leaving")]
    PostStepHook,
    Approval,
}

impl CutoverPhase {
    pub fn moving(goal: Goal, activity: Activity) -> CutoverPhase {
        CutoverPhase::Moving { goal, activity }
    }

    /// The first activity on the way to a goal.
    pub fn toward(goal: Goal) -> CutoverPhase {
        CutoverPhase::moving(goal, Activity::Checking)
    }

    pub fn step(self) -> Option<usize> {
        match self {
            CutoverPhase::Moving { goal: Goal::Step(index), .. } => Some(index),
            _ => None,
        }
    }

    pub fn activity(self) -> Option<Activity> {
        match self {
            CutoverPhase::Moving { activity, .. } => Some(activity),
            _ => None,
        }
    }

    /// Whether the run is over, or waits only for an operator's `finish` or `retry`.
    pub fn is_over(self) -> bool {
        matches!(self, CutoverPhase::Drained | CutoverPhase::Finished | CutoverPhase::RolledBack)
    }

    pub fn is_going_back(self) -> bool {
        matches!(self, CutoverPhase::Moving { goal: Goal::Rollback, .. })
    }

    /// The stable word for scripts and notifications.
    pub fn as_str(self) -> &'static str {
        match self {
            CutoverPhase::Moving { goal: Goal::LowerTtl, .. } => "ttl_lowering",
            CutoverPhase::Moving { goal: Goal::Step(_), .. } => "step",
            CutoverPhase::Moving { goal: Goal::Rollback, .. } => "rolling_back",
            CutoverPhase::Moving { goal: Goal::Finish, .. } => "finishing",
            CutoverPhase::Ready => "ready",
            CutoverPhase::Draining => "draining",
            CutoverPhase::Drained => "drained",
            CutoverPhase::Finished => "finished",
            CutoverPhase::RolledBack => "rolled_back",
        }
    }

    /// As text: "step 2 of 5 (5 %), baking".
    pub fn sentence(self, steps: &[CutoverStep]) -> String {
        let CutoverPhase::Moving { goal, activity } = self else {
            return match self {
                CutoverPhase::Ready => "ready, nothing goes to green yet".to_owned(),
                CutoverPhase::Draining => "100 % on green, waiting for traffic on blue to stop".to_owned(),
                CutoverPhase::Drained => "drained; \"kongferry cutover finish\" restores the TTL".to_owned(),
                CutoverPhase::Finished => "finished".to_owned(),
                _ => "rolled back, new resolutions go to blue".to_owned(),
            };
        };
        match goal {
            Goal::LowerTtl if activity == Activity::Baking => "waiting for the old TTL to expire".to_owned(),
            Goal::LowerTtl => format!("lowering the TTL, {activity}"),
            Goal::Step(index) => {
                let share = steps.get(index).map(|step| step.share).unwrap_or_default();
                format!("step {} of {} ({share}), {activity}", index + 1, steps.len())
            }
            Goal::Rollback if activity == Activity::Baking => {
                "rolling back, waiting for traffic on green to stop".to_owned()
            }
            Goal::Rollback => format!("rolling back, {activity}"),
            Goal::Finish => format!("finishing, {activity}"),
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Activity::Checking => "checking",
            Activity::Applying => "applying",
            Activity::Propagating => "propagating",
            Activity::Settling => "settling",
            Activity::Baking => "baking",
            Activity::PostStepHook => "calling the post_step hook",
            Activity::Approval => "waiting for approval",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// A stable word: `operator`, `gate`, `drift`, `hook`, `provider`, `changed`, `name_servers`, `journal`, `undone`.
    pub code: String,
    /// A sentence without a full stop.
    pub reason: String,
}

/// A command to a running cutover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum OperatorCommand {
    Pause,
    Resume,
    /// End this step now; `full` skips to 100 %.
    Promote {
        #[serde(default)]
        full: bool,
    },
    /// Repeat this step; after a rollback: start over.
    Retry,
    Undo,
    Rollback {
        #[serde(default)]
        reason: String,
    },
    Finish {
        /// Even if blue is not idle, or a gate does not pass.
        #[serde(default)]
        force: bool,
        /// Even if blue or green was changed since the last run.
        #[serde(default)]
        accept_drift: bool,
    },
    /// End the process and leave the records as they are.
    Leave,
}

impl OperatorCommand {
    /// The word of the command line.
    pub fn as_str(&self) -> &'static str {
        match self {
            OperatorCommand::Pause => "pause",
            OperatorCommand::Resume => "resume",
            OperatorCommand::Promote { full: false } => "promote",
            OperatorCommand::Promote { full: true } => "promote --full",
            OperatorCommand::Retry => "retry",
            OperatorCommand::Undo => "undo",
            OperatorCommand::Rollback { .. } => "rollback",
            OperatorCommand::Finish { .. } => "finish",
            OperatorCommand::Leave => "leave",
        }
    }
}
