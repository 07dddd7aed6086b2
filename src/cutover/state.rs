//! Where a cutover stands, in the words that the journal, the marker and people use.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::step::Step;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// New resolutions are being moved.
    Moving {
        /// Where to.
        #[serde(flatten)]
        goal: Goal,
        /// How far that is.
        stage: Stage,
    },
    /// The time to live is short everywhere; nothing goes to green yet.
    Ready,
    /// All new resolutions go to green; blue is watched until it is still.
    Draining,
    /// Blue has been still for long enough.
    Drained,
    /// Records and time to live are as they shall stay.
    Finished,
    /// All new resolutions go to blue again.
    RolledBack,
}

/// Where new resolutions are being moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "goal", content = "index")]
pub enum Goal {
    /// Nowhere yet: the time to live is lowered, and the old one waited out.
    Lower,
    /// To the share of a step, counted from 0.
    Step(usize),
    /// Back to blue.
    Back,
    /// To an ordinary record of one side with the time to live of before.
    Finish,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Drift is looked for, hooks are asked.
    Asking,
    /// The provider is written to.
    Applying,
    /// The provider has not yet confirmed.
    Propagating,
    /// Every name server is asked, then one time to live waited out.
    Settling,
    /// It is watched. For a rollback: until green is still.
    Baking,
    /// The hook after the step is asked.
    Leaving,
    /// A person has to say "promote".
    Approval,
}

impl Phase {
    /// A move at its beginning.
    pub fn toward(goal: Goal) -> Phase {
        Phase::Moving { goal, stage: Stage::Asking }
    }

    /// The step that it belongs to.
    pub fn step(self) -> Option<usize> {
        match self {
            Phase::Moving { goal: Goal::Step(index), .. } => Some(index),
            _ => None,
        }
    }

    /// The stage of a move.
    pub fn stage(self) -> Option<Stage> {
        match self {
            Phase::Moving { stage, .. } => Some(stage),
            _ => None,
        }
    }

    /// Whether the run is over, or waits for nothing but a person's `finish` or `retry`.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Drained | Phase::Finished | Phase::RolledBack)
    }

    /// Whether new resolutions are on their way back.
    pub fn is_going_back(self) -> bool {
        matches!(self, Phase::Moving { goal: Goal::Back, .. })
    }

    /// The stable word for scripts, notifications and the marker's neighbours.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Moving { goal: Goal::Lower, .. } => "ttl_lowering",
            Phase::Moving { goal: Goal::Step(_), .. } => "step",
            Phase::Moving { goal: Goal::Back, .. } => "rolling_back",
            Phase::Moving { goal: Goal::Finish, .. } => "finishing",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Drained => "drained",
            Phase::Finished => "finished",
            Phase::RolledBack => "rolled_back",
        }
    }

    /// For people: "step 2 of 5 (5 %), baking".
    pub fn sentence(self, steps: &[Step]) -> String {
        let Phase::Moving { goal, stage } = self else {
            return match self {
                Phase::Ready => "ready, nothing goes to green yet".to_owned(),
                Phase::Draining => "100 % on green, waiting for blue to fall still".to_owned(),
                Phase::Drained => "drained – \"kongferry cutover finish\" restores the TTL".to_owned(),
                Phase::Finished => "finished".to_owned(),
                _ => "rolled back, new resolutions go to blue".to_owned(),
            };
        };
        match goal {
            Goal::Lower if stage == Stage::Baking => "waiting until the old TTL has run out".to_owned(),
            Goal::Lower => format!("lowering the TTL, {stage}"),
            Goal::Step(index) => {
                let share = steps.get(index).map(|step| step.share).unwrap_or_default();
                format!("step {} of {} ({share}), {stage}", index + 1, steps.len())
            }
            Goal::Back if stage == Stage::Baking => {
                "rolling back, waiting for green to fall still".to_owned()
            }
            Goal::Back => format!("rolling back, {stage}"),
            Goal::Finish => format!("finishing, {stage}"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Asking => "checking",
            Stage::Applying => "applying",
            Stage::Propagating => "propagating",
            Stage::Settling => "settling",
            Stage::Baking => "baking",
            Stage::Leaving => "asking the hook after it",
            Stage::Approval => "waiting for approval",
        })
    }
}

/// Why nothing goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// A stable word: `operator`, `gate`, `drift`, `hook`, `provider`, `changed`, `name_servers`, `undone`.
    pub code: String,
    /// For people, a sentence without a full stop.
    pub reason: String,
}

/// What a person can tell a running cutover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// Stay where you are.
    Pause,
    /// Go on.
    Resume,
    /// End this step now; `full` goes straight to 100 %.
    Promote {
        /// Straight to 100 %.
        #[serde(default)]
        full: bool,
    },
    /// Begin this step again; after a rollback: begin anew.
    Retry,
    /// One step back.
    Undo,
    /// All new resolutions to blue.
    Rollback {
        /// Why, in the operator's words.
        #[serde(default)]
        reason: String,
    },
    /// Make the records what they shall stay.
    Finish {
        /// Before blue has been still for long enough.
        #[serde(default)]
        force: bool,
        /// Although people have changed blue or green since the last run.
        #[serde(default)]
        accept_drift: bool,
    },
    /// Stop watching and leave the records as they are.
    Leave,
}

impl Command {
    /// The word of the command line.
    pub fn word(&self) -> &'static str {
        match self {
            Command::Pause => "pause",
            Command::Resume => "resume",
            Command::Promote { full: false } => "promote",
            Command::Promote { full: true } => "promote --full",
            Command::Retry => "retry",
            Command::Undo => "undo",
            Command::Rollback { .. } => "rollback",
            Command::Finish { .. } => "finish",
            Command::Leave => "leave",
        }
    }
}
