//! The engine's time. Everything that waits does so through [`Clock`], so that tests can simulate it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

/// The time since this process started. It does not advance while the machine sleeps, so time without gate checks never
/// counts as bake time.
pub type Time = Duration;

pub trait Clock: Send + Sync {
    fn now(&self) -> Time;
    /// The date and time, for messages and the marker.
    fn wall(&self) -> DateTime<Utc>;
    /// Ends at `time`, or immediately when that has passed.
    fn until(&self, time: Time) -> BoxFuture<'static, ()>;
}

#[derive(Debug)]
pub(crate) struct RealClock(Instant);

impl RealClock {
    pub(crate) fn start() -> RealClock {
        RealClock(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Time {
        self.0.elapsed()
    }

    fn wall(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn until(&self, time: Time) -> BoxFuture<'static, ()> {
        let alarm = tokio::time::Instant::from_std(self.0) + time;
        Box::pin(tokio::time::sleep_until(alarm))
    }
}
