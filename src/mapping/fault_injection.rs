//! A fault that a test injects into one converter, to prove that `verify` finds it. With the feature `test-hooks` only.
//!
//! With `KONGFERRY_FAULT=TABLE.COLUMN` in the environment every value of that column is altered on its way to green, to
//! another one of the same type, as a defect of its converter would. The program logs an error that says so.

use std::sync::OnceLock;

use super::table_plan::ColumnPlan;

/// Table and column of the fault.
fn requested() -> Option<&'static (String, String)> {
    static REQUESTED: OnceLock<Option<(String, String)>> = OnceLock::new();
    let read = || {
        let fault = std::env::var("KONGFERRY_FAULT").ok()?;
        tracing::error!("KONGFERRY_FAULT is set: wrong values are written to {fault} on purpose.");
        fault.split_once('.').map(|(table, column)| (table.to_owned(), column.to_owned()))
    };
    REQUESTED.get_or_init(read).as_ref()
}

/// Alters the field that begins at `start`, if a test requested it.
pub(super) fn alter(table: &str, column: &ColumnPlan, start: usize, out: &mut Vec<u8>) {
    let Some((faulty_table, faulty_column)) = requested() else { return };
    if faulty_table != table || *faulty_column != column.name {
        return;
    }
    let Some((length, value)) = out.get(start..).and_then(|field| field.split_at_checked(4)) else { return };
    let value = if length == [0xff; 4] { None } else { Some(value.to_vec()) };
    let Some(altered) = other_value(&column.green_type, value) else { return };
    out.truncate(start);
    let length = altered.as_ref().map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(-1));
    out.extend(length.to_be_bytes());
    out.extend(altered.iter().flatten());
}

/// Another value of this type; null becomes a value where that is easy. `None` where it stays as it is.
pub(crate) fn other_value(green_type: &str, value: Option<Vec<u8>>) -> Option<Option<Vec<u8>>> {
    let (name, _) = green_type.split_once('(').unwrap_or((green_type, ""));
    let Some(mut bytes) = value else {
        return ["text", "character varying"].contains(&name).then(|| Some(b"fault".to_vec()));
    };
    if name.ends_with("[]") {
        return Some(None);
    }
    match name {
        "boolean" => bytes.iter_mut().for_each(|byte| *byte ^= 1),
        "text" | "character varying" | "character" => {
            let last = bytes.pop().unwrap_or(b'x');
            // A cut text stays valid only if its last character was one byte.
            bytes.push(if last.is_ascii() && last != b'y' { b'y' } else { last });
            if !last.is_ascii() {
                bytes.push(b'y');
            } else if last == b'y' {
                bytes.pop();
                bytes.push(b'x');
            }
        }
        "json" | "jsonb" => {
            let version: &[u8] = if name == "jsonb" { &[1] } else { &[] };
            bytes = [version, br#"{"fault": true}"#].concat();
        }
        // By an hour: within two seconds two expiries are the same.
        timestamp if timestamp.starts_with("timestamp") => {
            let micros = i64::from_be_bytes(bytes.as_slice().try_into().ok()?);
            bytes = micros.checked_add(3_600_000_000)?.to_be_bytes().to_vec();
        }
        "bytea" => bytes.push(b'x'),
        // Not by one: the next id may be another row's.
        "uuid" => *bytes.last_mut()? ^= 0x80,
        _ => *bytes.last_mut()? ^= 1,
    }
    Some(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_gets_another_value() {
        let values: [(&str, &[u8]); 12] = [
            ("uuid", &[7; 16]),
            ("text", b"abc"),
            ("text", "ab\u{e9}".as_bytes()),
            ("character varying(5)", b"xy"),
            ("boolean", &[1]),
            ("smallint", &[0, 7]),
            ("timestamp with time zone", &[0; 8]),
            ("timestamp(3) without time zone", &[0; 8]),
            ("double precision", &[0; 8]),
            ("jsonb", b"\x01{}"),
            ("text[]", &[0; 12]),
            ("bytea", b""),
        ];
        for (name, value) in values {
            let altered =
                other_value(name, Some(value.to_vec())).unwrap_or_else(|| panic!("{name} stays as it is"));
            assert_ne!(altered.as_deref(), Some(value), "{name}");
            if name.contains("text") || name.contains("varying") {
                assert!(altered.is_none_or(|bytes| String::from_utf8(bytes).is_ok()), "{name}");
            }
        }
    }
}
