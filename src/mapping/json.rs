//! Whether PostgreSQL accepts a text as JSON, decided over the bytes.
//!
//! The text itself is handed to PostgreSQL unchanged, so that no number is ever printed again. `serde_json` checks the
//! grammar; what `jsonb` refuses beyond it, `\u0000` and lone surrogates, is checked here. Neither recurses, so deep
//! nesting cannot exhaust the stack. What only PostgreSQL can know, its own stack depth and the range of `numeric`, is
//! left to PostgreSQL: a row that COPY refuses is rejected then.

use serde::de::IgnoredAny;

use super::reason::Reason;

/// Which PostgreSQL type the text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// Keeps the text: an escaped U+0000 or a lone surrogate is only text there.
    Json,
    /// Stores the value: such escapes are refused.
    Jsonb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopLevel {
    /// `{…}`
    Object,
    Other,
}

/// Checks one JSON text, already known to be UTF-8 without U+0000, and returns what its outermost value is.
pub fn check(json: &[u8], json_type: JsonType) -> Result<TopLevel, Reason> {
    serde_json::from_slice::<IgnoredAny>(json).map_err(|_| Reason::JsonInvalid)?;
    if json_type == JsonType::Jsonb && !escapes_are_characters(json) {
        return Err(Reason::JsonInvalid);
    }
    let is_object = json.trim_ascii_start().starts_with(b"{");
    Ok(if is_object { TopLevel::Object } else { TopLevel::Other })
}

/// Whether every escape of this valid JSON is a character that a text of PostgreSQL can hold. Valid JSON has
/// backslashes in strings only, and each begins an escape.
fn escapes_are_characters(json: &[u8]) -> bool {
    // Most texts have no such escape, and this search is much faster than the walk.
    if memchr::memmem::find(json, br"\u").is_none() {
        return true;
    }
    let mut rest = json;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        rest = rest.get(at..).unwrap_or_default();
        let length = match utf16_unit(rest) {
            None => 2,
            Some(0 | 0xdc00..=0xdfff) => return false,
            Some(0xd800..=0xdbff) => match rest.get(6..).and_then(utf16_unit) {
                Some(0xdc00..=0xdfff) => 12,
                _ => return false,
            },
            Some(_) => 6,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    true
}

/// The unit of UTF-16 that `\uXXXX` at the beginning of this text is.
fn utf16_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(br"\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_as_kong_writes_it_is_accepted() {
        for text in [
            "{}",
            r#"{"path":"\/a\/b","list":[],"nothing":null,"n":1e+15,"f":-0.5,"t":true}"#,
            " {\"a\" : [ { } , [ ] , 0 ] }\n",
            r#"{"emoji":"\ud83d\ude00","raw":"🐘"}"#,
        ] {
            assert_eq!(check(text.as_bytes(), JsonType::Jsonb), Ok(TopLevel::Object), "{text}");
        }
        assert_eq!(check(b"[1]", JsonType::Jsonb), Ok(TopLevel::Other));
        assert_eq!(check(b"\"{}\"", JsonType::Jsonb), Ok(TopLevel::Other));
    }

    #[test]
    fn text_that_postgresql_refuses_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "{\"a\":1,}",
            "[1,]",
            "{a:1}",
            "{'a':1}",
            "NaN",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":0x1f}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":1e}",
            "{\"a\":1}x",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "[1}",
            "{\"a\":[}",
            "nul",
            "truefalse",
            "1x",
        ] {
            assert_eq!(check(text.as_bytes(), JsonType::Jsonb), Err(Reason::JsonInvalid), "{text}");
            assert_eq!(check(text.as_bytes(), JsonType::Json), Err(Reason::JsonInvalid), "{text}");
        }
    }

    #[test]
    fn escapes_that_only_json_stores_are_refused_for_jsonb() {
        for text in
            [r#"{"a":"\u0000"}"#, r#"{"a":"\ud800"}"#, r#"{"a":"\ude00x"}"#, r#"{"a":"\ud800\u0041"}"#]
        {
            assert_eq!(check(text.as_bytes(), JsonType::Jsonb), Err(Reason::JsonInvalid), "{text}");
            assert_eq!(check(text.as_bytes(), JsonType::Json), Ok(TopLevel::Object), "{text}");
        }
    }

    #[test]
    fn depth_costs_memory_not_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(check(deep.as_bytes(), JsonType::Jsonb), Ok(TopLevel::Other));
    }

    proptest! {
        /// Each escape as `serde_json` reads it into a string, which refuses lone surrogates too.
        #[test]
        fn escapes_are_characters_where_serde_json_decodes_them(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "x", "é", r"\\", r#"\""#, r"\/", r"\u00e9", r"\u0000", r"\ud83d", r"\ude00", r"\uD83D\uDE00", "u0000", "ude00",
            ]), 0..8),
        ) {
            let text = format!("\"{}\"", pieces.concat());
            let decoded = serde_json::from_str::<String>(&text).ok().filter(|decoded| !decoded.contains('\0'));
            prop_assert_eq!(check(text.as_bytes(), JsonType::Jsonb).is_ok(), decoded.is_some(), "{}", text);
        }
    }
}
