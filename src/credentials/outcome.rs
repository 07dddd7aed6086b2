//! The outcome of one check: a code for scripts and a sentence for operators.

use serde::Serialize;

/// Why a secret is accepted, or not. The codes are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutcomeReason {
    Accepted,
    WrongSecret,
    UnknownUser,
    UnknownSecret,
    UnknownWorkspace,
    /// The secret is correct in another workspace.
    OtherWorkspace,
    /// The secret is correct for another user.
    OtherUser,
    Expired,
    /// The RBAC user is disabled, or the admin may not use a token.
    Disabled,
    /// Part of an admin is missing.
    BrokenChain,
    /// The consumer, or the client of a token, is missing.
    OwnerMissing,
    NoSecret,
    /// The stored hash has a form that Kong does not accept.
    HashNotAccepted,
    /// The stored value is encrypted by the keyring, so the check needs Kong.
    Encrypted,
    /// The stored or the given secret has a form that cannot be checked offline.
    Undecidable,
    /// This Kong has no table for this kind.
    NoTable,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CheckOutcome {
    /// Whether Kong would accept the secret; `None` where that cannot be decided offline.
    pub(crate) accepted: Option<bool>,
    pub(crate) reason: OutcomeReason,
    /// Never contains the secret.
    pub(crate) message: String,
}

impl CheckOutcome {
    pub(super) fn accepted(message: impl Into<String>) -> CheckOutcome {
        CheckOutcome { accepted: Some(true), reason: OutcomeReason::Accepted, message: message.into() }
    }

    pub(super) fn rejected(reason: OutcomeReason, message: impl Into<String>) -> CheckOutcome {
        CheckOutcome { accepted: Some(false), reason, message: message.into() }
    }

    pub(super) fn undecided(reason: OutcomeReason, message: impl Into<String>) -> CheckOutcome {
        CheckOutcome { accepted: None, reason, message: message.into() }
    }

    pub(super) fn encrypted() -> CheckOutcome {
        let message =
            "The stored value is encrypted by the keyring; only Kong with the same keyring can check it.";
        CheckOutcome::undecided(OutcomeReason::Encrypted, message)
    }

    /// The outcome of a comparison with the stored secret.
    pub(super) fn compared(is_equal: bool) -> CheckOutcome {
        if is_equal {
            CheckOutcome::accepted("The secret matches the stored one.")
        } else {
            CheckOutcome::rejected(OutcomeReason::WrongSecret, "The secret does not match the stored one.")
        }
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted == Some(true)
    }
}
