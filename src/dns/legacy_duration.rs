//! Durations of `cutover.toml`: `"5s"`, or an integer as under the keys of earlier releases, whose names had the unit.

use std::fmt;
use std::time::Duration;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

pub(super) fn or_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor { from_integer: Duration::from_secs })
}

pub(super) fn or_milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor { from_integer: Duration::from_millis })
}

struct DurationVisitor {
    from_integer: fn(u64) -> Duration,
}

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        humantime::parse_duration(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<Duration, E> {
        let unsigned = u64::try_from(integer);
        unsigned.map(self.from_integer).map_err(|_| E::invalid_value(Unexpected::Signed(integer), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::exec::ExecConfig;
    use crate::dns::powerdns::PowerDnsConfig;
    use crate::dns::query::QueryConfig;
    use crate::dns::rfc2136::Rfc2136Config;

    fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn keys_of_earlier_releases_are_read() {
        let exec = |key: &str| parse::<ExecConfig>(&format!("command = [\"x\"]\n{key}")).timeout;
        let tsig = "server = \"ns1\"\ntsig = { name = \"k\", secret = { env = \"K\" } }";
        let rfc2136 = |key: &str| parse::<Rfc2136Config>(&format!("{tsig}\n{key}")).timeout;
        let url = "url = \"http://127.0.0.1:8081\"\napi_key = { env = \"K\" }";
        let powerdns = |key: &str| parse::<PowerDnsConfig>(&format!("{url}\n{key}")).replica_cache_ttl;
        let query = |key: &str| parse::<QueryConfig>(key).timeout;
        for (read, today, earlier, seconds) in [
            (&exec as &dyn Fn(&str) -> Duration, "timeout = \"7s\"", "timeout_seconds = 7", 7),
            (&rfc2136, "timeout = \"1m\"", "timeout_seconds = 60", 60),
            (&powerdns, "replica_cache_ttl = \"20s\"", "replica_cache_seconds = 20", 20),
            (&query, "timeout = \"3s\"", "timeout_ms = 3000", 3),
        ] {
            assert_eq!(read(today), Duration::from_secs(seconds), "{today}");
            assert_eq!(read(earlier), Duration::from_secs(seconds), "{earlier}");
        }
    }

    #[test]
    fn other_values_are_refused() {
        for value in ["\"soon\"", "-1", "1.5", "true", "\"30\""] {
            let error = toml::from_str::<QueryConfig>(&format!("timeout = {value}")).unwrap_err();
            assert!(error.message().contains("a duration"), "{value}: {error}");
        }
        assert!(toml::from_str::<QueryConfig>("timeout = \"3s\"\ntimeout_ms = 3000").is_err());
    }
}
