//! Reads many rows as bytes: `COPY … TO STDOUT` in binary format, row by row, without decoding values.

use futures::TryStreamExt;
use sqlx::PgConnection;

use super::session::Green;
use crate::error::{Error, Kind, Result};
use crate::green::session::During;
use crate::mapping::pg_binary::HEADER;

/// Calls `each` with the fields of every row of a query; `None` is null. No row is kept.
pub async fn rows(
    green: &Green,
    tx: &mut PgConnection,
    select: &str,
    action: &str,
    mut each: impl FnMut(&[Option<&[u8]>]) -> Result<()>,
) -> Result<()> {
    let sql = format!("copy ({select}) to stdout (format binary)");
    let mut stream = tx.copy_out_raw(&sql).await.during(green, action)?;
    let mut held: Vec<u8> = Vec::new();
    let mut begun = false;
    while let Some(chunk) = stream.try_next().await.during(green, action)? {
        held.extend_from_slice(&chunk);
        let mut at = 0;
        if !begun {
            if held.len() < HEADER.len() {
                continue;
            }
            at = HEADER.len();
            begun = true;
        }
        loop {
            let rest = held.get(at..).unwrap_or_default();
            match next_row(rest) {
                NextRow::Row(length) => {
                    let row = rest.get(..length).unwrap_or_default();
                    let fields = crate::mapping::digest::fields(row)
                        .ok_or_else(|| Error::new(Kind::Server, action))?;
                    each(&fields)?;
                    at += length;
                }
                NextRow::Incomplete | NextRow::End => break,
            }
        }
        held.drain(..at);
    }
    Ok(())
}

enum NextRow {
    /// A whole row of this length.
    Row(usize),
    Incomplete,
    End,
}

fn next_row(bytes: &[u8]) -> NextRow {
    let number = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes);
    let Some(count) = bytes.get(..2).and_then(|b| b.try_into().ok()).map(i16::from_be_bytes) else {
        return NextRow::Incomplete;
    };
    if count < 0 {
        return NextRow::End;
    }
    let mut at = 2;
    for _ in 0..count {
        let Some(length) = number(at) else { return NextRow::Incomplete };
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    if at <= bytes.len() { NextRow::Row(at) } else { NextRow::Incomplete }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_taken_only_when_it_is_whole() {
        let row = [0, 2, 0, 0, 0, 2, b'x', b'y', 255, 255, 255, 255, 0];
        assert!(matches!(next_row(&row), NextRow::Row(12)));
        for cut in 0..12 {
            assert!(matches!(next_row(&row[..cut]), NextRow::Incomplete), "{cut}");
        }
        assert!(matches!(next_row(&[255, 255]), NextRow::End));
        assert!(matches!(next_row(&[0, 0]), NextRow::Row(2)));
    }
}
