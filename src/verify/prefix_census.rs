//! Decides from blue's own rows whether a text column carries `<workspace id>:`, where the table is not open-source
//! Kong's. Neither green's constraints nor the schema maps are asked.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;
use uuid::Uuid;

use super::reading_rules::{ReadingRules, ValueSource};
use crate::blue::scan::{Page, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::error::Result;

/// Rows that decide. They come in the order of their tokens, so they are a random sample of a larger table.
const MAX_ROWS: u64 = 20_000;

/// Tables that are read at the same time.
const PARALLEL: usize = 4;

/// First bytes of a value that Enterprise's keyring encrypted.
const CIPHER_TEXT: &[u8] = b"$ke$";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Census {
    with_prefix: u64,
    without: u64,
}

impl Census {
    /// Counts a value of a row of this workspace. Cipher text does not show its prefix, and a value that begins with
    /// another id may be a foreign prefix or plain text: both count for neither.
    fn add(&mut self, value: &[u8], workspace: Uuid) {
        match leading_id(value) {
            Some(id) if id == workspace => self.with_prefix += 1,
            None if !value.starts_with(CIPHER_TEXT) => self.without += 1,
            _ => {}
        }
    }

    fn is_prefixed(self) -> bool {
        self.with_prefix > 0 && self.with_prefix >= self.without
    }
}

/// The id in `<id>:…`.
fn leading_id(value: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(value.get(..36)?).ok()?;
    (value.get(36) == Some(&b':')).then(|| Uuid::parse_str(text).ok())?
}

/// Decides every column whose prefix is unknown so far.
pub(super) async fn decide(blue: &Blue, tables: Vec<ReadingRules>) -> Result<Vec<Arc<ReadingRules>>> {
    let decided = tables.into_iter().map(async |table| decide_table(blue, table).await.map(Arc::new));
    futures::stream::iter(decided).buffered(PARALLEL).try_collect().await
}

async fn decide_table(blue: &Blue, mut table: ReadingRules) -> Result<ReadingRules> {
    let undecided = table.columns.iter().filter_map(|column| match column.source {
        ValueSource::UndecidedPrefix { cell, workspace } => Some((cell, workspace)),
        _ => None,
    });
    let undecided: Vec<(usize, usize)> = undecided.collect();
    let Some((_, workspace)) = undecided.first() else { return Ok(table) };
    let cells: Vec<usize> = undecided.iter().map(|(cell, _)| *cell).collect();
    let census = count(blue, &table, *workspace, &cells).await?;
    for column in &mut table.columns {
        if let ValueSource::UndecidedPrefix { cell, workspace } = column.source {
            let place = cells.iter().position(|own| *own == cell);
            let is_prefixed = place.and_then(|place| census.get(place)).is_some_and(|own| own.is_prefixed());
            column.source = match is_prefixed {
                true => ValueSource::OwnPrefix { cell, workspace },
                false => ValueSource::Cell(cell),
            };
        }
    }
    Ok(table)
}

async fn count(blue: &Blue, table: &ReadingRules, workspace: usize, cells: &[usize]) -> Result<Vec<Census>> {
    let mut census = vec![Census::default(); cells.len()];
    let columns = std::iter::once(&workspace).chain(cells).filter_map(|cell| table.cells.get(*cell));
    let select: Vec<String> = columns.map(|name| quote(name)).collect();
    let reader = blue.reader(&table.name, &select.join(", "), &table.partition_key).await?;
    let (mut rows, mut next) = (0, Some((PagingState::start(), Page::first_rows())));
    while let Some((from, page_rows)) = next.take().filter(|_| rows < MAX_ROWS) {
        let page = blue.page(&reader, TokenRange::WHOLE, from, page_rows).await?;
        page.for_each(|cells| {
            let workspace = cells.first().copied().flatten().and_then(|id| Uuid::from_slice(id).ok());
            let (Some(workspace), Some(values)) = (workspace, cells.get(1..)) else { return };
            for (value, column) in values.iter().zip(&mut census) {
                value.iter().for_each(|value| column.add(value, workspace));
            }
        })
        .map_err(|error| blue.explain(error, &format!("cannot read the table \"{}\"", table.name)))?;
        rows += page.len() as u64;
        next = page.next.clone().map(|from| (from, page.next_rows()));
    }
    Ok(census)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "a2a473df-2f8f-4630-a5d2-ce462300cede";
    const OTHER: &str = "11111111-2222-4333-8444-555555555555";

    fn is_prefixed(values: &[&str]) -> bool {
        let mut census = Census::default();
        values.iter().for_each(|value| census.add(value.as_bytes(), Uuid::try_parse(OWN).unwrap()));
        census.is_prefixed()
    }

    #[test]
    fn most_rows_decide() {
        let own = |value: &str| format!("{OWN}:{value}");
        assert!(is_prefixed(&[&own("a"), &own("b"), "c"]));
        assert!(!is_prefixed(&[&own("a"), "b", "c"]));
        assert!(!is_prefixed(&["a", "", OWN]));
        assert!(!is_prefixed(&[]));
    }

    #[test]
    fn cipher_text_and_foreign_ids_do_not_decide() {
        let (own, foreign) = (format!("{OWN}:a"), format!("{OTHER}:a"));
        assert!(is_prefixed(&[&own, "$ke$1$-a", "$ke$1$-b"]));
        assert!(is_prefixed(&[&own, &foreign, &foreign]));
        assert!(!is_prefixed(&[&foreign]));
    }
}
