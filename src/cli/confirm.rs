//! The question before something is written, and where it can be asked.

use std::io::{BufRead, IsTerminal, Write};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};

/// Refuses to begin where a question would have to be asked and cannot be.
pub(super) fn require_terminal(yes: bool) -> Result<()> {
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::usage("confirmation required, but standard input is not a terminal: pass --yes"))
}

/// Asks a yes-or-no question on stderr.
pub(super) fn ask(question: &str) -> BoxFuture<'static, Result<bool>> {
    anstream::eprint!("\n{question} [y/N] ");
    read_reply()
}

/// Reads the reply to a question that was just printed.
///
/// The reply is read on a thread of its own, because a blocking read cannot be cancelled and Ctrl-C must not wait for
/// Enter.
pub(super) fn read_reply() -> BoxFuture<'static, Result<bool>> {
    let (sender, reply) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut line));
        // The receiver is dropped when the command was interrupted.
        let _ = sender.send(read.map(|_| line));
    });
    Box::pin(async move {
        let read = reply.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        let line = read.map_err(|e| Error::new(Kind::Io, "cannot ask on this terminal").source(e))?;
        Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    })
}
