//! Why a row was rejected, repaired or noted: the stable codes of reports and rejects files.

use serde::{Deserialize, Serialize};

/// Why green, or Kong on green, would not accept a row as it is. Codes are stable; numbers are sections of
/// `docs/kong-data-model.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A reference to a row that blue does not have (4.1).
    DanglingReference,
    /// The parent exists, but in another workspace (4.2).
    CrossWorkspaceReference,
    /// The parent was itself rejected; `cause` is the parent's key.
    ParentRejected,
    /// An entity without a workspace (4.3).
    WorkspaceNull,
    /// An entity of a workspace that blue does not have (4.3, 4.5).
    WorkspaceUnknown,
    /// A unique text whose prefix is the id of another workspace than the row's own (4.4).
    PrefixForeign,
    /// A unique text with two workspace ids as prefix (4.4).
    PrefixDouble,
    /// A unique text that a defect of Kong 2.1.0 replaced by `$(VALUE)` (4.4).
    PrefixLiteral,
    /// A unique text with its workspace id as prefix where most of its column have none (8.3).
    #[serde(alias = "prefix_odd")]
    InconsistentPrefix,
    /// Several rows hold what green allows only once (4.6, 4.6b).
    Duplicate,
    /// U+0000 in a text, which PostgreSQL cannot store (4.7).
    TextNul,
    /// Bytes that are not UTF-8 (4.7).
    TextNotUtf8,
    /// More characters than green's column takes.
    TextTooLong,
    /// A text that should be JSON and is not, or that jsonb refuses (4.8).
    JsonInvalid,
    /// JSON whose top level is not an object where Kong expects one (4.8).
    JsonNotObject,
    /// JSON whose top level is not an array where green has one (4.8).
    JsonNotArray,
    /// A required column is null (4.9, 4.10).
    #[serde(alias = "half_row")]
    IncompleteRow,
    /// A value too long for one of green's indexes (4.13).
    IndexRowTooLarge,
    /// A timestamp that PostgreSQL cannot hold (4.14).
    TimestampOutOfRange,
    /// A number that green's column cannot hold (4.20).
    NumberOutOfRange,
    /// A period that no expiry can be computed for.
    PeriodUnknown,
    /// A CHECK constraint of green does not hold.
    CheckFailed,
    /// Bytes that are not a value of the column's type.
    Undecodable,
    /// PostgreSQL refused the row for a reason that no other code names.
    RefusedByPostgres,
}

impl Reason {
    /// The stable code, as in rejects files.
    pub fn code(self) -> &'static str {
        match self {
            Reason::DanglingReference => "dangling_reference",
            Reason::CrossWorkspaceReference => "cross_workspace_reference",
            Reason::ParentRejected => "parent_rejected",
            Reason::WorkspaceNull => "workspace_null",
            Reason::WorkspaceUnknown => "workspace_unknown",
            Reason::PrefixForeign => "prefix_foreign",
            Reason::PrefixDouble => "prefix_double",
            Reason::PrefixLiteral => "prefix_literal",
            Reason::InconsistentPrefix => "inconsistent_prefix",
            Reason::Duplicate => "duplicate",
            Reason::TextNul => "text_nul",
            Reason::TextNotUtf8 => "text_not_utf8",
            Reason::TextTooLong => "text_too_long",
            Reason::JsonInvalid => "json_invalid",
            Reason::JsonNotObject => "json_not_object",
            Reason::JsonNotArray => "json_not_array",
            Reason::IncompleteRow => "incomplete_row",
            Reason::IndexRowTooLarge => "index_row_too_large",
            Reason::TimestampOutOfRange => "timestamp_out_of_range",
            Reason::NumberOutOfRange => "number_out_of_range",
            Reason::PeriodUnknown => "period_unknown",
            Reason::CheckFailed => "check_failed",
            Reason::Undecodable => "undecodable",
            Reason::RefusedByPostgres => "refused_by_postgres",
        }
    }
}

/// The code that replaced one of an earlier release, which reviewed files and the journals on green may hold.
pub fn current_code(code: String) -> String {
    match code.as_str() {
        "half_row" => Reason::IncompleteRow.code().to_owned(),
        "prefix_odd" => Reason::InconsistentPrefix.code().to_owned(),
        _ => code,
    }
}

/// How a value was repaired (`docs/architecture.md`, "What happens to which row").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueRepair {
    /// Null took the value that the schema map names (4.9).
    DefaultForNull,
    /// A missing digest was computed from the certificate (4.9).
    DigestRecomputed,
    /// A composite key that was null or out of date was rebuilt (4.19).
    CacheKeyRebuilt,
}

impl ValueRepair {
    /// The stable code, as in reports.
    pub fn code(self) -> &'static str {
        match self {
            ValueRepair::DefaultForNull => "default_for_null",
            ValueRepair::DigestRecomputed => "digest_recomputed",
            ValueRepair::CacheKeyRebuilt => "cache_key_rebuilt",
        }
    }
}

/// What is worth a note about a row that was copied as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A unique text without its workspace id as prefix: Kong on blue could not find it by name (4.4).
    PrefixMissing,
    /// A timestamp before 2010 or in the future: seconds stored as milliseconds, or a clock that was wrong (4.14).
    TimestampUnlikely,
    /// A regular expression as a path without `~` in front (4.18).
    RegexPathWithoutTilde,
    /// A value encrypted by Enterprise's keyring: green needs the same keyring.
    KeyringCipherText,
    /// An expiry within the default time to live of blue's table (8.4).
    DefaultTimeToLive,
}

impl Note {
    /// The stable code, as in reports.
    pub fn code(self) -> &'static str {
        match self {
            Note::PrefixMissing => "prefix_missing",
            Note::TimestampUnlikely => "timestamp_unlikely",
            Note::RegexPathWithoutTilde => "regex_path_without_tilde",
            Note::KeyringCipherText => "keyring_cipher_text",
            Note::DefaultTimeToLive => "default_time_to_live",
        }
    }

    pub fn sentence(self) -> &'static str {
        match self {
            Note::PrefixMissing => {
                "copied as it is: blue holds it without its workspace id, so Kong on blue could not find it by name; on green it can"
            }
            Note::TimestampUnlikely => "copied as it is: a date before 2010 or in the future",
            Note::RegexPathWithoutTilde => {
                "copied as it is: looks like a regular expression, but Kong 3.x takes a path without ~ literally"
            }
            Note::KeyringCipherText => "copied byte for byte: encrypted; import the same keyring on green",
            Note::DefaultTimeToLive => {
                "expires on green when it does on blue, whose table has a default time to live"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;

    use super::*;

    /// Codes of earlier releases that are still read.
    const OLD_CODES: [&str; 2] = ["half_row", "prefix_odd"];

    #[test]
    fn a_code_of_an_earlier_release_is_read_as_its_new_one() {
        for old in OLD_CODES {
            let reason: Reason = serde_json::from_value(old.into()).expect("a reason");
            assert_eq!(current_code(old.to_owned()), reason.code());
            assert_ne!(reason.code(), old);
        }
        assert_eq!(current_code("duplicate".to_owned()), "duplicate");
    }

    /// Every code of an enum: the error of serde about an unknown one lists them.
    fn codes<T: DeserializeOwned>() -> Vec<String> {
        let error = serde_json::from_str::<T>("\"no such code\"").err().expect("no such code").to_string();
        let listed = error.split_once("expected").expect("a list").1;
        let codes = listed.split('`').skip(1).step_by(2).map(str::to_owned);
        codes.filter(|code| !OLD_CODES.contains(&code.as_str())).collect()
    }

    fn all() -> Vec<String> {
        [codes::<Reason>(), codes::<ValueRepair>(), codes::<Note>()].concat()
    }

    /// The codes in the first cell of the table below this heading.
    fn table(text: &str, heading: &str) -> BTreeSet<String> {
        let section = text.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
        let section = section.split("\n## ").next().unwrap_or_default();
        let cells =
            section.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    }

    #[test]
    fn codes_are_spelled_alike_everywhere() {
        let of = |code: &str| serde_json::to_value(code).expect("JSON");
        for code in codes::<Reason>() {
            assert_eq!(serde_json::from_value::<Reason>(of(&code)).expect("a reason").code(), code);
        }
        for code in codes::<ValueRepair>() {
            assert_eq!(serde_json::from_value::<ValueRepair>(of(&code)).expect("a repair").code(), code);
        }
        for code in codes::<Note>() {
            assert_eq!(serde_json::from_value::<Note>(of(&code)).expect("a note").code(), code);
        }
    }

    #[test]
    fn the_docs_know_every_code_and_no_other() {
        let all: BTreeSet<String> = all().into_iter().collect();
        assert!(all.contains("inconsistent_prefix") && all.contains("keyring_cipher_text"), "{all:?}");
        assert_eq!(table(include_str!("../../docs/migrate.md"), "\n## Codes\n"), all, "docs/migrate.md");
        let reasons: BTreeSet<String> = codes::<Reason>().into_iter().collect();
        let maps = include_str!("../../schema-maps/README.md");
        assert_eq!(table(maps, "\n## Why a row is rejected\n"), reasons, "schema-maps/README.md");
    }
}
