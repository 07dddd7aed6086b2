//! What became of one check: the code that scripts read and the sentence that people read.

use serde::Serialize;

/// Why a secret is accepted, or not. The codes are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is the right one.
    Accepted,
    /// It is not the one that is stored.
    WrongSecret,
    /// There is no such user.
    UnknownUser,
    /// Nobody has this secret.
    UnknownSecret,
    /// There is no such workspace.
    UnknownWorkspace,
    /// It is the right one, in another workspace.
    OtherWorkspace,
    /// It is the right one of another user.
    OtherUser,
    /// Its time has run out.
    Expired,
    /// The RBAC user is switched off, or the admin may not use a token.
    Disabled,
    /// An admin of whom a part is missing.
    BrokenChain,
    /// The consumer, or the client of a token, is missing.
    OwnerMissing,
    /// Nothing is stored that a secret could be compared with.
    NoSecret,
    /// What is stored is a hash of a form that Kong does not accept.
    HashNotAccepted,
    /// What is stored is encrypted by the keyring: cannot be decided here.
    Encrypted,
    /// What is stored, or what was given, is of a form that cannot be decided here.
    Undecidable,
    /// This Kong has no table for this kind.
    NoTable,
}

/// The answer to one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether Kong would accept it; nothing where that cannot be decided offline.
    pub accepted: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// One sentence for people. Never holds the secret.
    pub message: String,
}

impl Verdict {
    /// It opens the door.
    pub fn accepted(message: impl Into<String>) -> Verdict {
        Verdict { accepted: Some(true), reason: Reason::Accepted, message: message.into() }
    }

    /// It does not.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Verdict {
        Verdict { accepted: Some(false), reason, message: message.into() }
    }

    /// Nobody can say without Kong itself.
    pub fn open(reason: Reason, message: impl Into<String>) -> Verdict {
        Verdict { accepted: None, reason, message: message.into() }
    }

    /// What is stored is cipher text.
    pub fn encrypted() -> Verdict {
        Verdict::open(
            Reason::Encrypted,
            "The stored value is encrypted by the keyring; only Kong with the same keyring can tell.",
        )
    }

    /// Right or wrong.
    pub fn of(right: bool) -> Verdict {
        if right {
            Verdict::accepted("It is the one that is stored.")
        } else {
            Verdict::refused(Reason::WrongSecret, "It is not the one that is stored.")
        }
    }

    /// Whether it opens the door.
    pub fn is_accepted(&self) -> bool {
        self.accepted == Some(true)
    }
}
