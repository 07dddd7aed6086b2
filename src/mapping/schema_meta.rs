//! Kong's record of its own migrations, as either side holds it, and whether the two agree (docs/kong-data-model.md, 5).
//!
//! Whole names are compared, as sets: an ordinal means one thing in open source and another in Enterprise, and
//! Cassandra keeps `executed` in byte order.

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

    pub fn disagreement(&self, green: &SchemaMeta) -> Disagreement {
        let mut found = Disagreement::default();
        for (name, own) in &self.subsystems {
            match green.subsystems.get(name) {
                None => found.only_blue.push(name.clone()),
                Some(other) if other.executed != own.executed => {
                    let only =
                        |a: &Subsystem, b: &Subsystem| a.executed.difference(&b.executed).cloned().collect();
                    found.unequal.push((name.clone(), only(own, other), only(other, own)));
                }
                Some(_) => {}
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
        let known = (Some("2.8".to_owned()), true);
        assert_eq!(found("016_270_to_280", "013_2700_to_2800"), Some(known));
        assert_eq!(
            found("017_300_to_310", "015_3000_to_3100"),
            None,
            "open source has a core migration of that name"
        );
    }

    #[test]
    fn records_are_compared_as_sets() {
        let blue = meta(&[("core", &["a", "b"]), ("acl", &["x"]), ("acme", &["y"])]);
        let green = meta(&[("core", &["b", "a"]), ("acl", &["x", "z"]), ("jwt", &[])]);
        let found = blue.disagreement(&green);
        assert_eq!(found.only_blue, ["acme"]);
        assert_eq!(found.only_green, ["jwt"]);
        assert_eq!(found.unequal, [("acl".to_owned(), vec![], vec!["z".to_owned()])]);
        assert_eq!(blue.disagreement(&blue.clone()), Disagreement::default());
    }
}
