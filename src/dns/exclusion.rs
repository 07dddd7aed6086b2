//! How a write is protected from a second writer, for each kind of [`Exclusion`](super::Exclusion).

use super::{
    Change, DnsError, DnsErrorKind, DnsProvider, DnsResult, Observed, Precondition, Ticket, WriteOutcome,
};

/// Sends a write to a provider without compare-and-swap: reads before it and after it.
pub(super) async fn read_back(
    provider: &dyn DnsProvider,
    change: &Change,
    write: impl Future<Output = DnsResult<Ticket>> + Send,
) -> DnsResult<Ticket> {
    if change.desired.precondition == Precondition::Overwrite {
        return write.await;
    }
    let now = provider.read(&change.target).await?;
    match change.outcome(&now) {
        WriteOutcome::Applied => return Ok(Ticket::default()),
        WriteOutcome::NotApplied if now.version == change.before.version => {}
        WriteOutcome::NotApplied | WriteOutcome::Conflicting => return Err(conflict(provider, &now)),
    }
    let ticket = write.await?;
    let now = provider.read(&change.target).await.map_err(|mut error| {
        error.kind = DnsErrorKind::Transient { may_be_applied: true };
        error
    })?;
    if change.outcome(&now) == WriteOutcome::Applied { Ok(ticket) } else { Err(conflict(provider, &now)) }
}

/// Explains a failed compare-and-swap: this change was carried out before, another client wrote, or neither.
pub(super) async fn explain_refusal(
    provider: &dyn DnsProvider,
    change: &Change,
    refusal: DnsError,
) -> DnsResult<Ticket> {
    let now = provider.read(&change.target).await?;
    if change.outcome(&now) == WriteOutcome::Applied {
        return Ok(Ticket::default());
    }
    if now.version == change.before.version {
        return Err(refusal);
    }
    Err(DnsError { answer: refusal.answer, ..conflict(provider, &now) })
}

fn conflict(provider: &dyn DnsProvider, now: &Observed) -> DnsError {
    let writer = now.marker.as_ref().map(|marker| format!(" by {} at {}", marker.owner, marker.written_at));
    let message = format!("the records were changed{} after kongferry read them", writer.unwrap_or_default());
    DnsError::new(provider.name(), DnsErrorKind::Conflict, message)
}
