//! `cutover init`: writes a commented `cutover.toml` with the current records as blue's values.

mod discovery;
mod draft;

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::super::args::Format;
use super::super::text::{self, BOLD, GOOD, WARN, wrapped};
use super::{ConfigFileArgs, file_flag};
use crate::dns::{DomainName, ProviderArgs};
use crate::error::{Error, Kind, Result};
use discovery::CurrentRecords;
use draft::{Draft, TODO};

#[derive(Debug, Clone, Args)]
pub(super) struct CutoverInitArgs {
    #[command(flatten)]
    pub(super) place: ConfigFileArgs,

    /// Name whose traffic is moved (repeatable)
    #[arg(long, value_name = "NAME", required = true, help_heading = "Records")]
    name: Vec<String>,

    /// Zone of the names [default: found at the provider, or the name without its first label]
    #[arg(long, value_name = "ZONE", help_heading = "Records")]
    zone: Option<String>,

    /// Name server to query (repeatable) [default: those of the zone]
    ///
    /// An authoritative one. The cutover queries it too.
    #[arg(long, value_name = "ADDRESS", help_heading = "Records")]
    name_server: Vec<String>,

    #[command(flatten)]
    provider: ProviderArgs,
}

pub(super) async fn run(args: &CutoverInitArgs) -> Result<u8> {
    let file = &args.place.file;
    let mut names: Vec<DomainName> = args.name.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let zone = args.zone.as_ref().map(|zone| zone.parse::<DomainName>()).transpose()?;
    check_zone(zone.as_ref(), &names)?;
    // Before the first connection.
    if file.exists() {
        return Err(already_exists(file));
    }
    let section = args.provider.section()?;
    let current = CurrentRecords::read(&section, zone.as_ref(), &names, &args.name_server).await?;
    let read_at = chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string();
    let draft =
        Draft { section: &section, current: &current, names: &names, servers: &args.name_server, read_at };
    write_new(file, &draft.text())?;
    match args.place.common.format {
        Format::Json => text::print_json(&to_json(args, &draft)),
        Format::Text => print(args, &draft),
    }
    Ok(0)
}

/// One file moves the records of one zone.
fn check_zone(zone: Option<&DomainName>, names: &[DomainName]) -> Result<()> {
    if let Some(zone) = zone
        && let Some(name) = names.iter().find(|name| !name.is_in(zone))
    {
        return Err(Error::usage(format!("{name} is not in the zone {zone}"))
            .remedy("Correct --name or --zone: one file moves the records of one zone."));
    }
    let Some((first, others)) = names.split_first() else { return Ok(()) };
    match others.iter().find(|other| !can_share_zone(first, other)) {
        None => Ok(()),
        Some(other) => Err(Error::usage(format!("{first} and {other} cannot be in one zone"))
            .remedy("Write one file for each zone, with --file.")),
    }
}

/// Whether both are below a domain other than a top-level domain.
fn can_share_zone(name: &DomainName, other: &DomainName) -> bool {
    let zones = std::iter::successors(Some(name.clone()), DomainName::parent);
    zones.filter(|zone| zone.without_dot().contains('.')).any(|zone| other.is_in(&zone))
}

fn print(args: &CutoverInitArgs, draft: &Draft<'_>) {
    let current = draft.current;
    let mut style = if current.provider_error.is_some() { WARN } else { GOOD };
    for sentence in draft.origin() {
        let start = sentence.find(": ").map_or(sentence.len(), |colon| colon + 2);
        let (start, rest) = sentence.split_at(start);
        anstream::println!("{style}{start}{style:#}{}", wrapped(rest, start.len(), 2));
        style = BOLD;
    }
    for record in current.records.iter().filter(|record| record.movable().is_some()) {
        let values = record.values.join(", ");
        anstream::println!("  {}/{}  {values}  TTL {} s", record.name, record.rtype, record.ttl);
    }
    for remark in draft.remarks() {
        anstream::println!("{WARN}note{WARN:#}  {}", wrapped(&remark, 6, 6));
    }
    let flag = file_flag(&args.place.file);
    anstream::println!("{GOOD}Written:{GOOD:#} {}", args.place.file.display());
    anstream::println!("  Next: replace every {TODO}, then run {BOLD}kongferry cutover plan{flag}{BOLD:#}.");
}

/// `asked` and `why_not_the_provider` are the old names of `source` and `provider_error`.
fn to_json(args: &CutoverInitArgs, draft: &Draft<'_>) -> serde_json::Value {
    let current = draft.current;
    let records: Vec<_> = current
        .records
        .iter()
        .map(|record| {
            json!({ "name": record.name.without_dot(), "type": record.rtype, "ttl": record.ttl,
                    "values": record.values, "moved": record.movable().is_some() })
        })
        .collect();
    let source = current.source();
    json!({
        "format": 1,
        "outcome": "written",
        "file": args.place.file,
        "zone": current.zone.without_dot(),
        "provider": args.provider.provider.name(),
        "source": source,
        "asked": if source == "none" { "nobody" } else { source },
        "provider_error": current.provider_error,
        "why_not_the_provider": current.provider_error,
        "name_server": current.name_server.as_ref().and_then(|queried| queried.as_ref().ok()),
        "capabilities": current.capabilities,
        "findings": current.findings,
        "records": records,
        "remarks": draft.remarks(),
    })
}

fn already_exists(file: &Path) -> Error {
    Error::usage(format!("{} exists already", file.display())).remedy("Pass another name with --file.")
}

/// Never overwrites a file.
fn write_new(file: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let cannot = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            return already_exists(file);
        }
        Error::new(Kind::Io, format!("cannot write {}", file.display())).source(e)
    };
    let mut written = std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(cannot)?;
    written.write_all(text.as_bytes()).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cutover::config::CutoverConfig;
    use crate::dns::{ListedRecord, ProviderKind};

    #[derive(Debug, Parser)]
    struct ProviderFlags {
        #[command(flatten)]
        provider: ProviderArgs,
    }

    fn provider_args(words: &[&str]) -> ProviderArgs {
        ProviderFlags::try_parse_from(std::iter::once(&"init").chain(words)).unwrap().provider
    }

    fn current(records: Vec<ListedRecord>) -> CurrentRecords {
        CurrentRecords {
            zone: "example.com".parse().unwrap(),
            records,
            capabilities: None,
            provider_error: Some("--url was not given".to_owned()),
            name_server: Some(Err("no answer".to_owned())),
            findings: Vec::new(),
        }
    }

    fn listed(rtype: &str, values: &[&str]) -> ListedRecord {
        ListedRecord {
            name: "api.example.com".parse().unwrap(),
            rtype: rtype.to_owned(),
            ttl: 300,
            values: values.iter().map(|&value| value.to_owned()).collect(),
            obstacle: None,
        }
    }

    const FLAGS: [&[&str]; 5] = [
        &["--provider", "powerdns"],
        &[
            "--provider",
            "powerdns",
            "--url",
            "https://a:1",
            "--api-key-file",
            "/run/a \"b\"",
            "--ca-file",
            "/c",
        ],
        &["--provider", "rfc2136", "--server", "ns1.example.com", "--tsig-algorithm", "hmac-sha512"],
        &["--provider", "route53", "--hosted-zone-id", "Z1", "--session-token-file", "/t", "--region", "x"],
        &["--provider", "exec", "--command", "./a b", "--argument", "--zone", "--pass-env", "TOKEN"],
    ];

    #[test]
    fn a_filled_in_draft_can_be_read() {
        let current = current(vec![
            listed("A", &["192.0.2.1"]),
            listed("AAAA", &["2001:db8::1"]),
            listed("HTTPS", &["1 . alpn=h2"]),
        ]);
        let (names, servers) = (["api.example.com".parse().unwrap()], ["127.0.0.1:5310".to_owned()]);
        for words in FLAGS {
            let section = provider_args(words).section().unwrap();
            let read_at = "now".to_owned();
            let draft =
                Draft { section: &section, current: &current, names: &names, servers: &servers, read_at };
            let text = draft.text();
            let filled = text.replacen("green = [\"TODO\"]", "green = [\"192.0.2.2\"]", 1).replacen(
                "green = [\"TODO\"]",
                "green = [\"2001:db8::2\"]",
                1,
            );
            let parse = |text: &str| {
                CutoverConfig::parse(text, Path::new("cutover.toml"))
                    .unwrap_or_else(|error| panic!("{words:?}: {error}\n{text}"))
            };
            assert_eq!(parse(&filled).target.records().len(), 2);
            // The examples that are commented out must be valid too.
            let with_examples: Vec<&str> =
                filled.lines().map(|line| line.strip_prefix("#~ ").unwrap_or(line)).collect();
            parse(&with_examples.join("\n"));
            assert!(
                text.contains("# api.example.com/HTTPS (1 . alpn=h2, TTL 300 s) has the same name"),
                "{text}"
            );
        }
    }

    #[test]
    fn flags_of_another_provider_are_refused() {
        let refused = provider_args(&["--provider", "route53", "--url", "http://a"]).section();
        assert!(refused.is_err_and(|error| error.message().contains("--url belongs to powerdns")));
    }

    #[test]
    fn every_kind_of_provider_is_drafted_without_flags() {
        for kind in <ProviderKind as clap::ValueEnum>::value_variants() {
            let section = provider_args(&["--provider", &kind.name()]).section().unwrap();
            assert!(section.missing_flag.is_some_and(|flag| flag.starts_with("--")), "{section:?}");
            assert_eq!(section.config().unwrap().kind(), *kind);
            let lines = section.text.lines().map(|line| line.strip_prefix("#~ ").unwrap_or(line));
            let text = lines.collect::<Vec<_>>().join("\n");
            let with_examples = crate::dns::ProviderSection { text, missing_flag: None };
            assert_eq!(with_examples.config().unwrap().kind(), *kind);
        }
    }
}
