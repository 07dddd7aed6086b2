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

use super::simulated_clock::SimulatedClock;

/// A fault of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Auth,
    Throttled(u64),
    /// The server fails before it does anything.
    Server,
    /// No answer, and it was not applied.
    LostRequest,
    /// No answer, but it was applied.
    LostAnswer,
    /// No answer, and it is applied this many seconds later.
    Late(u64),
    /// It takes this many seconds.
    Slow(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    pub state: RecordState,
    pub ttl: u32,
    pub marker_text: Option<String>,
}

impl StoredRecord {
    pub fn share(&self) -> Option<Share> {
        self.state.share()
    }
}

#[derive(Debug)]
struct Store {
    stored: StoredRecord,
    /// Every share that it has held, in order.
    shares: Vec<Option<Share>>,
    faults: VecDeque<Option<Fault>>,
    reads_fail: u32,
    late: Vec<(Duration, StoredRecord)>,
    pending_confirms: u32,
}

/// Clones share the records, like two machines.
#[derive(Debug, Clone)]
pub struct MemoryProvider {
    store: Arc<Mutex<Store>>,
    clock: SimulatedClock,
    caps: Capabilities,
}

impl MemoryProvider {
    /// A plain record of blue with this TTL.
    pub fn new(clock: &SimulatedClock, ttl: u32) -> MemoryProvider {
        let stored = StoredRecord { state: RecordState::Plain(Side::Blue), ttl, marker_text: None };
        let store = Store {
            shares: vec![stored.share()],
            stored,
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
        MemoryProvider { store: Arc::new(Mutex::new(store)), clock: clock.clone(), caps }
    }

    /// The same at another time: a new process with a clock of its own.
    pub fn at(&self, clock: &SimulatedClock) -> MemoryProvider {
        MemoryProvider { clock: clock.clone(), ..self.clone() }
    }

    /// The next writes go wrong like this; `None` goes right.
    pub fn fail(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.lock().faults.extend(faults);
    }

    /// This number of reads fails from now on.
    pub fn fail_reads(&self, reads: u32) {
        self.lock().reads_fail = reads;
    }

    /// This number of confirmations is answered with "pending".
    pub fn confirm_late(&self, questions: u32) {
        self.lock().pending_confirms = questions;
    }

    pub fn set(&self, change: impl FnOnce(&mut StoredRecord)) {
        let mut store = self.lock();
        let mut stored = store.stored.clone();
        change(&mut stored);
        store_record(&mut store, stored);
    }

    pub fn stored(&self) -> StoredRecord {
        let mut store = self.lock();
        self.apply_late_writes(&mut store);
        store.stored.clone()
    }

    /// Every share that it has held, in order.
    pub fn shares(&self) -> Vec<Option<Share>> {
        let mut store = self.lock();
        self.apply_late_writes(&mut store);
        store.shares.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Late writes whose time has come.
    fn apply_late_writes(&self, store: &mut Store) {
        let now = self.clock.now();
        while let Some(at) = store.late.iter().position(|(time, _)| *time <= now) {
            let (_, stored) = store.late.remove(at);
            store_record(store, stored);
        }
    }

    fn observed(target: &Target, stored: &StoredRecord) -> Observed {
        let records = target.records().iter().map(|record| ObservedRecord {
            key: record.key.clone(),
            state: stored.state.clone(),
            ttl: Some(stored.ttl),
            siblings: Vec::new(),
            raw: serde_json::Value::Null,
        });
        Observed::new(records.collect(), stored.marker_text.clone())
    }

    fn write(&self, change: &Change) -> DnsResult<Ticket> {
        let mut store = self.lock();
        self.apply_late_writes(&mut store);
        let now = MemoryProvider::observed(&change.target, &store.stored);
        if change.desired.precondition == Precondition::Unchanged && now.version != change.before.version {
            return Err(DnsError::new("memory", DnsErrorKind::Conflict, "another client wrote"));
        }
        store_record(&mut store, stored_after(change));
        Ok(Ticket { change_id: None })
    }
}

fn store_record(store: &mut Store, stored: StoredRecord) {
    store.shares.push(stored.share());
    store.stored = stored;
}

fn stored_after(change: &Change) -> StoredRecord {
    let record = &change.after.records[0];
    StoredRecord {
        state: record.state.clone(),
        ttl: record.ttl.unwrap_or(0),
        marker_text: change.after.marker_text.clone(),
    }
}

fn transient(may_be_applied: bool, what: &str) -> DnsError {
    DnsError::new("memory", DnsErrorKind::Transient { may_be_applied }, what)
}

#[async_trait]
impl DnsProvider for MemoryProvider {
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
        // Other tasks run during a request.
        self.clock.until(self.clock.now() + Duration::from_millis(5)).await;
        let mut store = self.lock();
        self.apply_late_writes(&mut store);
        if store.reads_fail > 0 {
            store.reads_fail -= 1;
            return Err(transient(false, "the connection failed"));
        }
        Ok(MemoryProvider::observed(target, &store.stored))
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
                let done = self.write(change);
                // A process that is killed before the answer does not know the result.
                self.clock.until(self.clock.now() + Duration::from_millis(5)).await;
                done
            }
            Some(Fault::Slow(seconds)) => {
                self.clock.until(self.clock.now() + Duration::from_secs(seconds)).await;
                self.write(change)
            }
            Some(Fault::Auth) => Err(DnsError::new("memory", DnsErrorKind::Auth, "401")),
            Some(Fault::Throttled(seconds)) => {
                let retry_after = Some(Duration::from_secs(seconds));
                Err(DnsError::new("memory", DnsErrorKind::Throttled { retry_after }, "rate exceeded"))
            }
            Some(Fault::Server) => Err(transient(false, "HTTP 503")),
            Some(Fault::LostRequest) => Err(transient(true, "it did not answer in time")),
            Some(Fault::LostAnswer) => {
                self.write(change)?;
                Err(transient(true, "it did not answer in time"))
            }
            Some(Fault::Late(seconds)) => {
                let landing = (self.clock.now() + Duration::from_secs(seconds), stored_after(change));
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
        "manual rollback".to_owned()
    }
}
