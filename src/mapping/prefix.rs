//! The workspace id that Kong on Cassandra writes in front of unique texts, and what else may stand there.
//!
//! Kong's reader cuts 37 bytes whenever byte 37 is `:`; a migrator that did so would corrupt values. Cut is only the
//! row's own workspace id; every other shape is a finding (docs/kong-data-model.md, 1 and 4.4).

use uuid::Uuid;

use super::reason::Reason;

/// Length of a uuid in its text form.
const UUID: usize = 36;

/// The literal that a defect of Kong 2.1.0's migration wrote in place of values.
const LITERAL: &[u8] = b"$(VALUE)";

/// What was found in front of a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Stripped<'a> {
    /// The row's own workspace id stood in front; this is the value.
    Own(&'a [u8]),
    /// Nothing that looks like a workspace id; this is the value, and worth a note.
    Missing(&'a [u8]),
}

/// What the rows of one column do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixPolicy {
    /// Not known before they are counted.
    Undetermined,
    /// They carry it: it was observed, a map says so, or most rows do. A value without is kept and worth a note: Kong reads
    /// it as it is (docs/kong-data-model.md, 8.3).
    Prefixed,
    /// They do not; a value with it is inconsistent.
    Plain,
}

/// Values that Enterprise's keyring encrypted begin so.
pub const CIPHER: &[u8] = b"$ke$";

/// Whether a value carries its row's own workspace in front; nothing for cipher text, which does not show it.
pub fn has_prefix(value: &[u8], own: Uuid) -> Option<bool> {
    if value.starts_with(CIPHER) {
        return None;
    }
    Some(split(value).is_some_and(|(workspace, _)| workspace == own && is_lower_case(value)))
}

/// The same as [`strip`], for a column whose policy was counted.
pub fn strip_by_policy<'a>(
    value: &'a [u8],
    own: Uuid,
    known: &[Uuid],
    policy: PrefixPolicy,
) -> Result<Stripped<'a>, Reason> {
    match policy {
        PrefixPolicy::Prefixed | PrefixPolicy::Undetermined => strip(value, own, known),
        PrefixPolicy::Plain => match split(value) {
            Some((workspace, _)) if workspace == own => Err(Reason::InconsistentPrefix),
            Some((workspace, _)) if known.contains(&workspace) => Err(Reason::PrefixForeign),
            // Nothing was in front, so nothing is missing.
            _ => Ok(Stripped::Own(value)),
        },
    }
}

/// Takes the row's own workspace id off a unique text.
///
/// `known` are the ids of all workspaces on blue, in any order.
pub fn strip<'a>(value: &'a [u8], own: Uuid, known: &[Uuid]) -> Result<Stripped<'a>, Reason> {
    let Some((workspace, rest)) = split(value) else {
        return if value == LITERAL { Err(Reason::PrefixLiteral) } else { Ok(Stripped::Missing(value)) };
    };
    if workspace != own || !is_lower_case(value) {
        return Err(Reason::PrefixForeign);
    }
    if rest == LITERAL {
        return Err(Reason::PrefixLiteral);
    }
    match split(rest) {
        Some((again, _)) if again == own || known.contains(&again) => Err(Reason::PrefixDouble),
        _ => Ok(Stripped::Own(rest)),
    }
}

/// A uuid, a colon, and what follows.
fn split(value: &[u8]) -> Option<(Uuid, &[u8])> {
    let (head, rest) = value.split_at_checked(UUID)?;
    let rest = rest.strip_prefix(b":")?;
    Some((Uuid::try_parse_ascii(head).ok()?, rest))
}

/// Kong writes ids in lower case; upper case in front of a value is somebody else's text.
fn is_lower_case(value: &[u8]) -> bool {
    value.iter().take(UUID).all(|byte| !byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "a2a473df-2f8f-4630-a5d2-ce462300cede";
    const OTHER: &str = "11111111-2222-4333-8444-555555555555";
    const STRANGER: &str = "99999999-2222-4333-8444-555555555555";

    fn check(value: &str) -> Result<(bool, String), Reason> {
        let known = [Uuid::try_parse(OWN).unwrap(), Uuid::try_parse(OTHER).unwrap()];
        strip(value.as_bytes(), known[0], &known).map(|found| match found {
            Stripped::Own(rest) => (true, String::from_utf8(rest.to_vec()).unwrap()),
            Stripped::Missing(rest) => (false, String::from_utf8(rest.to_vec()).unwrap()),
        })
    }

    #[test]
    fn the_rows_own_workspace_is_taken_off_once() {
        for rest in ["bob", "a:b:c", ":starts:with:colon", "", "日本"] {
            assert_eq!(check(&format!("{OWN}:{rest}")), Ok((true, rest.to_owned())));
        }
    }

    #[test]
    fn a_uuid_that_is_no_workspace_is_part_of_the_value() {
        assert_eq!(check(&format!("{OWN}:{STRANGER}:x")), Ok((true, format!("{STRANGER}:x"))));
    }

    #[test]
    fn a_value_without_prefix_stays_whole() {
        for value in ["bob", "a:b", OWN, "0123456789012345678901234567890123456:x"] {
            assert_eq!(check(value), Ok((false, value.to_owned())));
        }
    }

    #[test]
    fn where_rows_are_counted_the_odd_ones_are_findings() {
        let own = Uuid::try_parse(OWN).unwrap();
        let known = [own, Uuid::try_parse(OTHER).unwrap()];
        let check = |value: &str, policy| {
            strip_by_policy(value.as_bytes(), own, &known, policy).map(|found| match found {
                Stripped::Own(rest) | Stripped::Missing(rest) => String::from_utf8(rest.to_vec()).unwrap(),
            })
        };
        let with = format!("{OWN}:bob");
        assert_eq!(check(&with, PrefixPolicy::Prefixed), Ok("bob".into()));
        assert_eq!(check("bob", PrefixPolicy::Prefixed), Ok("bob".into()));
        assert_eq!(check("$ke$1$-x", PrefixPolicy::Prefixed), Ok("$ke$1$-x".into()));
        assert_eq!(check(&format!("{OWN}:$ke$1$-x"), PrefixPolicy::Prefixed), Ok("$ke$1$-x".into()));
        assert_eq!(check("bob", PrefixPolicy::Plain), Ok("bob".into()));
        assert_eq!(check(&with, PrefixPolicy::Plain), Err(Reason::InconsistentPrefix));
        assert_eq!(check(&format!("{OTHER}:bob"), PrefixPolicy::Plain), Err(Reason::PrefixForeign));
        let url = format!("{STRANGER}:x");
        assert_eq!(
            check(&url, PrefixPolicy::Plain),
            Ok(url.clone()),
            "a uuid that is no workspace is part of the value"
        );
        assert_eq!((has_prefix(with.as_bytes(), own), has_prefix(b"bob", own)), (Some(true), Some(false)));
        assert_eq!(has_prefix(b"$ke$1$-x", own), None);
    }

    #[test]
    fn other_shapes_are_findings() {
        assert_eq!(check(&format!("{OTHER}:bob")), Err(Reason::PrefixForeign));
        assert_eq!(check(&format!("{STRANGER}:bob")), Err(Reason::PrefixForeign));
        assert_eq!(check(&format!("{}:bob", OWN.to_uppercase())), Err(Reason::PrefixForeign));
        assert_eq!(check(&format!("{OWN}:{OWN}:bob")), Err(Reason::PrefixDouble));
        assert_eq!(check(&format!("{OWN}:{OTHER}:bob")), Err(Reason::PrefixDouble));
        assert_eq!(check(&format!("{OWN}:$(VALUE)")), Err(Reason::PrefixLiteral));
        assert_eq!(check("$(VALUE)"), Err(Reason::PrefixLiteral));
    }
}
