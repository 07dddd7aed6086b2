//! A real pgbouncer, the pooler that many have before their PostgreSQL.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use kongferry::process::{BoundChild, WorkDir};
use kongferry_harness::postgres::Database;
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use crate::closed_port;

/// A running pgbouncer before one database. It ends on drop.
pub struct PgBouncer {
    // Declared before the directory: dropped first.
    _server: BoundChild,
    _home: WorkDir,
    port: u16,
    database: String,
}

impl PgBouncer {
    /// Starts it with this `pool_mode` and this many server connections for all clients together.
    pub async fn start(database: &Database, pool_mode: &str, connections: u32) -> Self {
        let port = closed_port();
        let home = WorkDir::create("kongferry-pgbouncer", true).expect("a directory");
        let (ini, users) = (home.path().join("pgbouncer.ini"), home.path().join("users.txt"));
        let (server_port, name) = (database.options().get_port(), database.name());
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={server_port} dbname={name} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n\
             auth_file = {}\n\
             pool_mode = {pool_mode}\ndefault_pool_size = {connections}\nserver_reset_query_always = 0\n",
            users.display()
        );
        for (file, text) in [(&ini, text.as_str()), (&users, "\"postgres\" \"\"\n")] {
            std::fs::write(file, text).expect("written");
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("mode set");
        }
        let program = kongferry_harness::tools::program("pgbouncer", "pgbouncer").expect("pgbouncer");
        let mut command = Command::new(program);
        command.arg(&ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if Uid::effective().is_root() {
            // It refuses to run as root.
            let nobody = User::from_name("nobody").ok().flatten().expect("a user called nobody");
            command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
        }
        let server = BoundChild::spawn(command, Signal::SIGTERM).expect("pgbouncer runs");
        let bouncer = PgBouncer { _server: server, _home: home, port, database: name.to_owned() };
        bouncer.wait().await;
        bouncer
    }

    /// The address of the database behind it.
    pub fn url(&self) -> String {
        self.url_of(&self.database)
    }

    /// The address of another database behind it.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    async fn wait(&self) {
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("pgbouncer does not listen on port {}", self.port);
    }
}
