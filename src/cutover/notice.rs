//! What a cutover reports: to its journal, its operators, hooks and notifications.

use serde::{Deserialize, Serialize};

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// How much it weighs.
    pub level: Level,
    /// A stable word.
    pub code: String,
    /// A sentence without a full stop.
    pub text: String,
}

/// How much something that happened weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It went as it should.
    #[default]
    Info,
    /// Somebody should look.
    Warn,
    /// It went back, or cannot go on.
    Error,
}
