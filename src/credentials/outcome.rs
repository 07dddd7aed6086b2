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
    /// The RBAC user is disabled.
    Disabled,
    /// The status of the admin forbids the login.
    NotApproved,
    /// Part of an admin is missing.
    BrokenChain,
    /// The consumer, or the client of a token, is missing.
    OwnerMissing,
    NoSecret,
    /// The stored hash has a form that Kong does not accept.
    HashNotAccepted,
    /// The secret is correct, but the digits stored beside it, by which Kong finds it, are those of another one.
    WrongIdent,
    /// Accepted where Kong runs in FIPS mode, and only there.
    FipsMode,
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
    /// Whether an operator must read the message of an accepted secret too.
    #[serde(skip)]
    pub(crate) has_remark: bool,
}

impl CheckOutcome {
    pub(super) fn accepted(message: impl Into<String>) -> CheckOutcome {
        CheckOutcome::new(Some(true), OutcomeReason::Accepted, message.into())
    }

    /// Accepted, and the message says what else an operator must know.
    pub(super) fn accepted_with_remark(message: impl Into<String>) -> CheckOutcome {
        CheckOutcome { has_remark: true, ..CheckOutcome::accepted(message) }
    }

    pub(super) fn rejected(reason: OutcomeReason, message: impl Into<String>) -> CheckOutcome {
        CheckOutcome::new(Some(false), reason, message.into())
    }

    pub(super) fn undecided(reason: OutcomeReason, message: impl Into<String>) -> CheckOutcome {
        CheckOutcome::new(None, reason, message.into())
    }

    fn new(accepted: Option<bool>, reason: OutcomeReason, message: String) -> CheckOutcome {
        CheckOutcome { accepted, reason, message, has_remark: false }
    }

    /// Why a secret of this kind is not checked on this side.
    pub(super) fn no_table(side: &str, table: &str) -> CheckOutcome {
        let message = format!("Kong on {side} has no table \"{table}\".");
        CheckOutcome::rejected(OutcomeReason::NoTable, message)
    }

    pub(super) fn expired() -> CheckOutcome {
        CheckOutcome::rejected(OutcomeReason::Expired, "The secret is correct, but it has expired.")
    }

    pub(super) fn encrypted() -> CheckOutcome {
        let message =
            "The stored value is encrypted by the keyring; only Kong with the same keyring can check it.";
        CheckOutcome::undecided(OutcomeReason::Encrypted, message)
    }

    pub(super) fn fips_mode() -> CheckOutcome {
        let message = "The secret is correct, but it is hashed as in FIPS mode: Kong accepts it only where it runs with fips = on.";
        CheckOutcome::undecided(OutcomeReason::FipsMode, message)
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
