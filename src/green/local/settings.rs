//! The configuration of a private PostgreSQL.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use uuid::Uuid;

/// Certificate and key that the server shows, and the CA by which it knows clients. All PEM.
#[derive(Clone)]
pub struct ServerTls {
    /// The server's certificate, with the intermediate ones if there are any.
    pub certificate: String,
    pub key: String,
    /// The CA of client certificates. They are checked when shown, never demanded.
    pub client_ca: Option<String>,
}

/// How to start a private PostgreSQL. The default asks no password and writes safely.
#[derive(Clone, Default)]
pub struct Options {
    pub(super) password: Option<String>,
    pub(super) tls: Option<ServerTls>,
    pub(super) lines: Vec<String>,
}

impl Options {
    /// For data that may be lost at any moment: nothing is synced to disk, and a password that only this process
    /// knows keeps the other users of the machine out.
    pub fn scratch() -> Self {
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Options::default().unsafe_writes().password(password)
    }

    /// Nothing is synced to disk: fast, and a crash of the machine may leave nothing readable.
    #[must_use]
    fn unsafe_writes(self) -> Self {
        self.line("fsync = off").line("synchronous_commit = off").line("full_page_writes = off")
    }

    /// The superuser's password; every login then requires scram-sha-256.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// TLS, and no connection without it.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// One more line of `postgresql.conf`, winning over those before.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("tls", &self.tls.is_some())
            .field("lines", &self.lines)
            .finish()
    }
}

/// Small enough to run beside Cassandra and Kong, large enough for a million rows.
const BASE: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 128MB
maintenance_work_mem = 64MB
max_wal_size = 1GB
min_wal_size = 64MB
wal_level = minimal
max_wal_senders = 0
";

/// Appends to the cluster's `postgresql.conf` and, for TLS, replaces `pg_hba.conf`. `hand_over` gives a new file
/// to the server's user.
pub(super) fn write(
    data: &Path,
    port: u16,
    options: &Options,
    hand_over: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut text = format!("{BASE}port = {port}\n");
    if let Some(tls) = &options.tls {
        write_private(&data.join("server.crt"), &tls.certificate, &hand_over)?;
        write_private(&data.join("server.key"), &tls.key, &hand_over)?;
        text.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
        if let Some(client_ca) = &tls.client_ca {
            write_private(&data.join("client-ca.crt"), client_ca, &hand_over)?;
            text.push_str("ssl_ca_file = 'client-ca.crt'\n");
        }
        let method = if options.password.is_some() { "scram-sha-256" } else { "trust" };
        std::fs::write(data.join("pg_hba.conf"), format!("hostssl all all 127.0.0.1/32 {method}\n"))?;
    }
    for line in &options.lines {
        text.push_str(line);
        text.push('\n');
    }
    OpenOptions::new().append(true).open(data.join("postgresql.conf"))?.write_all(text.as_bytes())
}

/// Writes a file that only the server's user can read; it is never readable by others, not even while written.
pub(super) fn write_private(
    path: &Path,
    text: &str,
    hand_over: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    hand_over(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let options = Options::default().password("hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
