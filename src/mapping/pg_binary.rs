//! The formats that PostgreSQL's `COPY … (FORMAT binary)` reads, appended to a buffer.
//!
//! Source: PostgreSQL documentation, "COPY", section "Binary Format", and the `…recv` functions of the types.

/// What every COPY in binary format begins with: signature, flags, no header extension.
pub const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What every COPY in binary format ends with.
pub const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Milliseconds from 1970 to 2000, where PostgreSQL's timestamps begin.
const EPOCH_2000_MS: i64 = 946_684_800_000;

/// First instant of `timestamp` and `timestamptz`, 4714-11-24 BC, in microseconds since 2000.
const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;

/// First instant after the last one, 294277-01-01, in microseconds since 2000.
const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;

/// Begins a row of so many columns.
pub fn row(out: &mut Vec<u8>, columns: i16) {
    out.extend(columns.to_be_bytes());
}

/// NULL.
pub fn null(out: &mut Vec<u8>) {
    out.extend((-1_i32).to_be_bytes());
}

/// A field whose length is known only after `write` has appended it.
///
/// A field over 2 GiB cannot be told to PostgreSQL; a CQL cell is never that long, so the length saturates and
/// PostgreSQL refuses the row.
pub fn field<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    out.extend([0; 4]);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Begins a one-dimensional array without nulls; its elements follow as fields.
pub fn array(out: &mut Vec<u8>, element_oid: u32, length: usize) {
    let dimensions = i32::from(length > 0);
    out.extend(dimensions.to_be_bytes());
    out.extend(0_i32.to_be_bytes());
    out.extend(element_oid.to_be_bytes());
    if length > 0 {
        out.extend(i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
        out.extend(1_i32.to_be_bytes());
    }
}

/// Milliseconds since 1970 as PostgreSQL counts them, or `None` where it cannot hold the instant.
pub fn timestamp(milliseconds: i64) -> Option<i64> {
    let microseconds = milliseconds.checked_sub(EPOCH_2000_MS)?.checked_mul(1000)?;
    (TIMESTAMP_MIN..TIMESTAMP_END).contains(&microseconds).then_some(microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_keeps_its_milliseconds_and_its_bounds() {
        assert_eq!(timestamp(946_684_800_001), Some(1000));
        assert_eq!(timestamp(0), Some(-946_684_800_000_000));
        assert_eq!(timestamp(i64::MAX), None);
        assert_eq!(timestamp(i64::MIN), None);
        assert_eq!(timestamp(EPOCH_2000_MS + TIMESTAMP_END / 1000), None);
        assert_eq!(timestamp(EPOCH_2000_MS + TIMESTAMP_END / 1000 - 1), Some(TIMESTAMP_END - 1000));
        assert_eq!(timestamp(EPOCH_2000_MS + TIMESTAMP_MIN / 1000), Some(TIMESTAMP_MIN));
        assert_eq!(timestamp(EPOCH_2000_MS + TIMESTAMP_MIN / 1000 - 1), None);
    }

    #[test]
    fn an_empty_array_has_no_dimension() {
        let mut out = Vec::new();
        array(&mut out, 25, 0);
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]);
    }
}
