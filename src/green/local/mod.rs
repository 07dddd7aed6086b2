//! A private PostgreSQL on this machine: the scratch server of `plan`, and green in tests and in the demo.
//!
//! PostgreSQL refuses to run as root, so for root the server runs as `postgres` or `nobody` in a directory of that user.
//! Server and data are removed with this process, however it ends.

mod binaries;
mod settings;

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};

use crate::error::{Error, Kind, Result};
use crate::process::{BoundChild, WorkDir};

pub use binaries::Binaries;
pub use settings::{Options, ServerTls};

/// The superuser that every such server has.
pub const SUPERUSER: &str = "postgres";

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const START_ATTEMPTS: usize = 3;

/// A running private PostgreSQL, listening on 127.0.0.1. It is removed with its data on [`stop`](Self::stop), on drop and
/// when this process is killed.
#[derive(Debug)]
pub struct LocalPostgres {
    // Declared before the directory: dropped first, so the server has ended when its files are removed.
    server: BoundChild,
    dir: WorkDir,
    binaries: Binaries,
    port: u16,
    options: Options,
}

impl LocalPostgres {
    /// Finds the programs (see [`Binaries::find`]), creates a cluster, starts it and waits until it answers.
    pub async fn start(options: Options) -> Result<Self> {
        let binaries = Binaries::find().await?;
        LocalPostgres::start_with(&binaries, options).await
    }

    pub async fn start_with(binaries: &Binaries, options: Options) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let (binaries, options) = (binaries.clone(), options.clone());
            let launched = tokio::task::spawn_blocking(move || launch(&binaries, options)).await;
            let server =
                launched.map_err(|e| cannot_start("the thread that starts it ended").source(e))??;
            match server.wait_until_it_answers().await {
                // Between finding a free port and binding it, another process may have taken it.
                Err(error) if attempt < START_ATTEMPTS && server.lost_its_port() => {
                    tracing::debug!(%error, "Another process took the port, starting PostgreSQL again.");
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster.
    pub fn id(&self) -> i32 {
        self.server.id()
    }

    /// How to connect to `database` as the superuser, with password and TLS, ignoring `PG*` variables.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(SUPERUSER)
            .database(database)
            .ssl_mode(if self.options.tls.is_some() { PgSslMode::Require } else { PgSslMode::Disable });
        match &self.options.password {
            Some(password) => options.password(password),
            // `new` has read PGPASSWORD, which is for another server.
            None => options.password(""),
        }
    }

    /// `postgres://postgres@127.0.0.1:PORT/DATABASE`, without the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends the server at once, as a crash would, and starts it again on the same port: PostgreSQL recovers what was
    /// committed, and unlogged tables are empty.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        self.restart_after(Signal::SIGQUIT).await
    }

    /// Restarts it as an administrator does (`pg_ctl restart -m fast`): every session is ended, what was committed stays,
    /// unlogged tables too.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_after(Signal::SIGINT).await
    }

    async fn restart_after(&mut self, signal: Signal) -> Result<()> {
        self.server.stop(signal, STOP_LIMIT).map_err(cannot_stop)?;
        self.server = run_server(&self.binaries, ServerUser::needed()?, self.dir.path())?;
        self.wait_until_it_answers().await
    }

    /// Ends the server at once, without a checkpoint, and removes its data.
    pub async fn stop(self) -> Result<()> {
        let stopped =
            tokio::task::spawn_blocking(move || self.server.stop(Signal::SIGQUIT, STOP_LIMIT)).await;
        let flat = stopped.map_err(io::Error::other).and_then(|result| result);
        flat.map_err(cannot_stop)
    }

    async fn wait_until_it_answers(&self) -> Result<()> {
        let options = self.connect_options("postgres");
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let error = match PgConnection::connect_with(&options).await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    return Ok(());
                }
                Err(error) => error,
            };
            if self.server.exited().is_some() {
                return Err(self.explain(cannot_start("it ended while starting")));
            }
            if Instant::now() > deadline {
                return Err(self
                    .explain(cannot_start(format!("it does not answer within {} s", START_LIMIT.as_secs())))
                    .source(error));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Adds the end of the server's log.
    fn explain(&self, error: Error) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(5)).fold(error, |error, line| error.detail(*line))
    }

    fn log(&self) -> String {
        fs::read(self.dir.path().join("log"))
            .map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn lost_its_port(&self) -> bool {
        self.log().contains("could not bind")
    }
}

/// The user that the server runs as, when that is not who we are.
#[derive(Debug, Clone, Copy)]
struct ServerUser {
    uid: u32,
    gid: u32,
}

impl ServerUser {
    /// `None` when we are not root: the server then runs as us.
    fn needed() -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                return Ok(Some(ServerUser { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
            }
        }
        Err(cannot_start("it refuses to run as root, and there is neither a user postgres nor a user nobody")
            .remedy("Run kongferry as an ordinary user, or create one with `useradd --system postgres`."))
    }
}

/// Makes the cluster and starts the server. Blocks for about as long as `initdb` does.
fn launch(binaries: &Binaries, options: Options) -> Result<LocalPostgres> {
    let user = ServerUser::needed()?;
    let dir = WorkDir::create("kongferry-pg", user.is_some())
        .map_err(|e| cannot_start("its directory cannot be created").source(e))?;
    let data = make_cluster(binaries, user, dir.path(), &options)?;
    let port = free_port().map_err(|e| cannot_start("no port is free on 127.0.0.1").source(e))?;
    settings::write(&data, port, &options, |file| hand_over(file, user))
        .map_err(|e| cannot_start("its configuration cannot be written").source(e))?;
    let server = run_server(binaries, user, dir.path())?;
    Ok(LocalPostgres { server, dir, binaries: binaries.clone(), port, options })
}

/// Runs `initdb` as the server's user; returns the data directory.
fn make_cluster(
    binaries: &Binaries,
    user: Option<ServerUser>,
    dir: &Path,
    options: &Options,
) -> Result<PathBuf> {
    let data = dir.join("data");
    let prepared = prepare_data_directory(&data, user);
    prepared.map_err(|e| cannot_start("its data directory cannot be created").source(e))?;
    let mut initdb = command(&binaries.initdb, user, dir);
    initdb.arg("-D").arg(&data).args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync"]);
    initdb.args(["--auth", if options.password.is_some() { "scram-sha-256" } else { "trust" }]);
    let password_file = dir.join("password");
    if let Some(password) = &options.password {
        settings::write_private(&password_file, password, |file| hand_over(file, user))
            .map_err(|e| cannot_start("the password file for initdb cannot be written").source(e))?;
        initdb.arg("--pwfile").arg(&password_file);
    }
    let output = initdb.stdin(Stdio::null()).output();
    let _ = fs::remove_file(&password_file);
    let output =
        output.map_err(|e| cannot_start(format!("{} cannot be run", binaries.initdb.display())).source(e))?;
    if output.status.success() {
        return Ok(data);
    }
    let error = cannot_start(format!("initdb failed ({})", output.status));
    Err(String::from_utf8_lossy(&output.stderr).lines().fold(error, |error, line| error.detail(line)))
}

fn prepare_data_directory(data: &Path, user: Option<ServerUser>) -> io::Result<()> {
    fs::create_dir(data)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
    hand_over(data, user)
}

fn run_server(binaries: &Binaries, user: Option<ServerUser>, dir: &Path) -> Result<BoundChild> {
    spawn(binaries, user, dir).map_err(|e| cannot_start("its program cannot be run").source(e))
}

fn spawn(binaries: &Binaries, user: Option<ServerUser>, dir: &Path) -> io::Result<BoundChild> {
    let log = OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
    let mut postgres = command(&binaries.postgres, user, dir);
    postgres.arg("-D").arg(dir.join("data")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SIGQUIT is PostgreSQL's immediate shutdown: unlike SIGKILL it lets the postmaster end its children and
    // give back its shared memory.
    BoundChild::spawn(postgres, Signal::SIGQUIT)
}

/// A command as the server's user, without the `PG*` variables that are meant for other servers.
fn command(program: &Path, user: Option<ServerUser>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    // Our own working directory may be closed to the server's user.
    command.env("LC_ALL", "C").current_dir(dir);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn hand_over(path: &Path, user: Option<ServerUser>) -> io::Result<()> {
    user.map_or(Ok(()), |user| chown(path, Some(user.uid), Some(user.gid)))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn cannot_stop(error: io::Error) -> Error {
    Error::new(Kind::Io, "cannot stop the private PostgreSQL").source(error)
}

fn cannot_start(reason: impl AsRef<str>) -> Error {
    Error::new(Kind::Io, format!("cannot start a private PostgreSQL: {}", reason.as_ref()))
}
