//! The text of a first `cutover.toml`.

use std::fmt::Write as _;

use super::asking::Asked;
use super::section::{Section, list, quoted};
use crate::cutover::step::{Step, guide_steps};
use crate::dns::{DomainName, ListedRecord, RecordType};
use crate::duration::compact;

/// What is put in where a person has to.
pub(super) const TODO: &str = "TODO";

/// From here on a TTL is worth a word: resolvers may hold the old answer as long.
const LONG_TTL: u32 = 86_400;

/// The shortest TTL that is proposed, in seconds.
const SHORT_TTL: u32 = 30;

/// Everything that the file says.
pub(super) struct Draft<'a> {
    pub section: &'a Section,
    pub asked: &'a Asked,
    pub names: &'a [DomainName],
    pub servers: &'a [String],
    /// When it was asked.
    pub when: String,
}

impl Draft<'_> {
    /// The file.
    pub(super) fn text(&self) -> String {
        let asked = self.asked;
        let query = if self.servers.is_empty() {
            String::new()
        } else {
            format!("\n[query]\nname_servers = {}\n", list(self.servers.iter().map(String::as_str)))
        };
        let least = asked.caps.as_ref().map_or(0, |caps| caps.min_ttl);
        include_str!("cutover.toml")
            .replace("{asked}", &comment(&self.said()))
            .replace("{zone}", asked.zone.without_dot())
            .replace("{ttl}", &format!("{:<6}", SHORT_TTL.max(least)))
            .replace("{query}", &query)
            .replace("{provider}", &self.section.text)
            .replace("{records}", &self.records())
            .replace("{steps}", &self.steps())
    }

    /// Who was asked, and what the provider can do; one sentence each.
    pub(super) fn said(&self) -> Vec<String> {
        let asked = self.asked;
        let mut said = Vec::new();
        match (&asked.silent, &asked.instead) {
            (None, _) => said.push(format!(
                "The provider was asked at {}: what stands below as blue is what it holds.",
                self.when
            )),
            (Some(why), instead) => {
                said.push(format!("The provider was not asked: {}.", why.trim_end_matches('.')));
                said.push(match instead {
                    Some(Ok(server)) => format!(
                        "What stands below as blue is what the name server {server} answered at {}.",
                        self.when
                    ),
                    Some(Err(why)) => format!("No name server could be asked either: {why}."),
                    None => String::new(),
                });
            }
        }
        if let Some(caps) = &asked.caps {
            said.push(format!("What it can do: {}.", caps.in_words()));
        }
        said.extend(asked.findings.iter().map(|one| format!("It says: {}. {}", one.message, one.remedy)));
        said.retain(|sentence| !sentence.is_empty());
        said
    }

    /// What stands beside the records, or stands in their way.
    pub(super) fn remarks(&self) -> Vec<String> {
        let beside = self.names.iter().flat_map(|name| self.of(name)).filter(|one| one.movable().is_none());
        let mut remarks: Vec<String> = beside.map(remark).collect();
        let all = self.asked.records.iter().filter(|one| one.ttl > LONG_TTL);
        remarks.extend(all.map(|one| {
            format!(
                "{}/{}: its TTL is {} s; so long may resolvers hold the old answer after it has been lowered, and nothing is moved before.",
                one.name, one.rtype, one.ttl
            )
        }));
        let missing = self.names.iter().filter(|name| !self.of(name).any(|one| one.movable().is_some()));
        remarks.extend(
            missing.map(|name| format!("{name}: no A, AAAA or CNAME record that can be moved was found.")),
        );
        remarks
    }

    fn of<'a>(&'a self, name: &'a DomainName) -> impl Iterator<Item = &'a ListedRecord> {
        self.asked.records.iter().filter(move |one| one.name == *name)
    }

    fn records(&self) -> String {
        let mut text = comment(&self.remarks());
        for name in self.names {
            let moved: Vec<(&ListedRecord, RecordType)> =
                self.of(name).filter_map(|one| Some((one, one.movable()?))).collect();
            if moved.is_empty() {
                text.push_str(&record(name, RecordType::A, &[TODO.to_owned()], None));
            }
            for (one, rtype) in &moved {
                if *rtype == RecordType::Aaaa && moved.len() > 1 {
                    text.push_str(
                        "# The same name by IPv6: clients that prefer it stay on blue unless it moves too. If green has no IPv6\n\
                         # address, remove this record at the provider first, wait for its TTL, and delete this table.\n",
                    );
                }
                text.push_str(&record(name, *rtype, &one.values, Some(one.ttl)));
            }
        }
        text
    }

    fn steps(&self) -> String {
        let guide = guide_steps();
        let possible: Vec<&Step> = match &self.asked.caps {
            Some(caps) => guide.iter().filter(|step| caps.can_split(step.share)).collect(),
            None => guide.iter().collect(),
        };
        let mut text = match &self.asked.caps {
            Some(caps) if possible.len() < guide.len() => {
                format!("# Not the steps of Kong's guide (1, 5, 10, 50, 100 %): {}.\n", caps.weights.limits())
            }
            _ => "# The shares, and how long each is watched.\n".to_owned(),
        };
        for step in possible {
            let percent = f64::from(step.share.as_basis_points()) / 100.0;
            let _ = write!(text, "[[step]]\nshare = {percent}\nbake = \"{}\"\n\n", compact(step.bake));
        }
        text
    }
}

fn record(name: &DomainName, rtype: RecordType, values: &[String], ttl: Option<u32>) -> String {
    let ttl = ttl.map(|ttl| format!("  # TTL {ttl} s")).unwrap_or_default();
    let (blue, green) = (list(values.iter().map(String::as_str)), quoted(TODO));
    format!("[[record]]{ttl}\nname = \"{name}\"\ntype = \"{rtype}\"\nblue = {blue}\ngreen = [{green}]\n\n")
}

fn remark(one: &ListedRecord) -> String {
    let what = format!("{}/{} ({}, TTL {} s)", one.name, one.rtype, one.values.join(", "), one.ttl);
    match &one.obstacle {
        Some(why) => format!("{what} cannot be moved as it stands: {why}. Make it an ordinary record first."),
        None => format!(
            "{what} stands beside it and is not moved: clients that go by it stay where they are. Remove it, and wait for its TTL."
        ),
    }
}

fn comment(lines: &[String]) -> String {
    lines.iter().map(|line| format!("# {}\n", line.replace(['\n', '\r'], " "))).collect()
}
