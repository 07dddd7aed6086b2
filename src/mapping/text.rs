//! What PostgreSQL accepts as text: strict UTF-8 without U+0000 (docs/kong-data-model.md, 4.7).

use super::reason::Reason;

/// Says why PostgreSQL would refuse these bytes as `text`, if it would.
///
/// Cassandra accepts more than UTF-8: surrogates, overlong forms, even some broken sequences. Nothing is replaced
/// here: a replaced byte in a key or a secret would be a credential that is silently another one.
pub fn check(bytes: &[u8]) -> Result<&str, Reason> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| Reason::TextNotUtf8)?;
    if memchr::memchr(0, bytes).is_some() {
        return Err(Reason::TextNul);
    }
    Ok(text)
}

/// How many characters a text has that is known to be UTF-8.
pub fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_passes_and_stays_as_it_is() {
        for text in ["", "a:b", "Zoë 日本 🐘", "\r\n\t\u{1}\u{7f}"] {
            assert_eq!(check(text.as_bytes()), Ok(text));
        }
    }

    #[test]
    fn every_sequence_that_cassandra_takes_and_postgres_refuses_is_found() {
        let refused: [&[u8]; 7] = [
            &[0xc0, 0x80],
            &[0xed, 0xa0, 0x80],
            &[0xf4, 0x90, 0x80, 0x80],
            &[0xf5, 0x80, 0x80, 0x80],
            &[0xe0, 0x41, 0x80],
            &[0xf0, 0x30, 0x80, 0x80],
            &[0xff],
        ];
        for bytes in refused {
            assert_eq!(check(bytes), Err(Reason::TextNotUtf8), "{bytes:x?}");
        }
        assert_eq!(check(b"nul\0char"), Err(Reason::TextNul));
    }
}
