//! Which faults are tried again, and which stop a run.
//!
//! The table is narrow on purpose: reading changes nothing and may be repeated; an apply is one transaction and may be
//! repeated where PostgreSQL rolled it back in favor of another session. Everything else stops the run with a remedy,
//! and green is unchanged. docs/incremental.md has the same table; a test keeps the two together.

use std::time::Duration;

use crate::error::Error;

/// How often an apply is tried while another session holds a lock.
const ATTEMPTS: u32 = 8;

/// What to do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Wait a little longer each time, and try again.
    Retry,
    /// Stop, and say what to do.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub side: &'static str,
    /// What happens, in a few words.
    pub what: &'static str,
    /// PostgreSQL's codes, or the first two characters of a class of them.
    pub sqlstates: &'static [&'static str],
    pub directive: Directive,
    pub remedy: &'static str,
}

pub const FAULTS: &[Fault] = &[
    Fault {
        side: "blue",
        what: "a node is overloaded, restarts, or times out",
        sqlstates: &[],
        directive: Directive::Retry,
        remedy: "Wait about a minute: kongferry reads again. If it stops, check the nodes with nodetool status and run the command again.",
    },
    Fault {
        side: "blue",
        what: "too few replicas answer for the requested consistency",
        sqlstates: &[],
        directive: Directive::Stop,
        remedy: "Restart the replica, or set a lower consistency with consistency=… in the address of blue.",
    },
    Fault {
        side: "blue",
        what: "a table or column changes while it is read",
        sqlstates: &[],
        directive: Directive::Stop,
        remedy: "Do not run Kong's migrations during a run; run the command again.",
    },
    Fault {
        side: "green",
        what: "a lock times out, or two transactions deadlock",
        sqlstates: &["55P03", "40P01", "40001"],
        directive: Directive::Retry,
        remedy: "Wait: kongferry tries up to eight times. If it stops, end the session that holds the lock and run the command again.",
    },
    Fault {
        side: "green",
        what: "the server restarts, or the connection is lost",
        sqlstates: &["57P01", "57P02", "57P03", "08"],
        directive: Directive::Stop,
        remedy: "Run the command again once green answers: the stage is dropped, and green is unchanged or complete.",
    },
    Fault {
        side: "green",
        what: "a statement runs longer than the server allows",
        sqlstates: &["57014"],
        directive: Directive::Stop,
        remedy: "Run the command again. kongferry disables statement_timeout for its sessions, so another session canceled the statement.",
    },
    Fault {
        side: "green",
        what: "the disk is full",
        sqlstates: &["53100"],
        directive: Directive::Stop,
        remedy: "Free disk space (inspect prints how much is needed) and run the command again; the stage is dropped.",
    },
    Fault {
        side: "green",
        what: "memory or connections run out",
        sqlstates: &["53"],
        directive: Directive::Stop,
        remedy: "Raise the limit or stop other clients, and run the command again.",
    },
    Fault {
        side: "green",
        what: "Kong's schema changes during the run",
        sqlstates: &["42P01", "42703"],
        directive: Directive::Stop,
        remedy: "Do not run Kong's migrations during a run; run the command again.",
    },
];

/// The fault that a code of PostgreSQL's stands for.
pub fn of_sqlstate(code: &str) -> Option<&'static Fault> {
    let exact = FAULTS.iter().find(|fault| fault.sqlstates.contains(&code));
    exact.or_else(|| {
        FAULTS.iter().find(|fault| code.get(..2).is_some_and(|class| fault.sqlstates.contains(&class)))
    })
}

/// Adds the remedy of the table to an error, unless the error has a more specific one.
pub fn with_remedy(error: Error) -> Error {
    let fault = error.sqlstate().and_then(|code| {
        let fault = of_sqlstate(code)?;
        (fault.sqlstates.contains(&code) || error.remedy_text().is_none()).then_some(fault)
    });
    match fault {
        Some(fault) => error.remedy(fault.remedy),
        None => error,
    }
}

/// Waits before an apply is tried again; nothing where it must not be.
pub async fn wait_to_apply_again(error: &Error, attempt: u32) -> Option<()> {
    let fault = error.sqlstate().and_then(of_sqlstate)?;
    if fault.directive != Directive::Retry || attempt >= ATTEMPTS {
        return None;
    }
    tracing::warn!("{error}; trying again ({attempt} of {ATTEMPTS}).");
    tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(attempt.min(5))).await;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_for_another_session_is_tried_again() {
        for (code, directive) in [
            ("55P03", Directive::Retry),
            ("40P01", Directive::Retry),
            ("57P01", Directive::Stop),
            ("08006", Directive::Stop),
            ("53100", Directive::Stop),
            ("53300", Directive::Stop),
            ("57014", Directive::Stop),
        ] {
            assert_eq!(of_sqlstate(code).map(|fault| fault.directive), Some(directive), "{code}");
        }
        assert_eq!(of_sqlstate("23505"), None);
        assert_eq!(of_sqlstate(""), None);
    }

    #[test]
    fn every_fault_of_green_ends_with_its_remedy() {
        let remedy_of = |code: &str| {
            let error = Error::new(crate::error::Kind::Server, "it failed").with_sqlstate(code);
            with_remedy(error).remedy_text().map(str::to_owned)
        };
        for fault in FAULTS {
            for code in fault.sqlstates {
                let code = if code.len() == 2 { format!("{code}000") } else { (*code).to_owned() };
                assert_eq!(remedy_of(&code).as_deref(), Some(fault.remedy), "{code}");
            }
        }
        assert_eq!(remedy_of("23505"), None);
        // What is known better where it happened stays.
        let pooler =
            Error::new(crate::error::Kind::Server, "it failed").with_sqlstate("08P01").remedy("Another.");
        assert_eq!(with_remedy(pooler).remedy_text(), Some("Another."));
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let page = include_str!("../../docs/incremental.md");
        for fault in FAULTS {
            let line = format!("| {} | {} |", fault.side, fault.what);
            assert!(page.contains(&line), "docs/incremental.md lacks {line}");
            assert!(
                page.contains(&format!("| {} |", fault.remedy)),
                "docs/incremental.md lacks {}",
                fault.remedy
            );
        }
    }
}
