//! A real BIND: a primary that takes signed updates, a secondary that copies it, a resolver that caches.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use kongferry::error::Result;
use kongferry::process::{BoundChild, WorkDir};

use super::{loopback, start, wait_until_it_listens, write, write_secret};
use crate::context::Context;
use crate::ports;
use crate::tools;

/// 256 bits, of which nobody has to be afraid.
const SECRET: &str = "a29uZ2ZlcnJ5LXRlc3Qta2V5LW9mLTMyLWJ5dGVzISE=";

/// A running BIND with one zone; it ends, and its data goes, on drop and with this process.
#[derive(Debug)]
pub struct Bind {
    // Declared before the directory: dropped first, so the server has ended when its files go.
    _server: BoundChild,
    home: WorkDir,
    port: u16,
}

impl Bind {
    /// The name of the TSIG key that [`primary`](Self::primary) knows.
    pub const KEY_NAME: &'static str = "kongferry.";

    /// A primary of `zone` with these records (lines of a zone file). The key may change A, AAAA, CNAME and TXT, and
    /// A of `protected.ZONE` not.
    pub async fn primary(zone: &str, records: &str) -> Result<Self> {
        let zone = zone.trim_end_matches('.');
        let policy = format!(
            "key \"{}\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             zone \"{zone}\" {{ type primary; file \"zone.db\"; \
             update-policy {{ deny {key} name protected.{zone}. ANY; grant {key} zonesub A AAAA CNAME TXT; }}; }};\n",
            Bind::KEY_NAME,
            key = Bind::KEY_NAME,
        );
        let text = format!(
            "$TTL 300\n@ IN SOA ns1.{zone}. hostmaster.{zone}. ( 1 3600 600 86400 5 )\n@ IN NS ns1.{zone}.\n\
             ns1 IN A 127.0.0.1\n{records}\n"
        );
        Bind::start("recursion no;", &policy, &[("zone.db", &text), ("secret", SECRET)]).await
    }

    /// A copy of a zone of `primary`, taken once: it is told of no change and asks again after an hour.
    pub async fn secondary(zone: &str, primary: &Bind) -> Result<Self> {
        let zone = zone.trim_end_matches('.');
        let text = format!(
            "zone \"{zone}\" {{ type secondary; file \"copy.db\"; masterfile-format text; \
             primaries {{ 127.0.0.1 port {}; }}; allow-notify {{ none; }}; }};\n",
            primary.port
        );
        Bind::start("recursion no;", &text, &[]).await
    }

    /// Where it answers queries and takes updates.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// A file with the secret of the TSIG key.
    pub fn secret_file(&self) -> PathBuf {
        self.home.path().join("secret")
    }

    async fn start(options: &str, zones: &str, files: &[(&str, &str)]) -> Result<Self> {
        let program = tools::named()?;
        let home = WorkDir::create("kongferry-bind", false).context(|| "there is no directory".to_owned())?;
        let port = ports::free()?;
        let directory = home.path().display();
        let mut configuration = String::new();
        let _ = write!(
            configuration,
            "options {{ directory \"{directory}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
             pid-file none; session-keyfile none; managed-keys-directory \"{directory}\"; dnssec-validation no; \
             empty-zones-enable no; notify no; allow-transfer {{ 127.0.0.1; }}; {options} }};\ncontrols {{ }};\n{zones}"
        );
        write(&home.path().join("named.conf"), &configuration)?;
        for (name, text) in files {
            write_secret(&home.path().join(name), text)?;
        }
        let mut command = Command::new(program);
        command.args(["-4", "-g", "-n", "1", "-c"]).arg(home.path().join("named.conf"));
        let server = start(command, home.path())?;
        wait_until_it_listens("BIND", &server, home.path(), &[port]).await?;
        Ok(Bind { _server: server, home, port })
    }
}

/// A BIND that asks one other server and caches what it says, as the resolver of a provider does.
#[derive(Debug)]
pub struct Forwarder(Bind);

impl Forwarder {
    /// In front of `server`. With `min_cache_ttl` it keeps answers longer than they say, as some resolvers do.
    pub async fn start(server: SocketAddr, min_cache_ttl: u32) -> Result<Self> {
        let options = format!(
            "recursion yes; allow-recursion {{ 127.0.0.1; }}; forward only; \
             forwarders {{ {} port {}; }}; min-cache-ttl {min_cache_ttl}; max-ncache-ttl 2;",
            server.ip(),
            server.port()
        );
        Bind::start(&options, "", &[]).await.map(Forwarder)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}
