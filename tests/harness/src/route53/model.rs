//! AWS's own model of Route 53 as a judge of requests: which elements, in which order, of which values.
//!
//! `service-2.extract.json` holds the shapes of botocore's `service-2.json` (its first key says which version)
//! that these requests are made of.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

const MODEL: &str = include_str!("service-2.extract.json");

/// One element of a parsed document.
#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    /// Its `xmlns`.
    pub namespace: Option<String>,
    pub children: Vec<Element>,
    pub text: String,
}

impl Element {
    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of that name.
    pub fn text_of(&self, name: &str) -> Option<String> {
        self.child(name).map(|child| child.text.trim().to_owned())
    }
}

pub fn parse(xml: &str) -> Element {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<Element> = vec![Element::default()];
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                let namespace = start.attributes().flatten().find(|a| a.key.as_ref() == "xmlns");
                open.push(Element {
                    name: start.local_name().as_ref().to_owned(),
                    namespace: namespace.map(|a| a.value.to_string()),
                    ..Element::default()
                });
            }
            Event::End(_) => {
                let done = open.pop().unwrap();
                open.last_mut().unwrap().children.push(done);
            }
            Event::Text(text) => open.last_mut().unwrap().text.push_str(&text),
            Event::GeneralRef(entity) => {
                let resolved = match &*entity {
                    "quot" => "\"",
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    "apos" => "'",
                    other => panic!("the entity {other}"),
                };
                open.last_mut().unwrap().text.push_str(resolved);
            }
            Event::Eof => return open.pop().unwrap().children.pop().unwrap(),
            _ => {}
        }
    }
}

/// What the model has against the body of a ChangeResourceRecordSets.
pub fn complaints(xml: &str) -> Vec<String> {
    let model: Value = serde_json::from_str(MODEL).unwrap();
    let input = &model["operations"]["ChangeResourceRecordSets"]["input"];
    let root = parse(xml);
    let mut complaints = Vec::new();
    if root.name != input["locationName"] {
        complaints.push(format!("the root is {}", root.name));
    }
    if root.namespace.as_deref() != input["xmlNamespace"]["uri"].as_str() {
        complaints.push(format!("the namespace is {:?}", root.namespace));
    }
    structure(&model, input["shape"].as_str().unwrap(), &root, &mut complaints);
    complaints
}

fn check(model: &Value, shape: &str, element: &Element, complaints: &mut Vec<String>) {
    let definition = &model["shapes"][shape];
    match definition["type"].as_str().unwrap() {
        "structure" => structure(model, shape, element, complaints),
        "list" => {
            let member = &definition["member"];
            let name = member["locationName"].as_str().unwrap_or("member");
            if let Some(least) = definition["min"].as_u64()
                && (element.children.len() as u64) < least
            {
                complaints.push(format!("{} has fewer than {least} members", element.name));
            }
            for child in &element.children {
                if child.name != name {
                    complaints.push(format!("{} in {}", child.name, element.name));
                }
                check(model, member["shape"].as_str().unwrap(), child, complaints);
            }
        }
        "string" => string(definition, element, complaints),
        "integer" | "long" => number(definition, element, complaints),
        "boolean" => {
            if !matches!(&*element.text, "true" | "false") {
                complaints.push(format!("{} is {}", element.name, element.text));
            }
        }
        other => panic!("no rule for the type {other}"),
    }
}

fn structure(model: &Value, shape: &str, element: &Element, complaints: &mut Vec<String>) {
    let definition = &model["shapes"][shape];
    let members = definition["members"].as_object().unwrap();
    // What is in the path is not in the body.
    let in_body = |name: &&String| members[*name].get("location").is_none();
    let order: Vec<&String> = members.keys().filter(in_body).collect();
    let mut last = 0;
    for child in &element.children {
        let Some(position) = order.iter().position(|name| **name == child.name) else {
            complaints.push(format!("{} in {} is not known", child.name, element.name));
            continue;
        };
        if position < last {
            complaints.push(format!("{} in {} is out of order", child.name, element.name));
        }
        last = position;
        check(model, members[&child.name]["shape"].as_str().unwrap(), child, complaints);
    }
    for required in definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if order.iter().any(|name| *name == required) && element.child(required).is_none() {
            complaints.push(format!("{} lacks {required}", element.name));
        }
    }
}

fn string(definition: &Value, element: &Element, complaints: &mut Vec<String>) {
    let length = element.text.chars().count() as u64;
    let too_short = definition["min"].as_u64().is_some_and(|least| length < least);
    let too_long = definition["max"].as_u64().is_some_and(|most| length > most);
    let allowed = definition["enum"].as_array();
    if too_short || too_long || allowed.is_some_and(|all| !all.iter().any(|one| *one == element.text)) {
        complaints.push(format!("{} is {:?}", element.name, element.text));
    }
}

fn number(definition: &Value, element: &Element, complaints: &mut Vec<String>) {
    let fits = element.text.parse::<i64>().is_ok_and(|number| {
        definition["min"].as_i64().is_none_or(|least| number >= least)
            && definition["max"].as_i64().is_none_or(|most| number <= most)
    });
    if !fits {
        complaints.push(format!("{} is {}", element.name, element.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
        <ChangeBatch><Changes><Change><Action>UPSERT</Action><ResourceRecordSet><Name>a.b.</Name><Type>A</Type>\
        <SetIdentifier>x</SetIdentifier><Weight>1</Weight><TTL>30</TTL><ResourceRecords><ResourceRecord>\
        <Value>192.0.2.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch>\
        </ChangeResourceRecordSetsRequest>";

    #[test]
    fn the_model_refuses_what_aws_would_refuse() {
        assert_eq!(complaints(GOOD), Vec::<String>::new());
        for (good, bad) in [
            ("<Weight>1<", "<Weight>256<"),
            ("<Weight>1<", "<Weight>-1<"),
            ("<Weight>1<", "<Weight>0.5<"),
            ("UPSERT", "REPLACE"),
            ("<Type>A<", "<Type>B<"),
            ("<TTL>30</TTL>", "<Ttl>30</Ttl>"),
            (
                "<SetIdentifier>x</SetIdentifier><Weight>1</Weight>",
                "<Weight>1</Weight><SetIdentifier>x</SetIdentifier>",
            ),
            ("<SetIdentifier>x<", "<SetIdentifier><"),
            ("<Name>a.b.</Name>", ""),
            ("2013-04-01/", "2012-12-12/"),
        ] {
            let changed = GOOD.replace(good, bad);
            assert_ne!(changed, GOOD);
            assert_ne!(complaints(&changed), Vec::<String>::new(), "{bad}");
        }
    }
}
