//! What the ledger keeps of a row: short digests of its key and of its values.
//!
//! Both are taken over the fields of PostgreSQL's binary row, so a row that is about to be written and a row that
//! green gives back have the same digest: most types come out as the bytes that went in. `jsonb` does not – green
//! stores values, not text –, so JSON is digested by value. The expiry stays out: an unchanged row with a time to live
//! is read a second later or earlier at every run (docs/architecture.md, "Time to live"), and is compared by itself.

use ring::digest::{Context, SHA256};

use super::canonical_json::CanonicalJson;
use super::table_plan::TablePlan;

/// Half of a SHA-256: enough to tell any two rows apart that are not made to be mistaken.
pub type Digest128 = [u8; 16];

/// What is kept of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowDigest {
    pub key: Digest128,
    pub digest: Digest128,
    /// Its expiry, in PostgreSQL's microseconds since 2000.
    pub expiry: Option<i64>,
}

/// Makes the marks of one table's rows.
#[derive(Debug, Clone)]
pub struct Digester {
    /// Places of the key's columns, in the key's order.
    key: Vec<usize>,
    columns: Vec<ColumnDigest>,
    /// Memory that goes from row to row.
    json: CanonicalJson,
}

/// How the values of a column are digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnDigest {
    Plain,
    /// `character(n)` comes back with blanks at its end.
    Padded,
    Jsonb,
    JsonbArray,
    Expiry,
}

impl Digester {
    /// For rows with the columns of this plan, in its order.
    pub fn new(plan: &TablePlan) -> Digester {
        let place = |name: &String| plan.columns.iter().position(|column| column.name == *name);
        let shape = |name: &String, green_type: &str| match green_type {
            _ if plan.expiry.as_ref() == Some(name) => ColumnDigest::Expiry,
            other => ColumnDigest::from_type(other),
        };
        Digester {
            key: plan.key.iter().filter_map(place).collect(),
            columns: plan.columns.iter().map(|column| shape(&column.name, &column.green_type)).collect(),
            json: CanonicalJson::default(),
        }
    }

    /// The short form of the key of one row in binary COPY format; nothing where these bytes are not such a row.
    pub fn key(&self, row: &[u8]) -> Option<Digest128> {
        let mut hasher = Context::new(&SHA256);
        for place in &self.key {
            let mut rest = row.get(2..)?;
            for _ in 0..*place {
                field(&mut rest)?;
            }
            add(&mut hasher, field(&mut rest)?.unwrap_or_default());
        }
        Some(short(hasher))
    }

    /// The digest of the values of such a row, and its expiry.
    pub fn values(&mut self, row: &[u8]) -> Option<(Digest128, Option<i64>)> {
        let mut hasher = Context::new(&SHA256);
        let mut expiry = None;
        // What is digested as it stands, field after field, is digested in one piece.
        let (mut plain, mut rest) = (2, row.get(2..)?);
        for shape in &self.columns {
            let at = row.len() - rest.len();
            let field = field(&mut rest)?;
            if *shape == ColumnDigest::Plain || (field.is_none() && *shape != ColumnDigest::Expiry) {
                continue;
            }
            hasher.update(row.get(plain..at)?);
            plain = row.len() - rest.len();
            match shape {
                ColumnDigest::Expiry => expiry = expiry_of(field),
                shape => shape.add(&mut hasher, field, &mut self.json),
            }
        }
        hasher.update(row.get(plain..row.len() - rest.len())?);
        Some((short(hasher), expiry))
    }

    /// The mark of a row whose fields are already apart.
    pub fn digest_fields(&mut self, fields: &[Option<&[u8]>]) -> RowDigest {
        let mut hasher = Context::new(&SHA256);
        let mut expiry = None;
        for (shape, field) in self.columns.iter().zip(fields) {
            match shape {
                ColumnDigest::Expiry => expiry = expiry_of(*field),
                shape => shape.add(&mut hasher, *field, &mut self.json),
            }
        }
        let key: Vec<Option<&[u8]>> = self.key.iter().map(|at| fields.get(*at).copied().flatten()).collect();
        RowDigest { key: key_of(&key), digest: short(hasher), expiry }
    }
}

impl ColumnDigest {
    /// For a type as `format_type()` spells it. Most types come back from PostgreSQL as the bytes that were written.
    pub(crate) fn from_type(green_type: &str) -> Self {
        match green_type {
            "jsonb" => ColumnDigest::Jsonb,
            "jsonb[]" => ColumnDigest::JsonbArray,
            padded if padded.starts_with("character(") => ColumnDigest::Padded,
            _ => ColumnDigest::Plain,
        }
    }

    /// Digests a field of this shape: like binary COPY, its length and its bytes.
    fn add(self, hasher: &mut Context, field: Option<&[u8]>, json: &mut CanonicalJson) {
        match (self, field) {
            (_, None) => hasher.update(&(-1_i32).to_be_bytes()),
            (ColumnDigest::Plain | ColumnDigest::Expiry, Some(bytes)) => add(hasher, bytes),
            (ColumnDigest::Padded, Some(bytes)) => add(hasher, bytes.trim_ascii_end()),
            (ColumnDigest::Jsonb, Some(bytes)) => add(hasher, canonical(bytes, json)),
            (ColumnDigest::JsonbArray, Some(bytes)) => jsonb_array(hasher, bytes, json),
        }
    }
}

fn expiry_of(field: Option<&[u8]>) -> Option<i64> {
    field.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes)
}

/// The short form of a key, from its fields in the key's order.
pub fn key_of(fields: &[Option<&[u8]>]) -> Digest128 {
    let mut hasher = Context::new(&SHA256);
    for field in fields {
        add(&mut hasher, field.unwrap_or_default());
    }
    short(hasher)
}

/// The fields of one row in binary COPY format.
pub fn fields(row: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let count = i16::from_be_bytes(row.get(..2)?.try_into().ok()?);
    let mut rest = row.get(2..)?;
    (0..count).map(|_| field(&mut rest)).collect()
}

/// Takes the next field off the front of a row; within, nothing where it is null.
fn field<'r>(rest: &mut &'r [u8]) -> Option<Option<&'r [u8]>> {
    let (length, behind) = rest.split_first_chunk()?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        *rest = behind;
        return Some(None);
    };
    let (field, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(Some(field))
}

fn add(hasher: &mut Context, bytes: &[u8]) {
    hasher.update(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    hasher.update(bytes);
}

fn short(hasher: Context) -> Digest128 {
    let mut short = Digest128::default();
    short.iter_mut().zip(hasher.finish().as_ref()).for_each(|(to, from)| *to = *from);
    short
}

/// A `jsonb` field is a version byte and a text.
fn canonical<'j>(field: &[u8], json: &'j mut CanonicalJson) -> &'j [u8] {
    json.canonical(field.get(1..).unwrap_or_default())
}

fn jsonb_array(hasher: &mut Context, field: &[u8], json: &mut CanonicalJson) {
    // Dimensions, a flag, the type, and per dimension its length and lower bound; then the elements as fields.
    let Some(dimensions) = field.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes)
    else {
        return add(hasher, field);
    };
    let mut at = 12 + usize::try_from(dimensions).unwrap_or(0) * 8;
    add(hasher, field.get(12..at).unwrap_or_default());
    while let Some(length) =
        field.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes)
    {
        at += 4;
        let end = at + usize::try_from(length).unwrap_or(0);
        match field.get(at..end) {
            Some(element) if length >= 0 => add(hasher, canonical(element, json)),
            _ => hasher.update(&(-1_i32).to_be_bytes()),
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape() -> impl Strategy<Value = ColumnDigest> {
        use ColumnDigest::{Expiry, Jsonb, JsonbArray, Padded, Plain};
        proptest::sample::select(vec![Plain, Plain, Plain, Padded, Jsonb, JsonbArray, Expiry])
    }

    fn encoded(fields: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut row = i16::try_from(fields.len()).expect("few").to_be_bytes().to_vec();
        for field in fields {
            match field {
                None => row.extend((-1_i32).to_be_bytes()),
                Some(bytes) => {
                    row.extend(i32::try_from(bytes.len()).expect("short").to_be_bytes());
                    row.extend(bytes);
                }
            }
        }
        row
    }

    proptest! {
        /// What is about to be written and what green gives back are marked by two ways.
        #[test]
        fn a_row_has_one_mark_whole_or_in_fields(
            columns in proptest::collection::vec((shape(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))), 1..9),
            key in proptest::collection::vec(any::<proptest::sample::Index>(), 1..3),
        ) {
            let (shapes, fields): (Vec<ColumnDigest>, Vec<Option<Vec<u8>>>) = columns.into_iter().unzip();
            let key = key.iter().map(|place| place.index(shapes.len())).collect();
            let mut digester = Digester { key, columns: shapes, json: CanonicalJson::default() };
            let row = encoded(&fields);
            let apart: Vec<Option<&[u8]>> = fields.iter().map(Option::as_deref).collect();
            let mark = digester.digest_fields(&apart);
            prop_assert_eq!(digester.key(&row), Some(mark.key));
            prop_assert_eq!(digester.values(&row), Some((mark.digest, mark.expiry)));
            for cut in 0..row.len() {
                prop_assert_eq!(digester.values(&row[..cut]), None);
            }
        }
    }

    fn plain(columns: &[ColumnDigest]) -> Digester {
        Digester { key: vec![0], columns: columns.to_vec(), json: CanonicalJson::default() }
    }

    #[test]
    fn a_row_is_taken_apart_or_refused_whole() {
        let row = [0, 2, 0, 0, 0, 1, b'x', 255, 255, 255, 255];
        assert_eq!(fields(&row), Some(vec![Some(b"x".as_slice()), None]));
        assert_eq!(fields(&row[..8]), None);
    }

    #[test]
    fn neighbouring_fields_do_not_run_into_each_other() {
        let mut digester = plain(&[ColumnDigest::Plain, ColumnDigest::Plain]);
        let mut mark =
            |one: &'static [u8], two: &'static [u8]| digester.digest_fields(&[Some(one), Some(two)]);
        assert_ne!(mark(b"ab", b"c").digest, mark(b"a", b"bc").digest);
        assert_eq!(mark(b"a", b"c").key, mark(b"a", b"b").key);
        assert_ne!(
            digester.digest_fields(&[None, Some(b"")]).digest,
            digester.digest_fields(&[Some(b""), None]).digest
        );
    }

    #[test]
    fn the_expiry_stays_out_of_the_digest() {
        let mut digester = plain(&[ColumnDigest::Plain, ColumnDigest::Expiry]);
        let mut mark = |at: i64| digester.digest_fields(&[Some(b"a"), Some(&at.to_be_bytes())]);
        assert_eq!(mark(1).digest, mark(2).digest);
        assert_eq!(mark(7).expiry, Some(7));
    }
}
