//! A DNS provider in memory, with the faults that real ones have.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kongferry::cutover::clock::Clock;
use kongferry::dns::{
    Capabilities, Change, Confirmation, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, Exclusion,
    Observed, ObservedRecord, Precondition, Propagation, RecordForm, RecordState, Request, Share, Side,
    Target, Ticket, Ttl, Weights,
};
use kongferry::finding::Finding;

use super::clock::SimulatedClock;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Auth,
    Throttled(u64),
    /// The server fails before it does anything.
    Server,
    /// No answer, and nothing was done.
    LostRequest,
    /// No answer, but it was done.
    LostAnswer,
    /// No answer, and it is done so many seconds later.
    Late(u64),
    /// It takes so many seconds.
    Slow(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub state: RecordState,
    pub ttl: u32,
    pub marker_text: Option<String>,
}

impl Held {
    pub fn share(&self) -> Option<Share> {
        self.state.share()
    }
}

#[derive(Debug)]
struct Store {
    held: Held,
    /// Every share that ever stood there, in order.
    shares: Vec<Option<Share>>,
    faults: VecDeque<Option<Fault>>,
    reads_fail: u32,
    late: Vec<(Duration, Held)>,
    pending_confirms: u32,
}

/// The provider. Clones share what it holds, as two machines would.
#[derive(Debug, Clone)]
pub struct Memory {
    store: Arc<Mutex<Store>>,
    clock: SimulatedClock,
    caps: Capabilities,
}

impl Memory {
    /// An ordinary record with blue's values and this TTL.
    pub fn new(clock: &SimulatedClock, ttl: u32) -> Memory {
        let held = Held { state: RecordState::Plain(Side::Blue), ttl, marker_text: None };
        let store = Store {
            shares: vec![held.share()],
            held,
            faults: VecDeque::new(),
            reads_fail: 0,
            late: Vec::new(),
            pending_confirms: 0,
        };
        let caps = Capabilities {
            weights: Weights::Whole { max_sum: 10_000 },
            exclusion: Exclusion::ReadBack,
            confirmation: Confirmation::Immediate,
            min_ttl: 1,
            sticky: false,
            hidden: false,
            settle: Duration::ZERO,
        };
        Memory { store: Arc::new(Mutex::new(store)), clock: clock.clone(), caps }
    }

    /// The same at another time: a new process with a clock of its own.
    pub fn at(&self, clock: &SimulatedClock) -> Memory {
        Memory { clock: clock.clone(), ..self.clone() }
    }

    /// The next writes go wrong like this; `None` goes right.
    pub fn fail(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.lock().faults.extend(faults);
    }

    /// So many reads fail from now on.
    pub fn fail_reads(&self, reads: u32) {
        self.lock().reads_fail = reads;
    }

    /// So many questions for the confirmation are answered with "pending".
    pub fn confirm_late(&self, questions: u32) {
        self.lock().pending_confirms = questions;
    }

    pub fn set(&self, change: impl FnOnce(&mut Held)) {
        let mut store = self.lock();
        let mut held = store.held.clone();
        change(&mut held);
        hold(&mut store, held);
    }

    pub fn held(&self) -> Held {
        let mut store = self.lock();
        self.land(&mut store);
        store.held.clone()
    }

    /// Every share that ever stood there.
    pub fn shares(&self) -> Vec<Option<Share>> {
        let mut store = self.lock();
        self.land(&mut store);
        store.shares.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Late writes whose time has come.
    fn land(&self, store: &mut Store) {
        let now = self.clock.now();
        while let Some(at) = store.late.iter().position(|(time, _)| *time <= now) {
            let (_, held) = store.late.remove(at);
            hold(store, held);
        }
    }

    fn observed(target: &Target, held: &Held) -> Observed {
        let records = target.records().iter().map(|record| ObservedRecord {
            key: record.key.clone(),
            state: held.state.clone(),
            ttl: Some(held.ttl),
            siblings: Vec::new(),
            raw: serde_json::Value::Null,
        });
        Observed::new(records.collect(), held.marker_text.clone())
    }

    fn done(&self, change: &Change) -> DnsResult<Ticket> {
        let mut store = self.lock();
        self.land(&mut store);
        let now = Memory::observed(&change.target, &store.held);
        if change.desired.precondition == Precondition::Unchanged && now.version != change.before.version {
            return Err(DnsError::new("memory", DnsErrorKind::Conflict, "somebody else wrote"));
        }
        hold(&mut store, wanted(change));
        Ok(Ticket { change_id: None })
    }
}

fn hold(store: &mut Store, held: Held) {
    store.shares.push(held.share());
    store.held = held;
}

fn wanted(change: &Change) -> Held {
    let record = &change.after.records[0];
    Held {
        state: record.state.clone(),
        ttl: record.ttl.unwrap_or(0),
        marker_text: change.after.marker_text.clone(),
    }
}

fn transient(may_be_applied: bool, what: &str) -> DnsError {
    DnsError::new("memory", DnsErrorKind::Transient { may_be_applied }, what)
}

#[async_trait]
impl DnsProvider for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    async fn preflight(&self, _: &Target) -> DnsResult<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        // As every request does, it lets the others go on.
        self.clock.until(self.clock.now() + Duration::from_millis(5)).await;
        let mut store = self.lock();
        self.land(&mut store);
        if store.reads_fail > 0 {
            store.reads_fail -= 1;
            return Err(transient(false, "the connection failed"));
        }
        Ok(Memory::observed(target, &store.held))
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        let state = match desired.form {
            RecordForm::AsFound => before.records[0].state.clone(),
            RecordForm::Plain(arm) => RecordState::Plain(arm),
            RecordForm::Split(share) => {
                let (blue, green) = share.weights();
                RecordState::Split { blue, green }
            }
        };
        let ttl = |record: &ObservedRecord| match &desired.ttl {
            Ttl::AsFound => record.ttl,
            Ttl::All(ttl) => Some(*ttl),
            Ttl::Each(list) => {
                list.iter().find(|one| one.key == record.key).map(|one| one.ttl).or(record.ttl)
            }
        };
        let records = before.records.iter();
        let records = records
            .map(|record| ObservedRecord { state: state.clone(), ttl: ttl(record), ..record.clone() })
            .collect();
        Ok(Change {
            id: String::new(),
            target: target.clone(),
            before: before.clone(),
            desired: desired.clone(),
            after: Observed::new(records, desired.marker.as_ref().map(kongferry::dns::Marker::to_text)),
            request: Request::Program { command: vec!["memory".to_owned()], input: serde_json::Value::Null },
        })
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        self.clock.until(self.clock.now() + Duration::from_millis(5)).await;
        let fault = self.lock().faults.pop_front().flatten();
        match fault {
            None => {
                let done = self.done(change);
                // The answer takes its time too: whoever dies now does not know.
                self.clock.until(self.clock.now() + Duration::from_millis(5)).await;
                done
            }
            Some(Fault::Slow(seconds)) => {
                self.clock.until(self.clock.now() + Duration::from_secs(seconds)).await;
                self.done(change)
            }
            Some(Fault::Auth) => Err(DnsError::new("memory", DnsErrorKind::Auth, "401")),
            Some(Fault::Throttled(seconds)) => {
                let retry_after = Some(Duration::from_secs(seconds));
                Err(DnsError::new("memory", DnsErrorKind::Throttled { retry_after }, "rate exceeded"))
            }
            Some(Fault::Server) => Err(transient(false, "HTTP 503")),
            Some(Fault::LostRequest) => Err(transient(true, "it did not answer in time")),
            Some(Fault::LostAnswer) => {
                self.done(change)?;
                Err(transient(true, "it did not answer in time"))
            }
            Some(Fault::Late(seconds)) => {
                let landing = (self.clock.now() + Duration::from_secs(seconds), wanted(change));
                self.lock().late.push(landing);
                Err(transient(true, "it did not answer in time"))
            }
        }
    }

    async fn confirm(&self, _: &Ticket) -> DnsResult<Propagation> {
        let mut store = self.lock();
        if store.pending_confirms > 0 {
            store.pending_confirms -= 1;
            return Ok(Propagation::Pending);
        }
        Ok(Propagation::InSync)
    }

    fn manual_command(&self, _: &Change) -> String {
        "by hand".to_owned()
    }
}
