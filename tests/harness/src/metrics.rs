//! What a Prometheus sees of Kong: two small servers that speak Kong's metric names, clients that go where DNS sends
//! them, and a real Prometheus that scrapes both.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kongferry::error::{Error, Kind, Result};
use kongferry::http;
use kongferry::process::{BoundChild, WorkDir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::dns::{loopback, start, wait_until_it_listens, write};
use crate::ports;
use crate::tools;

/// The names that a line of Kong's versions exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// 2.8, as on blue.
    Two,
    /// 3.3, as on green.
    Three,
}

/// Ends of latency buckets, in milliseconds, that both lines have.
const BOUNDS: [u32; 6] = [25, 100, 400, 1_000, 5_000, 60_000];

#[derive(Debug, Default)]
struct Counters {
    ok: u64,
    unauthorized: u64,
    failed: u64,
    slow: u64,
    /// How many of a hundred requests fail.
    failing: u64,
    seen: u64,
}

/// One side's metrics, answered at `/metrics`.
#[derive(Debug)]
pub struct KongMetrics {
    line: Line,
    address: SocketAddr,
    counters: Arc<Mutex<Counters>>,
    server: JoinHandle<()>,
}

impl KongMetrics {
    pub async fn start(line: Line) -> Result<KongMetrics> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context(|| "no port is free".to_owned())?;
        let address = listener.local_addr().context(|| "no port is free".to_owned())?;
        let counters = Arc::<Mutex<Counters>>::default();
        let shared = counters.clone();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let body = exposition(line, &lock(&shared));
                tokio::spawn(async move {
                    let mut request = [0; 2048];
                    let _ = stream.read(&mut request).await;
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                });
            }
        });
        Ok(KongMetrics { line, address, counters, server })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn job(&self) -> &'static str {
        match self.line {
            Line::Two => "blue",
            Line::Three => "green",
        }
    }

    /// From now on, this many of a hundred requests end with 500.
    pub fn fail(&self, of_a_hundred: u64) {
        lock(&self.counters).failing = of_a_hundred;
    }

    fn request(counters: &Mutex<Counters>) {
        let mut counters = lock(counters);
        counters.seen += 1;
        // Spread evenly, so that a short window sees the same share as a long one.
        if counters.seen * counters.failing / 100 > (counters.seen - 1) * counters.failing / 100 {
            counters.failed += 1;
        } else if counters.seen.is_multiple_of(200) {
            counters.unauthorized += 1;
        } else {
            counters.ok += 1;
        }
        counters.slow += u64::from(counters.seen.is_multiple_of(50));
    }
}

impl Drop for KongMetrics {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(counters: &Mutex<Counters>) -> MutexGuard<'_, Counters> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}

fn exposition(line: Line, counters: &Counters) -> String {
    let mut text = String::from("# TYPE kong_datastore_reachable gauge\nkong_datastore_reachable 1\n");
    let (name, more) = match line {
        Line::Two => ("kong_http_status", ""),
        Line::Three => ("kong_http_requests_total", ",source=\"service\",consumer=\"\""),
    };
    let _ = writeln!(text, "# TYPE {name} counter");
    for (code, count) in [(200, counters.ok), (401, counters.unauthorized), (500, counters.failed)] {
        // As in Kong, a series is there from its first request on.
        if count > 0 {
            let _ =
                writeln!(text, "{name}{{service=\"orders\",route=\"orders\",code=\"{code}\"{more}}} {count}");
        }
    }
    if counters.seen == 0 {
        return text;
    }
    let (name, kind) = match line {
        Line::Two => ("kong_latency", ",type=\"request\""),
        Line::Three => ("kong_request_latency_ms", ""),
    };
    let _ = writeln!(text, "# TYPE {name} histogram");
    for bound in BOUNDS {
        let within = if bound >= 1_000 { counters.seen } else { counters.seen - counters.slow };
        let _ = writeln!(
            text,
            "{name}_bucket{{service=\"orders\",route=\"orders\"{kind},le=\"{bound}\"}} {within}"
        );
    }
    let _ = writeln!(
        text,
        "{name}_bucket{{service=\"orders\",route=\"orders\"{kind},le=\"+Inf\"}} {}",
        counters.seen
    );
    let _ = writeln!(text, "{name}_count{{service=\"orders\",route=\"orders\"{kind}}} {}", counters.seen);
    let _ = writeln!(text, "{name}_sum{{service=\"orders\",route=\"orders\"{kind}}} {}", counters.seen * 30);
    text
}

/// Clients without a cache: each request asks the name server and is counted where it is sent.
#[derive(Debug)]
pub struct Clients(JoinHandle<()>);

impl Clients {
    /// About `a_second` requests per second for `name`, answered by blue's or green's address.
    pub fn start(
        name_server: SocketAddr,
        name: &str,
        a_second: u32,
        blue: (Ipv4Addr, &KongMetrics),
        green: (Ipv4Addr, &KongMetrics),
    ) -> Clients {
        let question = question(name);
        let sides = [(blue.0, blue.1.counters.clone()), (green.0, green.1.counters.clone())];
        Clients(tokio::spawn(async move {
            let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { return };
            if socket.connect(name_server).await.is_err() {
                return;
            }
            let mut every = tokio::time::interval(Duration::from_secs(1) / a_second.max(1));
            let mut answer = [0_u8; 1500];
            loop {
                every.tick().await;
                let _ = socket.send(&question).await;
                let answered =
                    tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut answer)).await;
                let Ok(Ok(length)) = answered else { continue };
                // The address is the end of the only record of the answer.
                let address = answer[..length].last_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes));
                for (side, counters) in &sides {
                    if address == Some(*side) {
                        KongMetrics::request(counters);
                    }
                }
            }
        }))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The address that a client gets who asks there.
pub async fn resolve(server: SocketAddr, name: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.send(&question(name)).await.ok()?;
    let mut answer = [0_u8; 1500];
    let answered = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut answer)).await;
    let length = answered.ok()?.ok()?;
    // Some servers write more behind the answer than the answer: find it by its type, class and length.
    let record = [0, 1, 0, 1];
    let place = answer[..length].windows(4).rposition(|bytes| bytes == record)?;
    let address: [u8; 4] = answer.get(place + 10..place + 14)?.try_into().ok()?;
    Some(Ipv4Addr::from(address))
}

/// A question for the A records of a name, as it goes over the wire.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[derive(Debug)]
pub struct Prometheus {
    // Declared before the directory: dropped first, so the server has ended when its files go.
    server: BoundChild,
    _home: WorkDir,
    port: u16,
}

impl Prometheus {
    /// Installs it if need be, and scrapes these servers five times a second.
    pub async fn start(scraped: &[&KongMetrics]) -> Result<Prometheus> {
        let program = tools::prometheus()?;
        let home = WorkDir::create("kongferry-prom", false).context(|| "there is no directory".to_owned())?;
        let port = ports::free()?;
        let mut config =
            String::from("global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\nscrape_configs:\n");
        for one in scraped {
            let (job, address) = (one.job(), one.address());
            let _ =
                write!(config, "  - job_name: {job}\n    static_configs:\n      - targets: ['{address}']\n");
        }
        let path = home.path().join("prometheus.yml");
        write(&path, &config)?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", home.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let server = start(command, home.path())?;
        wait_until_it_listens("Prometheus", &server, home.path(), &[port]).await?;
        Ok(Prometheus { server, _home: home, port })
    }

    pub fn url(&self) -> String {
        format!("http://{}", loopback(self.port))
    }

    /// Waits until a query comes to something.
    pub async fn wait_for(&self, query: &str) -> Result<()> {
        let client = http::client(None, Duration::from_secs(5))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let body = format!("query={}", query.replace('+', "%2B").replace(' ', "%20"));
            let form = ("Content-Type", "application/x-www-form-urlencoded");
            let request =
                client.post(format!("{}/api/v1/query", self.url())).header(form.0, form.1).body(body);
            let answer = match request.send().await {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if answer.contains("\"value\":") {
                return Ok(());
            }
            if Instant::now() > deadline {
                let error = Error::new(Kind::Io, format!("Prometheus never had anything for {query}"));
                return Err(error.detail(answer));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn stop(&self) {
        let _ = self.server.stop(nix::sys::signal::Signal::SIGKILL, Duration::from_secs(5));
    }
}
