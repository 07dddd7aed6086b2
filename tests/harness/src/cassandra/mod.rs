//! A real Cassandra: one node, started from Maven Central's jars on free loopback ports.

mod config;
mod endpoint;
mod jars;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kongferry::error::{Error, Kind, Result};
use kongferry::process::{BoundChild, WorkDir};
use nix::sys::signal::Signal;

use crate::certs::Certificates;
use crate::context::Context;
use crate::ports;
use crate::tools;

pub use endpoint::{ClientTls, Endpoint, Login};
pub use jars::VERSION;

const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const START_ATTEMPTS: usize = 3;

/// How to start a Cassandra. The default has no logins and no TLS.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest heap of the JVM, in MB.
    pub heap_mb: u32,
    /// PasswordAuthenticator and CassandraAuthorizer; the superuser is `cassandra` with the password `cassandra`.
    pub login: bool,
    /// TLS for clients, and no connection without it.
    pub tls: Option<Tls>,
    /// Whether tables survive [`Cassandra::restart`]. Without, they are created ten times as fast.
    pub survives_kill: bool,
    /// Whether the JVM optimises what runs often: for servers that work for minutes. Without, it spends half as much CPU
    /// on the short life of a test's server.
    pub optimised: bool,
    /// How keys are spread over the ring: the name of a class of Cassandra's.
    pub partitioner: &'static str,
}

#[derive(Debug, Clone)]
pub struct Tls {
    /// What the server shows, and by whose CA it knows clients.
    pub certificates: Certificates,
    /// Whether a client without a certificate is turned away.
    pub client_certificate_required: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            heap_mb: 1024,
            login: false,
            tls: None,
            survives_kill: false,
            optimised: false,
            partitioner: "Murmur3Partitioner",
        }
    }
}

impl Options {
    /// Logins, rights and client TLS: the configuration of the connection tests.
    pub fn secured(certificates: &Certificates) -> Self {
        let tls = Tls { certificates: certificates.clone(), client_certificate_required: false };
        Options { login: true, tls: Some(tls), ..Options::default() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    native: u16,
    storage: u16,
}

/// A running Cassandra. It ends, and its data goes, on [`stop`](Self::stop), on drop and with this process. It is
/// one node: replication above 1 makes reads at ALL fail, which some tests want.
#[derive(Debug)]
pub struct Cassandra {
    // Declared before the directory: dropped first, so the server has ended when its files go.
    server: BoundChild,
    home: WorkDir,
    ports: Ports,
    options: Options,
}

impl Cassandra {
    /// Fetches what is missing, starts the server and waits until it answers CQL (and knows its superuser).
    pub async fn start(options: Options) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let options = options.clone();
            let cassandra = blocking(move || Cassandra::launch(options)).await?;
            match cassandra.wait_until_it_answers().await {
                // Between finding a free port and binding it, another process may have taken it.
                Err(_) if attempt < START_ATTEMPTS && cassandra.log().contains("in use") => attempt += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(cassandra),
            }
        }
    }

    /// Where it listens and how the superuser comes in.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            contact_point: format!("127.0.0.1:{}", self.ports.native),
            login: self.options.login.then(Login::superuser),
            tls: self.options.tls.as_ref().map(|tls| ClientTls {
                ca: tls.certificates.ca.clone(),
                identity: tls.client_certificate_required.then(|| tls.certificates.client.clone()),
            }),
        }
    }

    pub fn id(&self) -> i32 {
        self.server.id()
    }

    /// The directory of its data, configuration and log.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Stops it in its tracks: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.server.signal(Signal::SIGSTOP).context(|| "cannot pause Cassandra".to_owned())?;
        // On a busy machine some threads go on for a moment.
        let deadline = Instant::now() + STOP_LIMIT;
        while !all_stopped(self.id()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.server.signal(Signal::SIGCONT).context(|| "cannot resume Cassandra".to_owned())
    }

    /// kill -9; the data stays for [`restart`](Self::restart).
    pub async fn kill(&self) -> Result<()> {
        let killed = self.server.signal(Signal::SIGKILL);
        killed.context(|| "cannot kill Cassandra".to_owned())?;
        let deadline = Instant::now() + STOP_LIMIT;
        while self.server.exited().is_none() {
            if Instant::now() > deadline {
                return Err(self.explain("Cassandra does not end"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Kills it if it runs and starts it again on the same port with the same data, as far as it was written a tenth
    /// of a second before. Only for a server with [`Options::survives_kill`].
    pub async fn restart(&mut self) -> Result<()> {
        if !self.options.survives_kill {
            return Err(Error::usage("this Cassandra would come back without its tables")
                .remedy("start it with Options { survives_kill: true, .. }"));
        }
        self.kill().await?;
        let (home, options) = (self.home.path().to_owned(), self.options.clone());
        self.server = blocking(move || start_server(&home, &options)).await?;
        self.wait_until_it_answers().await
    }

    /// Ends it and removes its data.
    pub async fn stop(self) -> Result<()> {
        self.kill().await?;
        blocking(move || {
            drop(self);
            Ok(())
        })
        .await
    }

    fn launch(options: Options) -> Result<Self> {
        let home = WorkDir::create("kongferry-cassandra", false)
            .context(|| "there is no directory for Cassandra's data".to_owned())?;
        let ports = Ports { native: ports::free()?, storage: ports::free()? };
        config::write(home.path(), ports, &options)
            .context(|| "Cassandra's configuration cannot be written".to_owned())?;
        let server = start_server(home.path(), &options)?;
        Ok(Cassandra { server, home, ports, options })
    }

    async fn wait_until_it_answers(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let endpoint = self.endpoint();
        loop {
            let reason = match TcpStream::connect(&endpoint.contact_point) {
                // Not before the port is open: the driver is slow to give up.
                Err(error) => error.to_string(),
                Ok(_) => match endpoint.session().await {
                    Ok(_) => return Ok(()),
                    Err(error) => error.causes().join(": "),
                },
            };
            if self.server.exited().is_some() {
                return Err(self.explain("Cassandra ended while starting"));
            }
            if Instant::now() > deadline {
                return Err(self.explain("Cassandra does not answer").detail(reason));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        let bytes = fs::read(self.home.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// An error with the end of the server's log.
    fn explain(&self, message: &str) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].iter();
        last.fold(Error::new(Kind::Io, message), |error, line| error.detail(*line))
    }
}

fn start_server(home: &Path, options: &Options) -> Result<BoundChild> {
    let (java, jars) = (tools::java()?, jars::directory()?);
    run(&java, &config::arguments(home, &jars, options), home).context(|| "java cannot be run".to_owned())
}

fn run(java: &Path, arguments: &[String], home: &Path) -> io::Result<BoundChild> {
    let log: File = OpenOptions::new().create(true).append(true).open(home.join("log"))?;
    let mut command = Command::new(java);
    // A variable that is set for another Java must not reach this one.
    command.args(arguments).current_dir(home).env_remove("JAVA_TOOL_OPTIONS").env_remove("JDK_JAVA_OPTIONS");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    BoundChild::spawn(command, Signal::SIGKILL)
}

/// Two ports that were free a moment ago.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(|| "a thread of the harness ended early".to_owned())?
}

/// Whether no thread of a process runs any more. Where the kernel does not tell, it is taken to be so.
fn all_stopped(process: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return true };
    let is_stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    threads
        .flatten()
        .all(|thread| std::fs::read_to_string(thread.path().join("stat")).map_or(true, is_stopped))
}
