//! `cutover init`: a commented file to begin with, filled in by what the name servers answer.

use clap::Args;
use serde_json::json;

use super::super::connect::Format;
use super::super::text::{self, BOLD, GOOD};
use super::PlaceArgs;
use crate::dns::query::{self, QueryConfig};
use crate::dns::{DomainName, Neighbour};
use crate::error::{Error, Kind, Result};

/// Arguments of `cutover init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub place: PlaceArgs,

    /// The name whose traffic is moved (repeatable)
    #[arg(long, value_name = "NAME", required = true)]
    name: Vec<String>,

    /// The zone that it is in [default: the name without its first label]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,

    /// powerdns, rfc2136, route53 or exec
    #[arg(long, value_name = "KIND", default_value = "powerdns")]
    provider: String,

    /// An authoritative server to ask [default: those of the zone]
    #[arg(long, value_name = "ADDRESS")]
    name_server: Vec<String>,
}

const STEPS: &str = include_str!("init/steps.toml");
const SWITCH: &str = "[[step]]\nshare = 100\nbake = \"4h\"\n";

const PROVIDERS: &[(&str, &str)] = &[
    ("powerdns", include_str!("init/powerdns.toml")),
    ("rfc2136", include_str!("init/rfc2136.toml")),
    ("route53", include_str!("init/route53.toml")),
    ("exec", include_str!("init/exec.toml")),
];

/// Runs the command.
pub async fn run(args: &InitArgs) -> Result<u8> {
    let file = &args.place.file;
    let names: Vec<DomainName> = args.name.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let zone = match (&args.zone, names.first().and_then(DomainName::parent)) {
        (Some(zone), _) => zone.parse()?,
        (None, Some(parent)) => parent,
        (None, None) => return Err(Error::usage("the zone is not clear").remedy("Give --zone.")),
    };
    let provider = PROVIDERS.iter().find(|(kind, _)| *kind == args.provider).ok_or_else(|| {
        let kinds: Vec<&str> = PROVIDERS.iter().map(|(kind, _)| *kind).collect();
        Error::usage(format!("there is no provider \"{}\"", args.provider))
            .remedy(format!("It is one of {}.", kinds.join(", ")))
    })?;
    let records = records(&zone, &names, &args.name_server).await;
    let content = written(&zone, &args.name_server, provider.1, &records);
    write_new(file, &content)?;
    match args.place.common.format {
        Format::Json => text::print_json(&json!({ "outcome": "written", "file": file })),
        Format::Text => {
            anstream::println!("{GOOD}Written:{GOOD:#} {}", file.display());
            anstream::println!(
                "  Next: fill in what stands as TODO, then {BOLD}kongferry cutover plan{BOLD:#}."
            );
        }
    }
    Ok(0)
}

/// The `[[record]]` tables, with what the first server answers now as blue's values.
async fn records(zone: &DomainName, names: &[DomainName], servers: &[String]) -> String {
    let config = QueryConfig { name_servers: servers.to_vec(), ..QueryConfig::default() };
    let server = query::name_servers(zone, &config).await.ok().and_then(|servers| servers.into_iter().next());
    let mut text = String::new();
    for name in names {
        let found = match &server {
            Some(server) => query::neighbours(server, name, &config).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let moved: Vec<&Neighbour> = found.iter().filter(|one| one.rtype != "HTTPS").collect();
        if moved.is_empty() {
            text.push_str(&record(name, "A", "TODO", 0));
        }
        for one in moved {
            text.push_str(&record(name, &one.rtype, &one.text, one.ttl));
        }
    }
    text
}

fn record(name: &DomainName, rtype: &str, values: &str, ttl: u32) -> String {
    let values: Vec<String> = values.split(", ").map(|value| format!("\"{value}\"")).collect();
    let ttl = if ttl > 0 { format!("  # TTL {ttl} s") } else { String::new() };
    format!(
        "[[record]]{ttl}\nname = \"{name}\"\ntype = \"{rtype}\"\nblue = [{}]\ngreen = [\"TODO\"]\n\n",
        values.join(", ")
    )
}

fn written(zone: &DomainName, servers: &[String], provider: &str, records: &str) -> String {
    let quoted: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let query = if servers.is_empty() {
        String::new()
    } else {
        format!("\n[query]\nname_servers = [{}]\n", quoted.join(", "))
    };
    include_str!("init/cutover.toml")
        .replace("{zone}", zone.without_dot())
        .replace("{query}", &query)
        .replace("{provider}", provider)
        .replace("{records}", records)
        .replace("{steps}", if provider.contains("rfc2136") { SWITCH } else { STEPS })
}

/// Never over a file that is there.
fn write_new(file: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write;
    let cannot = |e: std::io::Error| {
        let there = e.kind() == std::io::ErrorKind::AlreadyExists;
        let error = Error::new(
            if there { Kind::Usage } else { Kind::Io },
            format!("cannot write {}", file.display()),
        );
        if there {
            error.remedy("It is there already; name another one with --file.")
        } else {
            error.source(e)
        }
    };
    let mut written = std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(cannot)?;
    written.write_all(text.as_bytes()).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cutover::config::CutoverConfig;

    #[test]
    fn what_is_written_can_be_read_once_it_is_filled_in() {
        let zone: DomainName = "example.com".parse().unwrap();
        let record = record(&"api.example.com".parse().unwrap(), "A", "192.0.2.1", 300);
        for (kind, provider) in PROVIDERS {
            let text = written(&zone, &["127.0.0.1:5310".to_owned()], provider, &record);
            let filled = text.replace("green = [\"TODO\"]", "green = [\"192.0.2.2\"]");
            CutoverConfig::parse(&filled, Path::new("cutover.toml"))
                .unwrap_or_else(|error| panic!("{kind}: {error}"));
            // Every line that is only commented out must be right as well.
            let all: String = filled
                .lines()
                .map(|line| line.strip_prefix("#~ ").unwrap_or(line))
                .collect::<Vec<_>>()
                .join("\n");
            CutoverConfig::parse(&all, Path::new("cutover.toml"))
                .unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
    }
}
