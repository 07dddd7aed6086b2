//! Simulated time for the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use kongferry::cutover::clock::{Clock, Time};

/// A clock that stops while a future makes progress and jumps to the next alarm when it waits: days pass in
/// milliseconds, and always in the same order.
#[derive(Debug, Clone, Default)]
pub struct SimulatedClock(Arc<Mutex<Simulated>>);

#[derive(Debug, Default)]
struct Simulated {
    now: Time,
    alarms: BTreeMap<(Time, u64), Waker>,
    next: u64,
}

impl SimulatedClock {
    /// Jumps to the next alarm and wakes its waiter; false when nothing waits.
    pub fn advance(&self) -> bool {
        let woken = {
            let mut inner = self.lock();
            let Some(((time, _), waker)) = inner.alarms.pop_first() else { return false };
            inner.now = inner.now.max(time);
            waker
        };
        woken.wake();
        true
    }

    /// Runs `future` to its end, with time passing whenever it waits; `None` when it waits for what never comes, or
    /// when it was not done at `limit`.
    pub fn run<F: Future>(&self, future: F, limit: Time) -> Option<F::Output> {
        self.run_polls(future, limit, u64::MAX)
    }

    /// Drops the future after a number of polls, as if the process were killed.
    pub fn run_polls<F: Future>(&self, future: F, limit: Time, polls: u64) -> Option<F::Output> {
        let mut future = Box::pin(future);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let mut context = std::task::Context::from_waker(&waker);
        for _ in 0..polls {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            while !flag.0.swap(false, std::sync::atomic::Ordering::SeqCst) {
                if !self.advance() || self.now() > limit {
                    return None;
                }
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Simulated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the future asked to be polled again.
#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Time {
        self.lock().now
    }

    fn wall(&self) -> DateTime<Utc> {
        // Any fixed moment will do.
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        start + TimeDelta::from_std(self.now()).unwrap_or_default()
    }

    fn until(&self, time: Time) -> BoxFuture<'static, ()> {
        let (clock, mut alarm) = (self.clone(), None);
        Box::pin(std::future::poll_fn(move |context| {
            let mut inner = clock.lock();
            if let Some(key) = alarm.take() {
                inner.alarms.remove(&key);
            }
            if inner.now >= time {
                return Poll::Ready(());
            }
            let key = (time, inner.next);
            inner.next += 1;
            inner.alarms.insert(key, context.waker().clone());
            alarm = Some(key);
            Poll::Pending
        }))
    }
}

#[test]
fn simulated_days_pass_in_order() {
    let clock = SimulatedClock::default();
    let day = Duration::from_secs(86_400);
    let waits = async {
        tokio::join!(clock.until(day * 2), clock.until(day));
        clock.now()
    };
    assert_eq!(clock.run(waits, day * 10), Some(day * 2));
}

#[test]
fn waiting_for_a_future_without_an_alarm_ends() {
    let clock = SimulatedClock::default();
    assert_eq!(clock.run(std::future::pending::<()>(), Duration::from_secs(1)), None);
}
