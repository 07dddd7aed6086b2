//! Why a request to blue failed.

use std::error::Error as StdError;
use std::time::Duration;

use scylla::errors::{
    ConnectionPoolError, DbError, ExecutionError, PrepareError, RequestAttemptError, RequestError,
};

/// Why a request to blue failed, unwrapped from the driver's error types.
#[derive(Debug)]
pub struct ReadFailure(pub(super) Cause);

#[derive(Debug)]
pub(super) enum Cause {
    /// The last attempt was answered with an error, or its connection broke.
    Attempt(RequestAttemptError),
    /// The request timed out on our side, after this time.
    Timeout(Duration),
    NoConnection(ConnectionPoolError),
    Other(Box<dyn StdError + Send + Sync>),
}

impl ReadFailure {
    /// A failure without a special meaning, such as a response that cannot be decoded.
    pub(super) fn other(error: impl StdError + Send + Sync + 'static) -> Self {
        ReadFailure(Cause::Other(Box::new(error)))
    }

    /// Whether the same request may succeed a little later. A missing replica is not waited for: the operator has to
    /// choose between bringing it back and a lower consistency.
    pub(super) fn is_transient(&self) -> bool {
        match &self.0 {
            Cause::Timeout(_) | Cause::NoConnection(_) => true,
            Cause::Attempt(RequestAttemptError::DbError(error, _)) => matches!(
                error,
                DbError::Overloaded
                    | DbError::IsBootstrapping
                    | DbError::ReadTimeout { .. }
                    | DbError::ServerError
            ),
            Cause::Attempt(error) => matches!(error, RequestAttemptError::BrokenConnectionError(_)),
            Cause::Other(_) => false,
        }
    }
}

impl From<RequestAttemptError> for ReadFailure {
    fn from(error: RequestAttemptError) -> Self {
        ReadFailure(Cause::Attempt(error))
    }
}

impl From<ConnectionPoolError> for ReadFailure {
    fn from(error: ConnectionPoolError) -> Self {
        ReadFailure(Cause::NoConnection(error))
    }
}

impl From<PrepareError> for ReadFailure {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::ConnectionPoolError(e) => e.into(),
            PrepareError::AllAttemptsFailed { first_attempt } => first_attempt.into(),
            other => ReadFailure::other(other),
        }
    }
}

impl From<RequestError> for ReadFailure {
    fn from(error: RequestError) -> Self {
        error.into_execution_error().into()
    }
}

impl From<ExecutionError> for ReadFailure {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::LastAttemptError(e) => e.into(),
            ExecutionError::PrepareError(e) => e.into(),
            ExecutionError::ConnectionPoolError(e) => e.into(),
            ExecutionError::RequestTimeout(waited) => ReadFailure(Cause::Timeout(waited)),
            other => ReadFailure::other(other),
        }
    }
}
