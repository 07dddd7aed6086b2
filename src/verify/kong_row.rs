//! One row as Kong reads it, from the cells of blue or the fields of green.

use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::cells::{self, FieldType};
use super::reading_rules::{CACHE_KEYS, ComparedColumn, CounterWindow, KEYS, ReadingRules, ValueSource};
use super::value::KongValue;

/// Length of a workspace's id in front of a unique text.
const WORKSPACE_ID: usize = 36;

#[derive(Debug, Clone)]
pub(super) struct KongRow {
    /// In the order of the table's columns.
    pub(super) values: Vec<KongValue>,
    /// Milliseconds since 1970.
    pub(super) expiry: Option<i64>,
    /// Whether Kong reads a value that blue does not hold: a default, or a rebuilt cache_key.
    pub(super) is_repaired: bool,
}

/// A row of blue, for the purpose of a comparison.
#[derive(Debug)]
pub(super) enum BlueRow {
    Read(KongRow),
    /// In a partition that Kong does not read, or of a workspace that no longer exists.
    NotRead,
    /// In a workspace that is not compared.
    OtherWorkspace,
}

/// The cells of one row of blue.
#[derive(Clone, Copy)]
struct BlueCells<'c>(&'c [Option<&'c [u8]>]);

impl<'c> BlueCells<'c> {
    fn get(self, place: usize) -> Option<&'c [u8]> {
        self.0.get(place).copied().flatten()
    }
}

impl ReadingRules {
    /// Reads a row of blue, where it belongs to a compared workspace.
    pub(super) fn read_blue_in_workspaces(&self, cells: &[Option<&[u8]>]) -> BlueRow {
        if let Some(filter) = &self.workspaces {
            let id = BlueCells(cells).get(filter.cell).and_then(|id| <[u8; 16]>::try_from(id).ok());
            if !id.is_some_and(|id| filter.ids.contains(&id)) {
                return BlueRow::OtherWorkspace;
            }
        }
        self.read_blue(cells)
    }

    /// Reads a row of blue, of any workspace.
    pub(super) fn read_blue(&self, cells: &[Option<&[u8]>]) -> BlueRow {
        let cells = BlueCells(cells);
        if let Some((cell, value)) = &self.partition
            && cells.get(*cell) != Some(value.as_bytes())
        {
            return BlueRow::NotRead;
        }
        if let Some((cell, ids)) = &self.existing_workspace {
            let id = cells.get(*cell).and_then(|id| <[u8; 16]>::try_from(id).ok());
            if !id.is_some_and(|id| ids.contains(&id)) {
                return BlueRow::NotRead;
            }
        }
        let mut is_repaired = false;
        let values = self.columns.iter().map(|column| self.value(column, cells, &mut is_repaired)).collect();
        BlueRow::Read(KongRow { values, expiry: self.blue_expiry(cells), is_repaired })
    }

    /// For tests: reads these bytes as a row of either side, and writes every form of it.
    pub fn read_in_every_way(&self, bytes: &[Option<&[u8]>]) {
        let blue = match self.read_blue(bytes) {
            BlueRow::Read(row) => Some(row),
            BlueRow::NotRead | BlueRow::OtherWorkspace => None,
        };
        for row in [blue, Some(self.read_green(bytes))].into_iter().flatten() {
            drop(self.key_json(&row));
            row.values.iter().for_each(|value| drop((value.encoded(), value.to_json())));
        }
    }

    /// The place of this row among those of green's bootstrap.
    pub(super) fn bootstrap_row(&self, row: &KongRow) -> Option<usize> {
        let matches = |(place, value): &(usize, String)| {
            row.values.get(*place).is_some_and(|own| own.to_json().as_str() == Some(value.as_str()))
        };
        self.bootstrap.iter().position(matches)
    }

    fn value(&self, column: &ComparedColumn, cells: BlueCells<'_>, is_repaired: &mut bool) -> KongValue {
        let decode = |bytes: Option<&[u8]>| cells::blue(&column.field_type, bytes);
        let mut or_default = |cell: usize, default: &dyn Fn() -> KongValue| match cells.get(cell) {
            Some(bytes) => decode(Some(bytes)),
            None => {
                *is_repaired = true;
                default()
            }
        };
        match column.source {
            ValueSource::Null => KongValue::Null,
            ValueSource::Cell(cell) => decode(cells.get(cell)),
            ValueSource::Prefixed(cell) => decode(cells.get(cell).map(without_workspace)),
            ValueSource::OwnPrefix { cell, workspace } | ValueSource::UndecidedPrefix { cell, workspace } => {
                let own = cells.get(workspace).and_then(|bytes| Uuid::from_slice(bytes).ok());
                let value = cells.get(cell).map(|bytes| match own {
                    Some(own) if bytes.starts_with(format!("{own}:").as_bytes()) => without_workspace(bytes),
                    _ => bytes,
                });
                decode(value)
            }
            ValueSource::TrueByDefault(cell) => or_default(cell, &|| KongValue::Bool(true)),
            ValueSource::ZeroByDefault(cell) => or_default(cell, &|| KongValue::Int(0)),
            ValueSource::CertificateDigest { cell, certificate } => or_default(cell, &|| {
                cells.get(certificate).and_then(certificate_digest).map_or(KongValue::Null, KongValue::Text)
            }),
            ValueSource::KeyState { cell, id } => {
                let id = cells.get(id).and_then(|id| std::str::from_utf8(id).ok());
                match id.is_some_and(|id| self.active_keys.contains(id)) {
                    true => KongValue::Text(b"active".to_vec()),
                    false => decode(cells.get(cell)),
                }
            }
            ValueSource::CacheKey(cell) => {
                let built = self.cache_key(cells);
                *is_repaired |= cell.and_then(|cell| cells.get(cell)) != Some(built.as_slice());
                KongValue::Text(built)
            }
        }
    }

    /// The key under which Kong caches the row, built as Kong builds it.
    fn cache_key(&self, cells: BlueCells<'_>) -> Vec<u8> {
        let text = |name: &str| {
            let bytes = self.cell(name).and_then(|cell| cells.get(cell)).unwrap_or_default();
            // Kong writes an id as text.
            match <[u8; 16]>::try_from(bytes) {
                Ok(id) if name.ends_with("_id") => Uuid::from_bytes(id).to_string().into_bytes(),
                _ => bytes.to_vec(),
            }
        };
        let mut parts = vec![self.name.clone().into_bytes()];
        if self.name == KEYS {
            parts.extend([text("kid"), text("set_id")]);
        } else {
            let columns = CACHE_KEYS.iter().find(|(table, _)| *table == self.name);
            parts.extend(columns.into_iter().flat_map(|(_, columns)| *columns).map(|name| text(name)));
            parts.resize(6, Vec::new());
            parts.push(text("ws_id"));
        }
        parts.join(&b':')
    }

    /// The read time in whole seconds plus a time to live; of a counter, the end of its window.
    fn blue_expiry(&self, cells: BlueCells<'_>) -> Option<i64> {
        if !self.null_when_expired.is_empty()
            && self.null_when_expired.iter().all(|cell| cells.get(*cell).is_none())
        {
            return Some(0);
        }
        self.expiry.as_ref()?;
        if let Some(window) = self.counter_window {
            return window_end(window, cells);
        }
        let first = self.cells.len();
        let read_time = first + self.ttls.len();
        let now = cells::number(cells.get(read_time)?)?;
        let ttls = (first..read_time).filter_map(|cell| cells::number(cells.get(cell)?));
        let seconds = if self.expires_with_first { ttls.min()? } else { ttls.max()? };
        Some(now.div_euclid(1000).saturating_add(seconds).saturating_mul(1000))
    }

    /// Reads a row of green: its fields in the order of the columns, then the expiry where the table has one.
    pub(super) fn read_green(&self, fields: &[Option<&[u8]>]) -> KongRow {
        let field = |place: usize| fields.get(place).copied().flatten();
        let values = self.columns.iter().enumerate().map(|(place, column)| {
            match cells::green(&column.field_type, field(place)) {
                // To Kong no tags and empty tags are the same; other empty sets are not (docs/kong-data-model.md).
                KongValue::Set(tags) if column.name == "tags" && tags.is_empty() => KongValue::Null,
                value => value,
            }
        });
        let expiry = match cells::green(&FieldType::Instant, field(self.columns.len())) {
            KongValue::Instant(micros) if self.expiry.is_some() => Some(micros.div_euclid(1000)),
            _ => None,
        };
        KongRow { values: values.collect(), expiry, is_repaired: false }
    }

    /// The value of a key of one column, an object for a key of several.
    pub(super) fn key_json(&self, row: &KongRow) -> serde_json::Value {
        let part = |place: &usize| {
            Some((self.columns.get(*place)?.name.clone(), journal_json(row.values.get(*place)?)))
        };
        let parts: std::collections::BTreeMap<_, _> = self.key.iter().filter_map(part).collect();
        match parts.len() {
            1 => parts.into_values().next().unwrap_or_default(),
            _ => parts.into_iter().collect::<serde_json::Map<_, _>>().into(),
        }
    }
}

/// A value of a key as the journal holds it: jsonb takes no U+0000, and invalid UTF-8 is written as its bytes.
fn journal_json(value: &KongValue) -> serde_json::Value {
    match value {
        KongValue::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.replace('\0', "\\u0000").into(),
            Err(_) => KongValue::Opaque(bytes.clone()).to_json(),
        },
        other => other.to_json(),
    }
}

/// Kong's reader cuts 37 bytes wherever byte 37 is a colon.
fn without_workspace(text: &[u8]) -> &[u8] {
    match text.get(WORKSPACE_ID) {
        Some(b':') => text.get(WORKSPACE_ID + 1..).unwrap_or_default(),
        _ => text,
    }
}

fn window_end(window: CounterWindow, cells: BlueCells<'_>) -> Option<i64> {
    let seconds = match cells.get(window.period)? {
        b"second" => 1,
        b"minute" => 60,
        b"hour" => 3_600,
        b"day" => 86_400,
        b"month" => 2_592_000,
        b"year" => 31_536_000,
        _ => return None,
    };
    Some(cells::number(cells.get(window.start)?)?.saturating_add(seconds * 1000))
}

/// Lower-case hexadecimal SHA-256 of the DER bytes of the first certificate in a PEM text.
fn certificate_digest(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = data_encoding::BASE64.decode(body.as_bytes()).ok()?;
    Some(data_encoding::HEXLOWER.encode(digest(&SHA256, &der).as_ref()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_cut_as_kong_cuts_it() {
        let id = "6375b5fd-9c95-4822-b2dd-80ffbccb7ec9";
        for rest in ["bob", "a:b:c", ":x", ""] {
            assert_eq!(without_workspace(format!("{id}:{rest}").as_bytes()), rest.as_bytes());
        }
        assert_eq!(without_workspace(b"bob"), b"bob");
    }

    #[test]
    fn a_key_that_jsonb_cannot_hold_is_written_as_in_the_journal() {
        assert_eq!(journal_json(&KongValue::Text(b"a\0b".to_vec())), "a\\u0000b");
        assert_eq!(journal_json(&KongValue::Text(vec![0xff])), serde_json::json!({ "bytes": "ff" }));
    }

    #[test]
    fn the_digest_is_that_of_the_der_bytes() {
        // "MAMCAQE=" is a DER sequence holding the integer 1; its digest was computed with sha256sum.
        let pem = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        let expected = b"1b65f68a522c858715f5dd951cd0402dc16691778814bf0759822b7a257421d0";
        assert_eq!(certificate_digest(pem).as_deref(), Some(&expected[..]));
        assert_eq!(certificate_digest(b"none"), None);
    }
}
