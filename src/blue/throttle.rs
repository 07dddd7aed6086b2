//! How much is asked of blue at the same time: as much as it answers, less at once when it cannot keep up, more again
//! little by little. Blue carries production traffic while it is read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Answers in a row after which one more request may be under way.
const STEADY: u32 = 64;

/// Requests that fail within so short a time fail for the same reason.
const SAME_MOMENT: Duration = Duration::from_secs(1);

/// Limits the requests that are in flight at the same time.
#[derive(Debug)]
pub(super) struct Throttle {
    permits: Semaphore,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many may be under way now.
    limit: usize,
    /// How many of those under way must not be followed by another.
    surplus: usize,
    /// Answers since the limit was last changed.
    answers: u32,
    slowed: Option<Instant>,
}

pub(super) struct Permit<'p> {
    throttle: &'p Throttle,
    permit: SemaphorePermit<'p>,
}

impl Throttle {
    /// At most `most` at the same time.
    pub(super) fn new(most: usize) -> Throttle {
        let most = most.max(1);
        let state = State { limit: most, surplus: 0, answers: 0, slowed: None };
        Throttle { permits: Semaphore::new(most), most, state: Mutex::new(state) }
    }

    /// How many may be under way when all goes well.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Waits until one more request may be made.
    pub(super) async fn enter(&self) -> Option<Permit<'_>> {
        // It is never closed; if it were, there would be no limit, and no harm to the rows.
        let permit = self.permits.acquire().await.ok()?;
        Some(Permit { throttle: self, permit })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    pub(super) fn answered(self) {
        let mut state = self.throttle.state();
        state.answers += 1;
        if state.surplus == 0 && state.limit < self.throttle.most && state.answers >= STEADY {
            state.answers = 0;
            state.limit += 1;
            self.throttle.permits.add_permits(1);
        }
        self.leave(&mut state);
    }

    /// Blue could not keep up, or is not there. Half as many requests are made from now on.
    pub(super) fn failed(self) {
        let mut state = self.throttle.state();
        state.answers = 0;
        if state.slowed.is_none_or(|last| last.elapsed() > SAME_MOMENT) {
            let fewer = state.limit / 2;
            state.limit -= fewer;
            state.surplus += fewer;
            state.slowed = Some(Instant::now());
        }
        self.leave(&mut state);
    }

    fn leave(self, state: &mut State) {
        if state.surplus > 0 {
            state.surplus -= 1;
            self.permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(throttle: &Throttle, n: usize) -> Vec<Permit<'_>> {
        let mut taken = Vec::new();
        for _ in 0..n {
            taken.push(throttle.enter().await.expect("never closed"));
        }
        taken
    }

    #[tokio::test]
    async fn a_failure_halves_it_and_steady_answers_bring_it_back() {
        let throttle = Throttle::new(8);
        let mut eight = take(&throttle, 8).await;
        assert_eq!(throttle.permits.available_permits(), 0);
        for one in eight.drain(..2) {
            one.failed();
        }
        // Both failed in the same moment, which counts once: four may go on, six are still under way.
        for one in eight {
            one.answered();
        }
        assert_eq!(throttle.permits.available_permits(), 4);
        for _ in 0..STEADY * 10 {
            throttle.enter().await.expect("never closed").answered();
        }
        assert_eq!(throttle.permits.available_permits(), 8);
    }

    #[tokio::test]
    async fn one_request_is_always_let_through() {
        let throttle = Throttle::new(2);
        for _ in 0..5 {
            throttle.state().slowed = None;
            throttle.enter().await.expect("never closed").failed();
        }
        assert_eq!(throttle.permits.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_leaves_its_place() {
        let throttle = Throttle::new(2);
        drop(take(&throttle, 2).await);
        assert_eq!(throttle.permits.available_permits(), 2);
    }
}
