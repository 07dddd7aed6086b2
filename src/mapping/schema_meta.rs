//! Kong's record of its own migrations, as either side holds it, and whether the two agree (docs/kong-data-model.md, 5).
//!
//! Whole names are compared, as sets: an ordinal means one thing in open source and another in Enterprise, and
//! Cassandra keeps `executed` in byte order. A migration that was folded into another counts for nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::schema_map::{ENTERPRISE, SchemaMap};

/// The table of the record. Its name and shape are the same in every version and edition, and it is what tells them
/// apart, so no schema map can name it.
pub const TABLE: &str = "schema_meta";

pub const CORE: &str = "core";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaMeta {
    /// By subsystem: `core`, and each plugin that has migrations.
    pub subsystems: BTreeMap<String, Subsystem>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subsystem {
    pub last_executed: Option<String>,
    pub executed: BTreeSet<String>,
    /// Migrations that began and wait for `kong migrations finish`.
    pub pending: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disagreement {
    /// Subsystems that only blue has.
    pub only_blue: Vec<String>,
    /// Subsystems that only green has.
    pub only_green: Vec<String>,
    /// Subsystems of both with the migrations that only one of them executed, blue's first.
    pub unequal: Vec<(String, Vec<String>, Vec<String>)>,
}

impl SchemaMeta {
    pub fn is_enterprise(&self) -> bool {
        self.subsystems.contains_key(ENTERPRISE)
    }

    /// As reports name it.
    pub fn edition(&self) -> &'static str {
        if self.is_enterprise() { "enterprise" } else { "open source" }
    }

    /// Migrations that wait to be finished, with their subsystem.
    pub fn pending(&self) -> Vec<(&str, &str)> {
        let each = self.subsystems.iter();
        each.flat_map(|(name, one)| {
            one.pending.iter().map(move |migration| (name.as_str(), migration.as_str()))
        })
        .collect()
    }

    /// The schema map of this database's line. A migration of Enterprise's core may have the name of one of open-source
    /// Kong's and be another.
    pub fn line<'m>(&self, maps: &'m [SchemaMap]) -> Option<&'m SchemaMap> {
        maps.iter().rev().find(|map| {
            map.detect.as_ref().is_some_and(|detect| {
                if self.is_enterprise() && detect.subsystem == CORE {
                    return false;
                }
                let own = self.subsystems.get(&detect.subsystem);
                own.is_some_and(|one| one.last_executed.as_ref() == Some(&detect.last_executed))
            })
        })
    }

    /// What Kong's own tables were last migrated to, for messages.
    pub fn core(&self) -> &str {
        self.subsystems.get(CORE).and_then(|one| one.last_executed.as_deref()).unwrap_or("none")
    }

    /// What Enterprise's own tables were last migrated to, for messages.
    pub fn enterprise(&self) -> &str {
        self.subsystems.get(ENTERPRISE).and_then(|one| one.last_executed.as_deref()).unwrap_or("none")
    }

    /// Where the two schemas differ. `folded`: migrations that only a database has executed that is older than the version
    /// which folded them into others (`SchemaMap::folded`).
    pub fn disagreement(
        &self,
        green: &SchemaMeta,
        folded: &BTreeMap<String, BTreeSet<String>>,
    ) -> Disagreement {
        let mut found = Disagreement::default();
        for (name, own) in &self.subsystems {
            let Some(other) = green.subsystems.get(name) else {
                found.only_blue.push(name.clone());
                continue;
            };
            let counts = |migration: &&String| !folded.get(name).is_some_and(|all| all.contains(*migration));
            let only = |a: &Subsystem, b: &Subsystem| -> Vec<String> {
                a.executed.difference(&b.executed).filter(counts).cloned().collect()
            };
            let (of_blue, of_green) = (only(own, other), only(other, own));
            if !of_blue.is_empty() || !of_green.is_empty() {
                found.unequal.push((name.clone(), of_blue, of_green));
            }
        }
        found.only_green =
            green.subsystems.keys().filter(|name| !self.subsystems.contains_key(*name)).cloned().collect();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(subsystems: &[(&str, &[&str])]) -> SchemaMeta {
        let one = |names: &[&str]| Subsystem {
            last_executed: names.last().map(|name| (*name).to_owned()),
            executed: names.iter().map(|name| (*name).to_owned()).collect(),
            pending: BTreeSet::new(),
        };
        SchemaMeta {
            subsystems: subsystems.iter().map(|(name, names)| ((*name).to_owned(), one(names))).collect(),
        }
    }

    #[test]
    fn the_line_is_told_by_the_whole_name() {
        let maps = SchemaMap::built_in().unwrap();
        let line =
            |last: &str| meta(&[("core", &["000_base", last])]).line(&maps).and_then(|map| map.line.clone());
        assert_eq!(line("015_270_to_280").as_deref(), Some("2.8"));
        assert_eq!(line("016_280_to_300").as_deref(), Some("3.0"));
        assert_eq!(line("017_300_to_310").as_deref(), Some("3.1"));
        assert_eq!(line("018_310_to_320").as_deref(), Some("3.2"));
        assert_eq!(line("019_320_to_330").as_deref(), Some("3.3"));
        // Enterprise 2.8 has an 016 of its own.
        assert_eq!(line("016_270_to_280"), None);
        assert_eq!(line("020_330_to_340"), None);
    }

    #[test]
    fn enterprise_is_told_by_its_own_subsystem() {
        let maps = SchemaMap::built_in().unwrap();
        let found = |core: &str, enterprise: &str| {
            let meta = meta(&[("core", &["000_base", core]), ("enterprise", &["000_base", enterprise])]);
            meta.line(&maps).map(|map| (map.line.clone(), map.is_enterprise()))
        };
        for (line, core, enterprise) in [
            ("2.8", "016_270_to_280", "013_2700_to_2800"),
            ("3.0", "016_280_to_300", "014_2800_to_3000"),
            ("3.1", "017_300_to_310", "015_3000_to_3100"),
            ("3.2", "018_310_to_320", "016_3100_to_3200"),
            ("3.3", "019_320_to_330", "017_3200_to_3300"),
        ] {
            assert_eq!(found(core, enterprise), Some((Some(line.to_owned()), true)));
        }
        assert_eq!(
            found("019_320_to_330", "018_3300_to_3400"),
            None,
            "open source has a core migration of that name"
        );
    }

    #[test]
    fn records_are_compared_as_sets() {
        let blue = meta(&[("core", &["a", "b"]), ("acl", &["x"]), ("acme", &["y"])]);
        let green = meta(&[("core", &["b", "a"]), ("acl", &["x", "z"]), ("jwt", &[])]);
        let found = blue.disagreement(&green, &BTreeMap::new());
        assert_eq!(found.only_blue, ["acme"]);
        assert_eq!(found.only_green, ["jwt"]);
        assert_eq!(found.unequal, [("acl".to_owned(), vec![], vec!["z".to_owned()])]);
        assert_eq!(blue.disagreement(&blue.clone(), &BTreeMap::new()), Disagreement::default());
    }

    #[test]
    fn a_blue_that_was_upgraded_has_the_schema_of_a_green_that_was_bootstrapped() {
        let maps = SchemaMap::built_in().unwrap();
        let green = meta(&[
            ("core", &["000_base", "003_100_to_110", "019_320_to_330"]),
            ("oauth2", &["000_base_oauth2", "003_130_to_140"]),
            ("enterprise", &["000_base", "006_1301_to_1500", "017_3200_to_3300"]),
        ]);
        let mut blue = green.clone();
        for (subsystem, names) in [
            ("core", &["001_14_to_15", "002_15_to_1"][..]),
            ("oauth2", &["001_14_to_15", "002_15_to_10"]),
            (
                "enterprise",
                &[
                    "001_034_to_035",
                    "002_035_to_035-1",
                    "003_035-1_to_036-2",
                    "004_036-2_to_037",
                    "005_037_to_1301",
                ],
            ),
        ] {
            let executed = &mut blue.subsystems.get_mut(subsystem).unwrap().executed;
            executed.extend(names.iter().map(|name| (*name).to_owned()));
        }
        let map = blue.line(&maps).unwrap();
        assert_eq!((map.line.as_deref(), map.is_enterprise()), (Some("3.3"), true));
        assert_eq!(blue.disagreement(&green, &map.folded), Disagreement::default());
        assert_eq!(green.disagreement(&blue, &map.folded), Disagreement::default());
        // A name that no version folded still makes a difference, and so does an old one of another subsystem.
        for (subsystem, name) in [("enterprise", "006_1301_to_1302"), ("enterprise", "001_14_to_15")] {
            let mut other = blue.clone();
            other.subsystems.get_mut(subsystem).unwrap().executed.insert(name.to_owned());
            let found = other.disagreement(&green, &map.folded).unequal;
            assert_eq!(found, [(subsystem.to_owned(), vec![name.to_owned()], vec![])]);
        }
    }
}
