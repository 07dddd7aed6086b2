//! The text of a new `cutover.toml`.

use std::fmt::Write as _;

use super::discovery::CurrentRecords;
use crate::cutover::step::{CutoverStep, guide_steps};
use crate::dns::toml_draft::{list, quote};
use crate::dns::{DomainName, ListedRecord, ProviderSection, RecordType};
use crate::duration::compact;

/// Placeholder for a value that the operator must fill in.
pub(super) const TODO: &str = "TODO";

/// Above this TTL a note is written, in seconds.
const LONG_TTL: u32 = 86_400;

/// The proposed TTL, in seconds.
const SHORT_TTL: u32 = 30;

pub(super) struct Draft<'a> {
    pub section: &'a ProviderSection,
    pub current: &'a CurrentRecords,
    pub names: &'a [DomainName],
    /// For `[query]`; may be empty.
    pub servers: &'a [String],
    pub read_at: String,
}

impl Draft<'_> {
    pub(super) fn text(&self) -> String {
        let current = self.current;
        let query = if self.servers.is_empty() {
            String::new()
        } else {
            format!("\n[query]\nname_servers = {}\n", list(self.servers.iter().map(String::as_str)))
        };
        let min_ttl = current.capabilities.as_ref().map_or(0, |capabilities| capabilities.min_ttl);
        include_str!("cutover.toml")
            .replace("{origin}", &comment(&self.origin()))
            .replace("{zone}", current.zone.without_dot())
            .replace("{ttl}", &format!("{:<6}", SHORT_TTL.max(min_ttl)))
            .replace("{query}", &query)
            .replace("{provider}", &self.section.text)
            .replace("{records}", &self.records())
            .replace("{steps}", &self.steps())
    }

    /// Where blue's values were read, and the provider's capabilities; one sentence each.
    pub(super) fn origin(&self) -> Vec<String> {
        let current = self.current;
        let mut sentences = Vec::new();
        match (&current.provider_error, &current.name_server) {
            (None, _) => {
                sentences.push(format!("Blue's values were read from the provider at {}.", self.read_at));
            }
            (Some(error), name_server) => {
                let error = error.trim_end_matches('.');
                sentences.push(format!("The provider could not be read: {error}."));
                match name_server {
                    Some(Ok(server)) => sentences.push(format!(
                        "Blue's values are the answers of the name server {server} at {}.",
                        self.read_at
                    )),
                    Some(Err(error)) => sentences.push(format!("No name server answered either: {error}.")),
                    None => {}
                }
            }
        }
        if let Some(capabilities) = &current.capabilities {
            sentences.push(format!("The provider's capabilities: {}.", capabilities.summary()));
        }
        let findings = current.findings.iter();
        sentences.extend(findings.map(|found| format!("Preflight: {}. {}", found.message, found.remedy)));
        sentences
    }

    /// Notes about records that are not moved, long TTLs, and names without a record.
    pub(super) fn remarks(&self) -> Vec<String> {
        let records = self.names.iter().flat_map(|name| self.records_of(name));
        let mut remarks: Vec<String> =
            records.filter(|record| record.movable().is_none()).map(not_moved).collect();
        let long = self.current.records.iter().filter(|record| record.ttl > LONG_TTL);
        remarks.extend(long.map(|record| {
            format!(
                "{}/{} has a TTL of {} s: resolvers may cache the present values for that time after the TTL is lowered, and the first step waits for it.",
                record.name, record.rtype, record.ttl
            )
        }));
        let has_movable = |name| self.records_of(name).any(|record| record.movable().is_some());
        let missing = self.names.iter().filter(|name| !has_movable(name));
        remarks
            .extend(missing.map(|name| format!("{name} has no A, AAAA or CNAME record that can be moved.")));
        remarks
    }

    fn records_of<'a>(&'a self, name: &'a DomainName) -> impl Iterator<Item = &'a ListedRecord> {
        self.current.records.iter().filter(move |record| record.name == *name)
    }

    fn records(&self) -> String {
        let mut text = comment(&self.remarks());
        for name in self.names {
            let moved: Vec<(&ListedRecord, RecordType)> =
                self.records_of(name).filter_map(|record| Some((record, record.movable()?))).collect();
            if moved.is_empty() {
                text.push_str(&record_table(name, RecordType::A, &[TODO.to_owned()], None));
            }
            for (record, rtype) in &moved {
                if *rtype == RecordType::Aaaa && moved.len() > 1 {
                    text.push_str(
                        "# The same name over IPv6: clients that prefer IPv6 stay on blue unless this record moves too. If green\n\
                         # has no IPv6 address, delete the record at the provider, wait for its TTL, and delete this table.\n",
                    );
                }
                text.push_str(&record_table(name, *rtype, &record.values, Some(record.ttl)));
            }
        }
        text
    }

    fn steps(&self) -> String {
        let guide = guide_steps();
        let possible: Vec<&CutoverStep> = match &self.current.capabilities {
            Some(capabilities) => guide.iter().filter(|step| capabilities.can_split(step.share)).collect(),
            None => guide.iter().collect(),
        };
        let mut text = match &self.current.capabilities {
            Some(capabilities) if possible.len() < guide.len() => {
                let limits = capabilities.weights.limits();
                format!(
                    "# The provider cannot set the steps of Kong's guide (1, 5, 10, 50, 100 %): {limits}.\n"
                )
            }
            _ => "# Green's share in per cent, and how long the gates must hold before the next step.\n"
                .to_owned(),
        };
        for step in possible {
            let percent = f64::from(step.share.as_basis_points()) / 100.0;
            let _ = write!(text, "[[step]]\nshare = {percent}\nbake = \"{}\"\n\n", compact(step.bake));
        }
        text
    }
}

fn record_table(name: &DomainName, rtype: RecordType, values: &[String], ttl: Option<u32>) -> String {
    let ttl = ttl.map(|ttl| format!("  # TTL {ttl} s")).unwrap_or_default();
    let (blue, green) = (list(values.iter().map(String::as_str)), quote(TODO));
    format!("[[record]]{ttl}\nname = \"{name}\"\ntype = \"{rtype}\"\nblue = {blue}\ngreen = [{green}]\n\n")
}

fn not_moved(listed: &ListedRecord) -> String {
    let ListedRecord { name, rtype, ttl, values, obstacle } = listed;
    let record = format!("{name}/{rtype} ({}, TTL {ttl} s)", values.join(", "));
    match obstacle {
        Some(reason) => {
            format!("{record} cannot be moved: {reason}. Replace it with an ordinary record first.")
        }
        None => format!(
            "{record} has the same name and is not moved: clients that use it stay on blue. Delete it, and wait for its TTL."
        ),
    }
}

fn comment(lines: &[String]) -> String {
    lines.iter().map(|line| format!("# {}\n", line.replace(['\n', '\r'], " "))).collect()
}
