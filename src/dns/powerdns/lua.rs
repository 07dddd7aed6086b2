//! The Lua code of a split record, made from typed values only: PowerDNS stores any text, and answers SERVFAIL if it is
//! invalid.

use serde::Deserialize;

use crate::dns::{Record, RecordState, RecordType, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// `pickwrandom`: each query independently.
    #[default]
    Random,
    /// `pickwhashed`: by the resolver's address. A client on green stays there as the share grows.
    Hashed,
}

impl Policy {
    fn function(self) -> &'static str {
        match self {
            Policy::Random => "pickwrandom",
            Policy::Hashed => "pickwhashed",
        }
    }

    /// Scales lowest terms to a sum of 100, readable as per cent, or of 10,000. For hashes the sum must be the same in
    /// all steps: another sum would reassign clients.
    pub(super) fn scaled(self, blue: u32, green: u32) -> (u32, u32) {
        let sum = blue + green;
        let target_sum = if self == Policy::Random && 100 % sum == 0 { 100 } else { 10_000 };
        (blue * target_sum / sum, green * target_sum / sum)
    }
}

/// The content of the LUA record: type and quoted code.
pub(super) fn content(policy: Policy, record: &Record, blue: u32, green: u32) -> String {
    let [before, between, after] = template(policy, record);
    format!("{before}{blue}{between}{green}{after}")
}

/// Parses the weights; `None` for a text that [`content`] does not produce for this record.
pub(super) fn state(record: &Record, content: &str) -> Option<RecordState> {
    [Policy::Random, Policy::Hashed].into_iter().find_map(|policy| {
        let [before, between, after] = template(policy, record);
        let (blue, green) = content.strip_prefix(&*before)?.strip_suffix(&*after)?.split_once(&*between)?;
        Some(RecordState::Split { blue: blue.parse().ok()?, green: green.parse().ok()? })
    })
}

/// The text before blue's weight, between the weights, and after green's.
///
/// With one value on each side a plain call; otherwise a side is drawn, and the answer is all of its values.
fn template(policy: Policy, record: &Record) -> [String; 3] {
    let function = policy.function();
    let rtype = record.key.rtype;
    if let ([blue], [green]) = (&*record.blue, &*record.green) {
        return [
            format!("{rtype} \"{function}({{ {{"),
            format!(",{}}}, {{", quoted(blue)),
            format!(",{}}} }})\"", quoted(green)),
        ];
    }
    let list = |values: &[Value]| values.iter().map(quoted).collect::<Vec<_>>().join(",");
    [
        format!("{rtype} \";if {function}({{ {{"),
        ",'blue'}, {".to_owned(),
        format!(
            ",'green'}} }}) == 'green' then return {{{}}} else return {{{}}} end\"",
            list(&record.green),
            list(&record.blue)
        ),
    ]
}

/// Addresses and names contain no quotes and backslashes.
fn quoted(value: &Value) -> String {
    format!("'{value}'")
}

/// Whether a LUA record's content answers queries of this type.
pub(super) fn is_for(rtype: RecordType, content: &str) -> bool {
    content.split_ascii_whitespace().next().is_some_and(|first| first.eq_ignore_ascii_case(rtype.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::target::tests::record;

    #[test]
    fn one_value_on_each_side_makes_a_plain_call() {
        let a = record(RecordType::A, &["192.0.2.1"], &["192.0.2.2"]);
        assert_eq!(
            content(Policy::Random, &a, 99, 1),
            "A \"pickwrandom({ {99,'192.0.2.1'}, {1,'192.0.2.2'} })\""
        );
        let cname = record(RecordType::Cname, &["blue.example.net"], &["green.example.net"]);
        assert_eq!(
            content(Policy::Hashed, &cname, 9900, 100),
            "CNAME \"pickwhashed({ {9900,'blue.example.net.'}, {100,'green.example.net.'} })\""
        );
    }

    #[test]
    fn an_answer_has_all_values_of_a_side() {
        let a = record(RecordType::A, &["192.0.2.1", "192.0.2.3"], &["192.0.2.2"]);
        assert_eq!(
            content(Policy::Random, &a, 95, 5),
            "A \";if pickwrandom({ {95,'blue'}, {5,'green'} }) == 'green' then return {'192.0.2.2'} \
             else return {'192.0.2.1','192.0.2.3'} end\""
        );
    }

    #[test]
    fn only_generated_code_is_parsed() {
        let single = record(RecordType::Aaaa, &["2001:db8::1"], &["2001:db8::2"]);
        let multiple = record(RecordType::A, &["192.0.2.1", "192.0.2.3"], &["192.0.2.2"]);
        for record in [single, multiple] {
            for policy in [Policy::Random, Policy::Hashed] {
                let text = content(policy, &record, 9999, 1);
                assert_eq!(state(&record, &text), Some(RecordState::Split { blue: 9999, green: 1 }));
                for invalid in
                    [text.replace("9999", "-1"), text.replace("2.2", "2.9").replace("::2", "::9"), text + " "]
                {
                    assert_eq!(state(&record, &invalid), None, "{invalid}");
                }
            }
        }
    }

    #[test]
    fn weights_are_per_cent_where_possible() {
        assert_eq!(Policy::Random.scaled(99, 1), (99, 1));
        assert_eq!(Policy::Random.scaled(19, 1), (95, 5));
        assert_eq!(Policy::Random.scaled(1, 0), (100, 0));
        assert_eq!(Policy::Random.scaled(7, 1), (8750, 1250));
        assert_eq!(Policy::Hashed.scaled(99, 1), (9900, 100));
        assert_eq!(Policy::Hashed.scaled(1, 1), (5000, 5000));
    }
}
