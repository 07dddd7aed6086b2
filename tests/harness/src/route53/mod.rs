//! A stateful Route 53 over its own rules, which no emulator has, as its API reference states them: all or nothing,
//! DELETE must match, groups of weighted sets, PENDING before INSYNC, throttling with HTTP 400. Its requests are judged
//! by AWS's own model first, so that this fake cannot be wrong together with the code about what a request looks like.

pub mod model;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use model::Element;

/// What goes wrong with the next write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// HTTP 400, as Route 53 does it.
    Throttle,
    /// HTTP 400: another change is being carried out.
    PriorRequest,
    /// HTTP 403.
    Denied,
    /// HTTP 500, nothing written.
    Broken,
    /// Written, but the connection ends without an answer.
    LostAnswer,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// Its name, with the dot at the end.
    pub name: String,
    pub rtype: String,
    /// Its identifier and weight, where it has them.
    pub weighted: Option<(String, u32)>,
    pub ttl: Option<u32>,
    pub values: Vec<String>,
}

#[derive(Debug, Default)]
struct Zone {
    sets: Vec<Set>,
    faults: VecDeque<Option<Fault>>,
    changes: u32,
    asked: u32,
    writes: u32,
}

/// A Route 53 with one hosted zone, whatever its id.
#[derive(Debug)]
pub struct FakeRoute53 {
    url: String,
    zone: Arc<Mutex<Zone>>,
}

impl FakeRoute53 {
    /// With one ordinary A record of this name, TTL and address.
    pub async fn start(name: &str, ttl: u32, address: &str) -> FakeRoute53 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let zone = Arc::new(Mutex::new(Zone::default()));
        lock(&zone).sets.push(Set {
            name: format!("{name}."),
            rtype: "A".to_owned(),
            weighted: None,
            ttl: Some(ttl),
            values: vec![address.to_owned()],
        });
        let shared = Arc::clone(&zone);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let zone = Arc::clone(&shared);
                tokio::spawn(serve(stream, zone));
            }
        });
        FakeRoute53 { url, zone }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What goes wrong with a write, after those that were told of before.
    pub fn next(&self, fault: Fault) {
        lock(&self.zone).faults.push_back(Some(fault));
    }

    /// Nothing goes wrong with the write after those.
    pub fn pass(&self) {
        lock(&self.zone).faults.push_back(None);
    }

    pub fn sets(&self) -> Vec<Set> {
        lock(&self.zone).sets.clone()
    }

    /// How many batches were carried out.
    pub fn writes(&self) -> u32 {
        lock(&self.zone).writes
    }

    /// Changes the record sets behind everybody's back, as in the console.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<Set>)) {
        change(&mut lock(&self.zone).sets);
    }
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let (head, body) = loop {
        let Ok(count) = stream.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let answer = lock(&zone).answer(&head, &body);
    let Some((status, body)) = answer else { return };
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.write_all(text.as_bytes()).await;
}

fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
}

impl Zone {
    fn answer(&mut self, head: &str, body: &str) -> Option<(u16, String)> {
        let scope = "/us-east-1/route53/aws4_request, SignedHeaders=host;x-amz-date";
        if !head.contains(scope) {
            return Some((403, error("MissingAuthenticationToken", "Missing Authentication Token")));
        }
        let target = head.split(' ').nth(1).unwrap_or_default();
        if head.starts_with("POST") {
            return self.change(body);
        }
        if target.contains("/change/") {
            self.asked += 1;
            let status = if self.asked > 2 { "INSYNC" } else { "PENDING" };
            return Some((200, format!("<GetChangeResponse>{}</GetChangeResponse>", self.info(status))));
        }
        if target.contains("/rrset?") {
            return Some((200, self.list(target)));
        }
        let zone = target.strip_prefix("/2013-04-01/hostedzone/");
        if let Some(id) = zone.filter(|id| !id.contains(['/', '?'])) {
            return Some((
                200,
                format!(
                    "<GetHostedZoneResponse><HostedZone><Id>/hostedzone/{id}</Id><Name>example.test.</Name>\
                     <CallerReference>1</CallerReference><Config><PrivateZone>false</PrivateZone></Config>\
                     </HostedZone></GetHostedZoneResponse>"
                ),
            ));
        }
        Some((404, error("NoSuchHostedZone", "No hosted zone found")))
    }

    fn info(&self, status: &str) -> String {
        format!(
            "<ChangeInfo><Id>/change/C{}</Id><Status>{status}</Status>\
             <SubmittedAt>2026-11-24T01:00:00Z</SubmittedAt></ChangeInfo>",
            self.changes
        )
    }

    fn change(&mut self, body: &str) -> Option<(u16, String)> {
        let fault = self.faults.pop_front().flatten();
        match fault {
            Some(Fault::Throttle) => return Some((400, error("Throttling", "Rate exceeded"))),
            Some(Fault::PriorRequest) => {
                return Some((400, error("PriorRequestNotComplete", "The request was rejected")));
            }
            Some(Fault::Denied) => return Some((403, error("AccessDenied", "User is not authorized"))),
            Some(Fault::Broken) => return Some((500, error("InternalFailure", "try again"))),
            Some(Fault::LostAnswer) | None => {}
        }
        let complaints = model::complaints(body);
        if !complaints.is_empty() {
            return Some((400, error("InvalidInput", &complaints.join(", "))));
        }
        match apply(&self.sets, &model::parse(body)) {
            Ok(sets) => self.sets = sets,
            Err(message) => {
                let text = format!(
                    "<InvalidChangeBatch xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Messages>\
                     <Message>{message}</Message></Messages></InvalidChangeBatch>"
                );
                return Some((400, text));
            }
        }
        (self.changes, self.asked, self.writes) = (self.changes + 1, 0, self.writes + 1);
        if fault == Some(Fault::LostAnswer) {
            return None;
        }
        let info = self.info("PENDING");
        Some((200, format!("<ChangeResourceRecordSetsResponse>{info}</ChangeResourceRecordSetsResponse>")))
    }

    /// Two sets a page, so that reading goes on behind the first page.
    fn list(&self, target: &str) -> String {
        let parameter = |name: &str| {
            let query = target.split_once('?').unwrap().1;
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(&format!("{name}=")))
                .unwrap_or_default()
                .to_owned()
        };
        let key = |set: &Set| {
            (set.name.clone(), set.rtype.clone(), set.weighted.clone().map(|w| w.0).unwrap_or_default())
        };
        let from = (parameter("name"), parameter("type"), parameter("identifier"));
        let mut sets: Vec<&Set> = self.sets.iter().filter(|set| key(set) >= from).collect();
        sets.sort_by_key(|set| key(set));
        let mut xml = String::from("<ListResourceRecordSetsResponse><ResourceRecordSets>");
        for set in sets.iter().take(2) {
            let _ = write!(xml, "<ResourceRecordSet><Name>{}</Name><Type>{}</Type>", set.name, set.rtype);
            if let Some((identifier, weight)) = &set.weighted {
                let _ = write!(xml, "<SetIdentifier>{identifier}</SetIdentifier><Weight>{weight}</Weight>");
            }
            if let Some(ttl) = set.ttl {
                let _ = write!(xml, "<TTL>{ttl}</TTL>");
            }
            xml.push_str("<ResourceRecords>");
            for value in &set.values {
                let value = value.replace('"', "&quot;");
                let _ = write!(xml, "<ResourceRecord><Value>{value}</Value></ResourceRecord>");
            }
            xml.push_str("</ResourceRecords></ResourceRecordSet>");
        }
        let next = sets.get(2);
        let _ = write!(xml, "</ResourceRecordSets><IsTruncated>{}</IsTruncated>", next.is_some());
        if let Some(next) = next {
            let _ = write!(
                xml,
                "<NextRecordName>{}</NextRecordName><NextRecordType>{}</NextRecordType>",
                next.name, next.rtype
            );
            if let Some((identifier, _)) = &next.weighted {
                let _ = write!(xml, "<NextRecordIdentifier>{identifier}</NextRecordIdentifier>");
            }
        }
        xml.push_str("<MaxItems>2</MaxItems></ListResourceRecordSetsResponse>");
        xml
    }
}

/// Carries out a batch on a copy: all of it, or an error.
fn apply(sets: &[Set], request: &Element) -> Result<Vec<Set>, String> {
    let mut sets = sets.to_vec();
    let changes = request.child("ChangeBatch").and_then(|batch| batch.child("Changes")).unwrap();
    for change in &changes.children {
        let set = set_of(change.child("ResourceRecordSet").unwrap());
        let same = |other: &Set| {
            other.name == set.name
                && other.rtype == set.rtype
                && other.weighted.as_ref().map(|w| &w.0) == set.weighted.as_ref().map(|w| &w.0)
        };
        let found = sets.iter().position(same);
        match (&*change.text_of("Action").unwrap(), found) {
            ("CREATE", Some(_)) => return Err(format!("Tried to create {} but it already exists", set.name)),
            ("DELETE", None) => return Err(format!("Tried to delete {} but it was not found", set.name)),
            ("DELETE", Some(at)) if sets[at] != set => {
                return Err(format!("Tried to delete {} but the values provided do not match", set.name));
            }
            ("DELETE", Some(at)) => drop(sets.remove(at)),
            ("UPSERT", Some(at)) => sets[at] = set,
            _ => sets.push(set),
        }
    }
    check_rules(&sets)?;
    Ok(sets)
}

fn check_rules(sets: &[Set]) -> Result<(), String> {
    for set in sets {
        let group: Vec<&Set> = sets.iter().filter(|o| o.name == set.name && o.rtype == set.rtype).collect();
        if group.iter().any(|other| other.weighted.is_some() != set.weighted.is_some()) {
            return Err(format!("{} has weighted and simple record sets", set.name));
        }
        if group.iter().any(|other| other.ttl != set.ttl) {
            return Err(format!("{} has different TTLs in one group", set.name));
        }
        if set.weighted.is_some() && set.values.len() != 1 {
            return Err(format!("{} has a weighted record set with several values", set.name));
        }
        if set.rtype == "CNAME" && sets.iter().any(|o| o.name == set.name && o.rtype != "CNAME") {
            return Err(format!("{} has a CNAME beside another type", set.name));
        }
        if set.values.is_empty() || set.ttl.is_none() {
            return Err(format!("{} has no values or no TTL", set.name));
        }
    }
    Ok(())
}

fn set_of(element: &Element) -> Set {
    let records = element.child("ResourceRecords").map(|all| &*all.children).unwrap_or_default();
    let weight = element.text_of("Weight").and_then(|text| text.parse().ok());
    Set {
        name: element.text_of("Name").unwrap(),
        rtype: element.text_of("Type").unwrap(),
        weighted: element.text_of("SetIdentifier").zip(weight),
        ttl: element.text_of("TTL").and_then(|text| text.parse().ok()),
        values: records.iter().filter_map(|one| one.text_of("Value")).collect(),
    }
}
