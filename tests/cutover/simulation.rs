//! The engine's environment for tests: a provider in memory, scripted gates, name servers that answer with the
//! provider's records, and a simulated clock.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use kongferry::cutover::call::CallReply;
use kongferry::cutover::clock::Clock;
use kongferry::cutover::config::CutoverConfig;
use kongferry::cutover::engine::{CommandRequest, CommandResult, Engine, EngineOutcome, send_command};
use kongferry::cutover::environment::{
    DriftStatus, Environment, HealthChecks, Hook, Integrations, NameServerReport, NameServerState,
    NameServers,
};
use kongferry::cutover::gates::measurement::{Measurement, Traffic};
use kongferry::cutover::journal::{CutoverJournal, JournalEntry};
use kongferry::cutover::notice::Notice;
use kongferry::cutover::session::{InitialState, Operator, StartContext};
use kongferry::cutover::state::OperatorCommand;
use kongferry::cutover::status::StatusSnapshot;
use kongferry::dns::{DnsProvider, Observed, Share};
use kongferry::error::Result;
use tokio::sync::{mpsc, watch};

use super::memory_provider::MemoryProvider;
use super::simulated_clock::SimulatedClock;

/// A week: longer than any cutover here.
pub const LONG: Duration = Duration::from_secs(7 * 86_400);

/// A gate's measurement at a share and a time.
pub type Script = Arc<dyn Fn(usize, Share, Duration) -> Measurement + Send + Sync>;

/// What tests may change while the engine runs.
pub struct Scripts {
    pub gates: Mutex<Script>,
    pub answers: Mutex<Arc<dyn Fn(Share, Duration) -> NameServerState + Send + Sync>>,
    pub traffic: Mutex<Arc<dyn Fn(Share, Duration) -> Traffic + Send + Sync>>,
    pub drift: Mutex<DriftStatus>,
    pub hook: Mutex<Arc<dyn Fn(Hook) -> Option<CallReply> + Send + Sync>>,
    pub hooks_called: Mutex<Vec<Hook>>,
    pub notices: Mutex<Vec<Notice>>,
}

#[derive(Clone)]
pub struct Simulation {
    pub clock: SimulatedClock,
    pub provider: MemoryProvider,
    pub scripts: Arc<Scripts>,
    pub config: Arc<CutoverConfig>,
    pub entries: Arc<Mutex<Vec<JournalEntry>>>,
    owner: String,
}

/// Steps of 1, 5, 10, 50 and 100 %, an hour each, with two gates.
pub const CONFIG: &str = r#"
zone = "example.test"
ttl = 30
resolver_floor = "30s"
check_every = "10s"
settle_limit = "10m"

[provider]
kind = "powerdns"
url = "http://127.0.0.1:9"
api_key = { env = "NOT_THERE" }

[[record]]
name = "api.example.test"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]

[prometheus]
url = "http://127.0.0.1:9"

[[step]]
share = 1
bake = "1h"
[[step]]
share = 5
bake = "1h"
[[step]]
share = 10
bake = "1h"
[[step]]
share = 50
bake = "1h"
[[step]]
share = 100
bake = "1h"

[[gate]]
name = "errors"
kind = "prometheus"
green = "errors"
max = 0.01
initial_delay = "1m"

[[gate]]
name = "probe"
kind = "http"
url = "http://127.0.0.1:9/"
"#;

pub fn passing() -> Measurement {
    Measurement::judged(true, "0 %", "≤ 1 %")
}

pub fn failing() -> Measurement {
    Measurement::judged(false, "7 %", "≤ 1 %")
}

impl Simulation {
    /// A record with a TTL of an hour, and no fault.
    pub fn new() -> Simulation {
        Simulation::with(CONFIG)
    }

    pub fn with(config: &str) -> Simulation {
        let clock = SimulatedClock::default();
        let provider = MemoryProvider::new(&clock, 3_600);
        let scripts = Scripts {
            gates: Mutex::new(Arc::new(|_, _, _| passing())),
            answers: Mutex::new(Arc::new(|_, _| NameServerState::Agree)),
            traffic: Mutex::new(Arc::new(|share, _| Traffic {
                blue: Some(100.0 * (1.0 - share.fraction())),
                green: Some(100.0 * share.fraction()),
            })),
            drift: Mutex::new(DriftStatus::None),
            hook: Mutex::new(Arc::new(|_| None)),
            hooks_called: Mutex::new(Vec::new()),
            notices: Mutex::new(Vec::new()),
        };
        Simulation {
            clock,
            provider,
            scripts: Arc::new(scripts),
            config: Arc::new(
                CutoverConfig::parse(config, Path::new("cutover.toml")).expect("a configuration"),
            ),
            entries: Arc::default(),
            owner: "anna@elsewhere/1".to_owned(),
        }
    }

    /// Another machine: the provider is the same, the journal is lost, time continues.
    pub fn another_machine(&self) -> Simulation {
        let clock = SimulatedClock::default();
        Simulation {
            provider: self.provider.at(&clock),
            clock,
            entries: Arc::default(),
            owner: "boris@elsewhere/2".to_owned(),
            ..self.clone()
        }
    }

    pub fn gates(&self, script: impl Fn(usize, Share, Duration) -> Measurement + Send + Sync + 'static) {
        *lock(&self.scripts.gates) = Arc::new(script);
    }

    pub fn answers(&self, script: impl Fn(Share, Duration) -> NameServerState + Send + Sync + 'static) {
        *lock(&self.scripts.answers) = Arc::new(script);
    }

    pub fn traffic(&self, script: impl Fn(Share, Duration) -> Traffic + Send + Sync + 'static) {
        *lock(&self.scripts.traffic) = Arc::new(script);
    }

    pub fn hooks(&self, script: impl Fn(Hook) -> Option<CallReply> + Send + Sync + 'static) {
        *lock(&self.scripts.hook) = Arc::new(script);
    }

    pub fn notices(&self) -> Vec<Notice> {
        lock(&self.scripts.notices).clone()
    }

    /// Whether a notice with this code was sent.
    pub fn has_notice(&self, code: &str) -> bool {
        self.notices().iter().any(|notice| notice.code == code)
    }

    /// The provider's records, as a new process reads them.
    pub fn observed(&self) -> Observed {
        let provider = self.provider.clone();
        let target = self.config.target.clone();
        let read = async move { provider.read(&target).await.expect("readable") };
        self.clock.run(read, LONG * 10).expect("read")
    }

    pub fn clock_hours(&self) -> f64 {
        self.clock.now().as_secs_f64() / 3_600.0
    }

    fn operator(&self) -> Operator {
        Operator {
            owner: self.owner.clone(),
            wall: self.clock.wall(),
            rollback_command: "kongferry cutover rollback".to_owned(),
        }
    }

    /// Starts or continues a run as a command of the program does.
    pub fn open(
        &self,
        begin: impl FnOnce(&StartContext<'_>) -> Result<InitialState>,
    ) -> Result<SimulatedRun> {
        let (observed, operator) = (self.observed(), self.operator());
        let entries = lock(&self.entries).clone();
        let start_context = StartContext {
            config: &self.config,
            caps: self.provider.capabilities(),
            observed: &observed,
            entries: &entries,
            operator: &operator,
            now: self.clock.now(),
        };
        let initial = begin(&start_context)?;
        Ok(self.engine(initial))
    }

    fn engine(&self, initial: InitialState) -> SimulatedRun {
        let environment = Environment {
            clock: Arc::new(self.clock.clone()),
            provider: Arc::new(self.provider.clone()),
            name_servers: Arc::new(self.clone()),
            health: Arc::new(self.clone()),
            integrations: Arc::new(self.clone()),
        };
        let journal = Box::new(MemoryJournal(self.entries.clone()));
        let engine =
            Engine::new(self.config.target.clone(), environment, initial.identity, initial.machine, journal);
        SimulatedRun {
            command_sender: engine.command_sender(),
            status: engine.watch(),
            engine,
            clock: self.clock.clone(),
        }
    }

    pub fn start(&self) -> SimulatedRun {
        self.open(|start_context| start_context.start()).expect("a start")
    }

    pub fn resume(&self) -> SimulatedRun {
        self.open(|start_context| start_context.resume(true, false)).expect("a resumed run")
    }

    pub fn rollback(&self) -> SimulatedRun {
        self.open(|start_context| Ok(start_context.rollback(""))).expect("a rollback")
    }
}

/// An engine before its run.
pub struct SimulatedRun {
    pub command_sender: mpsc::Sender<CommandRequest>,
    pub status: watch::Receiver<Option<StatusSnapshot>>,
    engine: Engine,
    clock: SimulatedClock,
}

impl SimulatedRun {
    /// As without `--no-wait`: until `finish`.
    pub fn until_finished(mut self) -> SimulatedRun {
        self.engine = self.engine.until_finished();
        self
    }

    pub fn end(self) -> EngineOutcome {
        self.clock.run(self.engine.run(), LONG * 10).expect("an end")
    }

    /// Runs for this time, and is then killed.
    pub fn run_for(self, time: Duration) -> Option<EngineOutcome> {
        let limit = self.clock.now() + time;
        self.clock.run(self.engine.run(), limit)
    }

    /// Runs for a number of polls, and is then killed.
    pub fn run_polls(self, polls: u64) -> Option<EngineOutcome> {
        self.clock.run_polls(self.engine.run(), LONG * 10, polls)
    }

    /// Runs with an operator at the same time, until both have ended.
    pub fn with<F>(self, operator: impl FnOnce(OperatorConsole) -> F) -> EngineOutcome
    where
        F: Future<Output = ()>,
    {
        let operator = operator(OperatorConsole {
            command_sender: self.command_sender,
            status: self.status,
            clock: self.clock.clone(),
        });
        let both = async { tokio::join!(self.engine.run(), operator).0 };
        self.clock.run(both, LONG * 10).expect("an end")
    }
}

/// The operator of a simulated cutover: sends commands and watches the state.
pub struct OperatorConsole {
    command_sender: mpsc::Sender<CommandRequest>,
    status: watch::Receiver<Option<StatusSnapshot>>,
    clock: SimulatedClock,
}

impl OperatorConsole {
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    pub async fn sleep(&self, seconds: u64) {
        self.clock.until(self.clock.now() + Duration::from_secs(seconds)).await;
    }

    pub async fn send(&self, command: OperatorCommand) -> CommandResult {
        self.try_send(command).await.expect("an engine")
    }

    /// Sends a command to an engine that may have ended; `None` if it has.
    pub async fn try_send(&self, command: OperatorCommand) -> Option<CommandResult> {
        send_command(&self.command_sender, command, "anna").await
    }

    /// Waits for a status.
    pub async fn until(&mut self, is_expected: impl Fn(&StatusSnapshot) -> bool) -> StatusSnapshot {
        let status = self
            .status
            .wait_for(|status| status.as_ref().is_some_and(&is_expected))
            .await
            .expect("an engine");
        status.clone().expect("a snapshot")
    }

    /// Waits for an activity of the step with this share.
    pub async fn until_activity(
        &mut self,
        percent: u16,
        activity: kongferry::cutover::state::Activity,
    ) -> StatusSnapshot {
        let share = Share::percent(percent).expect("a share");
        self.until(move |status| {
            let at = status.step.and_then(|step| status.steps.get(step)).map(|step| step.share);
            at == Some(share) && status.phase.activity() == Some(activity)
        })
        .await
    }

    pub async fn until_state(&mut self, state: &str) -> StatusSnapshot {
        self.until(|status| status.state == state).await
    }
}

struct MemoryJournal(Arc<Mutex<Vec<JournalEntry>>>);

impl CutoverJournal for MemoryJournal {
    fn append(&mut self, entry: &JournalEntry) -> Result<()> {
        // Every entry must be the same after a round trip through JSON.
        let text = serde_json::to_string(entry).expect("JSON");
        let back: JournalEntry = serde_json::from_str(&text).expect("an entry");
        assert_eq!(&back, entry);
        lock(&self.0).push(back);
        Ok(())
    }
}

impl HealthChecks for Simulation {
    fn check_gate(
        self: Arc<Self>,
        gate: usize,
        share: Share,
        _: Option<f64>,
    ) -> BoxFuture<'static, Measurement> {
        let (script, clock) = (lock(&self.scripts.gates).clone(), self.clock.clone());
        Box::pin(async move {
            clock.until(clock.now() + Duration::from_millis(20)).await;
            script(gate, share, clock.now())
        })
    }

    fn read_traffic(self: Arc<Self>) -> Option<BoxFuture<'static, Traffic>> {
        let (script, clock, provider) =
            (lock(&self.scripts.traffic).clone(), self.clock.clone(), self.provider.clone());
        Some(Box::pin(async move { script(provider.stored().share().unwrap_or_default(), clock.now()) }))
    }
}

impl NameServers for Simulation {
    fn query(self: Arc<Self>, share: Share, _: u32) -> BoxFuture<'static, NameServerReport> {
        let (script, clock, provider) =
            (lock(&self.scripts.answers).clone(), self.clock.clone(), self.provider.clone());
        Box::pin(async move {
            clock.until(clock.now() + Duration::from_millis(50)).await;
            let stored = provider.stored().share();
            let answers = match script(share, clock.now()) {
                NameServerState::Agree if stored != Some(share) => {
                    NameServerState::Pending("another share".to_owned())
                }
                other => other,
            };
            NameServerReport { answers, green: stored.map(Share::fraction) }
        })
    }
}

impl Integrations for Simulation {
    fn drift(self: Arc<Self>) -> BoxFuture<'static, DriftStatus> {
        let drift = lock(&self.scripts.drift).clone();
        Box::pin(async move { drift })
    }

    fn hook(self: Arc<Self>, hook: Hook, _: serde_json::Value) -> BoxFuture<'static, Option<CallReply>> {
        lock(&self.scripts.hooks_called).push(hook);
        let reply = lock(&self.scripts.hook).clone()(hook);
        Box::pin(async move { reply })
    }

    fn notify(self: Arc<Self>, notice: Notice, _: serde_json::Value) -> BoxFuture<'static, ()> {
        lock(&self.scripts.notices).push(notice);
        Box::pin(async {})
    }
}

pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shares that the provider has held, without repetitions.
pub fn shares_held(simulation: &Simulation) -> Vec<String> {
    let mut shares: Vec<String> = simulation
        .provider
        .shares()
        .iter()
        .map(|share| share.map_or("?".to_owned(), |share| share.to_string()))
        .collect();
    shares.dedup();
    shares
}
