//! `kongferry-traffic ENV_FILE BAD_FILE`: what a cutover is watched by, until Ctrl-C.
//!
//! A real PowerDNS with `api.example.test`, two servers that speak Kong's metric names, a real Prometheus that scrapes
//! them, and clients that ask the name server before every request. While BAD_FILE exists, green fails.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use kongferry::error::{Error, Kind, Result};
use kongferry_harness::dns::PowerDns;
use kongferry_harness::metrics::{Clients, KongMetrics, Line, Prometheus};
use serde_json::json;

const NAME: &str = "api.example.test";
const BLUE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GREEN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

#[tokio::main]
async fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [env, bad] = paths.as_slice() else {
        eprintln!("usage: kongferry-traffic ENV_FILE BAD_FILE");
        return ExitCode::from(2);
    };
    let ended = tokio::select! {
        ended = run(env, bad) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = terminated() => Ok(()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.details().iter().chain(&error.causes()).for_each(|line| eprintln!("  {line}"));
            ExitCode::FAILURE
        }
    }
}

async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut term) => drop(term.recv().await),
        Err(_) => std::future::pending().await,
    }
}

async fn run(env: &PathBuf, bad: &PathBuf) -> Result<()> {
    let dns = PowerDns::start().await?;
    let a = |name: &str, ttl: u32, address: Ipv4Addr| json!({ "name": format!("{name}."), "type": "A", "ttl": ttl, "records": [{ "content": address, "disabled": false }] });
    dns.create_zone(
        "example.test.",
        json!([a(NAME, 3, BLUE), a("ns1.example.test", 60, Ipv4Addr::LOCALHOST)]),
    )
    .await?;
    let (blue, green) = (KongMetrics::start(Line::Two).await?, KongMetrics::start(Line::Three).await?);
    let prometheus = Prometheus::start(&[&blue, &green]).await?;
    let _clients = Clients::start(dns.dns(), NAME, 200, (BLUE, &blue), (GREEN, &green));
    prometheus.wait_for("sum(rate(kong_http_status[3s]))").await?;
    let text = format!(
        "PDNS_URL={}\nPDNS_KEY_FILE={}\nNAME_SERVER={}\nPROMETHEUS={}\n",
        dns.url(),
        dns.api_key_file().display(),
        dns.dns(),
        prometheus.url()
    );
    let unfinished = env.with_extension("unfinished");
    std::fs::write(&unfinished, text)
        .and_then(|()| std::fs::rename(&unfinished, env))
        .map_err(|e| Error::new(Kind::Io, format!("cannot write {}", env.display())).source(e))?;
    loop {
        green.fail(if bad.exists() { 40 } else { 0 });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
