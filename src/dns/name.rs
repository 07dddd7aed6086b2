//! A domain name for requests, scripts and queries: absolute, in lower case, of characters that need no escaping.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An absolute domain name in lower case with its final dot, such as `api.example.com.`.
///
/// It consists of letters, digits, `-`, `_`, dots, and `*` as a whole first label, so that it needs no escaping in JSON,
/// XML, Lua and shell scripts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

impl DomainName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the final dot, as in `cutover.toml`.
    pub fn without_dot(&self) -> &str {
        &self.0[..self.0.len() - 1]
    }

    /// Whether this name is `zone` or is below it.
    pub fn is_in(&self, zone: &DomainName) -> bool {
        self.0.strip_suffix(&zone.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The name without its first label; `None` for a name of one label.
    pub fn parent(&self) -> Option<DomainName> {
        let (_, parent) = self.0.split_once('.')?;
        (!parent.is_empty()).then(|| DomainName(parent.to_owned()))
    }

    /// `_kongferry.NAME`: the TXT record of the marker, for providers that store it in a record.
    pub fn marker_name(&self) -> DomainName {
        // A wildcard must be the first label.
        DomainName(format!("_kongferry.{}", self.0.strip_prefix("*.").unwrap_or(&self.0)))
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.without_dot())
    }
}

impl FromStr for DomainName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| {
            Error::usage(format!("\"{}\" is not a domain name: {reason}", text.escape_debug()))
        };
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return Err(invalid("it is empty"));
        }
        // 255 bytes on the wire are 253 characters of text.
        if name.len() > 253 {
            return Err(invalid("it is longer than 253 characters"));
        }
        for (position, label) in name.split('.').enumerate() {
            if label.is_empty() || label.len() > 63 {
                return Err(invalid("each label has 1 to 63 characters"));
            }
            let is_allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
            if !(label.bytes().all(is_allowed) || (position == 0 && label == "*")) {
                return Err(invalid(
                    "only letters, digits, - and _ are allowed (write international names in Punycode, xn--…)",
                ));
            }
        }
        Ok(DomainName(name + "."))
    }
}

impl TryFrom<String> for DomainName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_absolute_and_in_lower_case() {
        assert_eq!(name("API.Example.com").as_str(), "api.example.com.");
        assert_eq!(name("api.example.com."), name("api.example.com"));
        assert_eq!(name("api.example.com").to_string(), "api.example.com");
    }

    #[test]
    fn names_that_would_need_escaping_are_invalid() {
        let long = ["a"; 64].concat();
        for invalid in
            ["", ".", "a..b", "a b", "a'b", "a\"b", "a\nb", "a;b", "b.*", "ü.de", "a/b", "<a>", &long]
        {
            assert!(invalid.parse::<DomainName>().is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn a_name_is_in_its_zone_by_whole_labels() {
        assert!(name("api.example.com").is_in(&name("example.com")));
        assert!(name("example.com").is_in(&name("example.com")));
        assert!(!name("notexample.com").is_in(&name("example.com")));
        assert!(!name("com").is_in(&name("example.com")));
    }

    #[test]
    fn the_marker_of_a_wildcard_is_its_sibling() {
        assert_eq!(name("*.example.com").marker_name().as_str(), "_kongferry.example.com.");
        assert_eq!(name("api.example.com").marker_name().as_str(), "_kongferry.api.example.com.");
    }
}
