//! `cutover init`: a commented file to begin with, filled in by what the provider holds, or by what name servers
//! answer where the provider cannot be asked.

mod asking;
mod draft;
mod section;

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::super::args::Format;
use super::super::text::{self, BOLD, GOOD, WARN, wrapped};
use super::ConfigFileArgs;
use crate::dns::DomainName;
use crate::error::{Error, Kind, Result};
use asking::Asked;
use draft::{Draft, TODO};
use section::ProviderArgs;

/// Arguments of `cutover init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,

    /// The name whose traffic is moved (repeatable)
    #[arg(long, value_name = "NAME", required = true)]
    name: Vec<String>,

    /// The zone that it is in [default: found at the provider, or the name without its first label]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,

    /// An authoritative server to ask, now and by the cutover [default: those of the zone]
    #[arg(long, value_name = "ADDRESS")]
    name_server: Vec<String>,

    #[command(flatten)]
    provider: ProviderArgs,
}

/// Runs the command.
pub async fn run(args: &InitArgs) -> Result<u8> {
    let file = &args.place.file;
    let mut names: Vec<DomainName> = args.name.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let zone = args.zone.as_ref().map(|zone| zone.parse::<DomainName>()).transpose()?;
    if let (Some(zone), Some(name)) = (&zone, zone.as_ref().and_then(|z| names.iter().find(|n| !n.is_in(z))))
    {
        return Err(Error::usage(format!("{name} does not lie in the zone {zone}"))
            .remedy("Correct --name or --zone; one file moves the records of one zone."));
    }
    if let [first, others @ ..] = &*names
        && let Some(other) = others.iter().find(|other| !share_a_zone(first, other))
    {
        return Err(Error::usage(format!("{first} and {other} cannot lie in one zone"))
            .remedy("Write one file for each zone; one file moves the records of one zone."));
    }
    // Before anybody is asked: a file that is there is not overwritten.
    if file.exists() {
        return Err(is_there(file));
    }
    let section = args.provider.section()?;
    let asked = Asked::of(&section, zone.as_ref(), &names, &args.name_server).await?;
    let when = chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string();
    let draft = Draft { section: &section, asked: &asked, names: &names, servers: &args.name_server, when };
    write_new(file, &draft.text())?;
    match args.place.common.format {
        Format::Json => print_json(args, &draft),
        Format::Text => print(args, &draft),
    }
    Ok(0)
}

/// Whether there is a zone above both, other than a top-level domain.
fn share_a_zone(one: &DomainName, other: &DomainName) -> bool {
    let zones = std::iter::successors(Some(one.clone()), DomainName::parent);
    zones.filter(|zone| zone.without_dot().contains('.')).any(|zone| other.is_in(&zone))
}

fn print(args: &InitArgs, draft: &Draft<'_>) {
    let asked = draft.asked;
    let style = if asked.silent.is_some() { WARN } else { GOOD };
    for (at, sentence) in draft.said().iter().enumerate() {
        let style = if at == 0 { style } else { BOLD };
        let (first, rest) = sentence.split_once(": ").map_or((sentence.as_str(), ""), |(a, b)| (a, b));
        let colon = if rest.is_empty() { "" } else { ": " };
        anstream::println!("{style}{first}{colon}{style:#}{}", wrapped(rest, first.len() + 2, 2));
    }
    for one in asked.records.iter().filter(|one| one.movable().is_some()) {
        anstream::println!("  {}/{}  {}  TTL {} s", one.name, one.rtype, one.values.join(", "), one.ttl);
    }
    for remark in draft.remarks() {
        anstream::println!("{WARN}note{WARN:#}  {}", wrapped(&remark, 6, 6));
    }
    let file = args.place.file.display();
    let flag = if args.place.file == Path::new(crate::cutover::config::FILE_NAME) {
        String::new()
    } else {
        format!(" --file {file}")
    };
    anstream::println!("{GOOD}Written:{GOOD:#} {file}");
    anstream::println!(
        "  Next: fill in what stands as {TODO}, then {BOLD}kongferry cutover plan{flag}{BOLD:#}."
    );
}

fn print_json(args: &InitArgs, draft: &Draft<'_>) {
    let asked = draft.asked;
    let records: Vec<_> = asked
        .records
        .iter()
        .map(|one| {
            json!({ "name": one.name.without_dot(), "type": one.rtype, "ttl": one.ttl, "values": one.values,
                    "moved": one.movable().is_some() })
        })
        .collect();
    let instead = asked.instead.as_ref();
    text::print_json(&json!({
        "format": 1,
        "outcome": "written",
        "file": args.place.file,
        "zone": asked.zone.without_dot(),
        "provider": args.provider.provider.word(),
        "asked": if asked.silent.is_none() { "provider" } else if instead.is_some_and(std::result::Result::is_ok) { "name_server" } else { "nobody" },
        "why_not_the_provider": asked.silent,
        "name_server": instead.and_then(|instead| instead.as_ref().ok()),
        "capabilities": asked.caps,
        "findings": asked.findings,
        "records": records,
        "remarks": draft.remarks(),
    }));
}

fn is_there(file: &Path) -> Error {
    Error::new(Kind::Usage, format!("cannot write {}", file.display()))
        .remedy("It is there already; name another one with --file.")
}

/// Never over a file that is there.
fn write_new(file: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let cannot = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            return is_there(file);
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
    use crate::dns::ListedRecord;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        provider: ProviderArgs,
    }

    fn line(words: &[&str]) -> ProviderArgs {
        Line::try_parse_from(std::iter::once(&"init").chain(words)).unwrap().provider
    }

    fn asked(records: Vec<ListedRecord>) -> Asked {
        Asked {
            zone: "example.com".parse().unwrap(),
            records,
            caps: None,
            silent: Some("--url was not given".to_owned()),
            instead: Some(Err("nobody answers".to_owned())),
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

    const LINES: [&[&str]; 5] = [
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
    fn what_is_written_can_be_read_once_it_is_filled_in() {
        let asked = asked(vec![
            listed("A", &["192.0.2.1"]),
            listed("AAAA", &["2001:db8::1"]),
            listed("HTTPS", &["1 . alpn=h2"]),
        ]);
        let (names, servers) = (["api.example.com".parse().unwrap()], ["127.0.0.1:5310".to_owned()]);
        for words in LINES {
            let section = line(words).section().unwrap();
            let when = "now".to_owned();
            let draft = Draft { section: &section, asked: &asked, names: &names, servers: &servers, when };
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
            // Every line that is only commented out must be right as well.
            let all: Vec<&str> =
                filled.lines().map(|line| line.strip_prefix("#~ ").unwrap_or(line)).collect();
            parse(&all.join("\n"));
            assert!(
                text.contains("# api.example.com/HTTPS (1 . alpn=h2, TTL 300 s) stands beside it"),
                "{text}"
            );
        }
    }

    #[test]
    fn flags_of_another_provider_are_refused() {
        let refused = line(&["--provider", "route53", "--url", "http://a"]).section();
        assert!(refused.is_err_and(|error| error.message().contains("--url belongs to powerdns")));
    }
}
