//! Why a row was set aside, mended, or remarked on: the stable codes of reports and rejects files.

use serde::{Deserialize, Serialize};

/// Why green, or Kong on green, would not accept a row as it is (facts, section 4). The code is a contract.
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
    /// A unique text that carries the id of a workspace other than the row's own (4.4).
    PrefixForeign,
    /// A unique text that carries a workspace id twice (4.4).
    PrefixDouble,
    /// A unique text that a defect of Kong 2.1.0 replaced by `$(VALUE)` (4.4).
    PrefixLiteral,
    /// A unique text without its workspace id where the others of its column carry it, or the other way round (8.6).
    PrefixOdd,
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
    /// A required column is null: half a row (4.9, 4.10).
    HalfRow,
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
    /// The stable code, as it stands in rejects files.
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
            Reason::PrefixOdd => "prefix_odd",
            Reason::Duplicate => "duplicate",
            Reason::TextNul => "text_nul",
            Reason::TextNotUtf8 => "text_not_utf8",
            Reason::TextTooLong => "text_too_long",
            Reason::JsonInvalid => "json_invalid",
            Reason::JsonNotObject => "json_not_object",
            Reason::HalfRow => "half_row",
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

/// What was mended on the way (DESIGN, "What happens to which row").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Null took the value that the schema map names (4.9).
    DefaultForNull,
    /// A missing digest was computed from the certificate (4.9).
    DigestRecomputed,
    /// A composite key that was null or out of date was rebuilt (4.19).
    CacheKeyRebuilt,
}

impl Repair {
    /// The stable code, as it stands in reports.
    pub fn code(self) -> &'static str {
        match self {
            Repair::DefaultForNull => "default_for_null",
            Repair::DigestRecomputed => "digest_recomputed",
            Repair::CacheKeyRebuilt => "cache_key_rebuilt",
        }
    }
}

/// What a row was copied with, and somebody may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A unique text without its workspace id in front: Kong on blue could not find it by name (4.4).
    PrefixMissing,
    /// A timestamp before 2010 or in the future: seconds stored as milliseconds, or a clock that was wrong (4.14).
    TimestampUnlikely,
    /// A regular expression as a path without `~` in front (4.18).
    RegexPathWithoutTilde,
    /// A value encrypted by Enterprise's keyring: green needs the same keyring.
    KeyringCipherText,
}

impl Note {
    /// The stable code, as it stands in reports.
    pub fn code(self) -> &'static str {
        match self {
            Note::PrefixMissing => "prefix_missing",
            Note::TimestampUnlikely => "timestamp_unlikely",
            Note::RegexPathWithoutTilde => "regex_path_without_tilde",
            Note::KeyringCipherText => "keyring_cipher_text",
        }
    }

    /// One sentence for the person who reads the summary.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;

    use super::*;

    /// Every code of an enum: serde lists them to whoever asks for one that there is not.
    fn codes<T: DeserializeOwned>() -> Vec<String> {
        let error = serde_json::from_str::<T>("\"no such code\"").err().expect("no such code").to_string();
        let listed = error.split_once("expected").expect("a list").1;
        listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn all() -> Vec<String> {
        [codes::<Reason>(), codes::<Repair>(), codes::<Note>()].concat()
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
        for code in codes::<Repair>() {
            assert_eq!(serde_json::from_value::<Repair>(of(&code)).expect("a repair").code(), code);
        }
        for code in codes::<Note>() {
            assert_eq!(serde_json::from_value::<Note>(of(&code)).expect("a note").code(), code);
        }
    }

    #[test]
    fn the_docs_know_every_code_and_no_other() {
        let all: BTreeSet<String> = all().into_iter().collect();
        assert!(all.contains("prefix_odd") && all.contains("keyring_cipher_text"), "{all:?}");
        assert_eq!(table(include_str!("../../docs/migrate.md"), "\n## Codes\n"), all, "docs/migrate.md");
        let reasons: BTreeSet<String> = codes::<Reason>().into_iter().collect();
        let maps = include_str!("../../schema-maps/README.md");
        assert_eq!(table(maps, "\n## Why a row is rejected\n"), reasons, "schema-maps/README.md");
    }
}
