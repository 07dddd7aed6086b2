//! Gates on numbers from Prometheus.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::measurement::{GateVerdict, Measurement};
use super::metrics::PrometheusConfig;
use super::query::{GateQuery, Unit};
use crate::dns::Share;
use crate::error::{Error, Kind, Result};
use crate::http;

/// The default for `timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of Prometheus' query API.
#[derive(Debug)]
pub struct Prometheus {
    client: reqwest::Client,
    query: String,
    token: Option<SecretString>,
    timeout: Duration,
}

#[derive(Deserialize)]
struct QueryResponse {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<QueryData>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum QueryData {
    Scalar((f64, String)),
    Vector(Vec<QuerySample>),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct QuerySample {
    value: (f64, String),
}

impl Prometheus {
    /// Reads the token; connects to nothing.
    pub fn new(metrics: &PrometheusConfig) -> Result<Prometheus> {
        let base = metrics.url.trim_end_matches('/');
        url::Url::parse(base).map_err(|e| {
            Error::usage("[prometheus]: url is not a URL").source(e).remedy("Write url = \"http://…:9090\".")
        })?;
        let timeout = metrics.timeout.unwrap_or(TIMEOUT);
        let token = match &metrics.token_env {
            Some(name) => Some(std::env::var(name).map(SecretString::from).map_err(|_| {
                Error::usage(format!("[prometheus]: the variable {name} is not set"))
                    .remedy(format!("Export {name}, or remove token_env from cutover.toml."))
            })?),
            None => None,
        };
        Ok(Prometheus {
            client: http::client(None, TIMEOUT.max(timeout))?,
            query: format!("{base}/api/v1/query"),
            token,
            timeout,
        })
    }

    /// The one finite number that a query returns; anything else is an error.
    pub async fn number(&self, query: &str) -> Result<f64> {
        let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let form = "application/x-www-form-urlencoded";
        let mut request = self.client.post(&self.query).timeout(self.timeout);
        request = request.header(reqwest::header::CONTENT_TYPE, form).body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let silent = |e: reqwest::Error| {
            let in_time = if e.is_timeout() { " in time" } else { "" };
            let message = format!("Prometheus did not answer{in_time}");
            Error::new(Kind::Connection, message).source(e.without_url())
        };
        let answer = request.send().await.map_err(silent)?;
        let status = answer.status();
        let text = answer.text().await.map_err(silent)?;
        let answer: QueryResponse = serde_json::from_str(&text).map_err(|_| {
            Error::new(Kind::Server, format!("Prometheus answered HTTP {status} with an unexpected body"))
        })?;
        if answer.status != "success" {
            return Err(Error::new(Kind::Server, format!("Prometheus refused the query: {}", answer.error)));
        }
        number_of(answer.data)
    }

    /// Queries both sides and compares green's number with the limits.
    pub async fn judge(&self, query: &GateQuery, share: Share, baseline: Option<f64>) -> Measurement {
        let optional = async |query: &Option<String>| Some(self.number(query.as_deref()?).await);
        let (green, blue, requests) =
            futures::join!(self.number(&query.green), optional(&query.blue), optional(&query.requests));
        let mut measured = judge(query, share, &green, blue.as_ref(), requests.as_ref(), baseline);
        measured.baseline = blue.and_then(Result::ok);
        measured
    }
}

fn number_of(data: Option<QueryData>) -> Result<f64> {
    let no_number = |message: String| Err(Error::new(Kind::Server, message));
    let text = match data {
        Some(QueryData::Scalar((_, text))) => text,
        Some(QueryData::Vector(mut samples)) => match (samples.pop(), samples.len()) {
            (Some(sample), 0) => sample.value.1,
            (Some(_), more) => {
                return no_number(format!("the query returned {} numbers instead of one", more + 1));
            }
            (None, _) => return no_number("no data".to_owned()),
        },
        Some(QueryData::Matrix(_) | QueryData::String(_)) => {
            return no_number("the query result is not a number".to_owned());
        }
        None => return no_number("no data".to_owned()),
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => no_number(format!("the query returned {text}")),
    }
}

type QueryResult = Result<f64>;

fn judge(
    query: &GateQuery,
    share: Share,
    green: &QueryResult,
    blue: Option<&QueryResult>,
    requests: Option<&QueryResult>,
    baseline: Option<f64>,
) -> Measurement {
    match requests {
        Some(Ok(number)) if *number < query.min_requests => {
            return Measurement::inconclusive(format!(
                "green had {} of the {} requests required",
                Unit::Number.show(number.round()),
                Unit::Number.show(query.min_requests)
            ));
        }
        Some(Err(error)) => {
            return Measurement::inconclusive(format!("green's requests: {}", error.one_line()));
        }
        _ => {}
    }
    let green = match green {
        Ok(number) => *number,
        Err(error) => return Measurement::inconclusive(error.one_line()),
    };
    if let Some(around) = query.around_share {
        return judge_share(share, around, green, query.unit);
    }
    // Towards the end blue has no traffic: its last number is compared with.
    let blue = match blue {
        Some(Ok(number)) => Ok(Some(*number)),
        Some(Err(error)) => baseline.map(Some).ok_or_else(|| error.one_line()),
        None => Ok(None),
    };
    match blue {
        Ok(blue) => compare(query, green, blue),
        Err(error) => Measurement {
            value: query.unit.show(green),
            ..Measurement::inconclusive(format!("blue has no number to compare with: {error}"))
        },
    }
}

/// Too small a share is no failure, but no proof either: green was not tested with the step's traffic.
fn judge_share(desired: Share, around: f64, share: f64, unit: Unit) -> Measurement {
    let (low, high) = ((desired.fraction() - around).max(0.0), (desired.fraction() + around).min(1.0));
    let limit = format!("{} to {}", unit.show(low), unit.show(high));
    let measured = Measurement::judged(share <= high, unit.show(share), limit);
    // At 100 % the rest are open connections.
    if share < low && desired != Share::GREEN {
        let why = "green receives less than the share of the step".to_owned();
        return Measurement { verdict: GateVerdict::Inconclusive, why, ..measured };
    }
    measured
}

fn compare(query: &GateQuery, green: f64, blue: Option<f64>) -> Measurement {
    let blue_number = blue.unwrap_or(f64::NAN);
    let uppers = [
        query.max,
        query.max_increase.map(|more| blue_number + more),
        query.max_ratio.map(|ratio| blue_number * ratio),
    ];
    let lowers = [query.min, query.max_decrease.map(|less| blue_number - less)];
    let upper = uppers.into_iter().flatten().reduce(f64::min);
    let lower = lowers.into_iter().flatten().reduce(f64::max);
    let holds = upper.is_none_or(|upper| green <= upper) && lower.is_none_or(|lower| green >= lower);
    let show = |number| query.unit.show(number);
    let limit = match (lower, upper) {
        (Some(lower), Some(upper)) => format!("{} to {}", show(lower), show(upper)),
        (Some(lower), None) => format!("≥ {}", show(lower)),
        (None, Some(upper)) => format!("≤ {}", show(upper)),
        (None, None) => String::new(),
    };
    let is_relative = query.max_increase.or(query.max_ratio).or(query.max_decrease).is_some();
    let why = blue.filter(|_| is_relative).map(|blue| format!("blue has {}", show(blue))).unwrap_or_default();
    Measurement { why, ..Measurement::judged(holds, show(green), limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_number(text: &str) -> Result<f64> {
        let answer: QueryResponse = serde_json::from_str(text).unwrap();
        number_of(answer.data)
    }

    fn vector(values: &[&str]) -> String {
        let samples: Vec<String> =
            values.iter().map(|value| format!(r#"{{"metric":{{}},"value":[1,"{value}"]}}"#)).collect();
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, samples.join(","))
    }

    fn ok(number: f64) -> Result<f64> {
        Ok(number)
    }

    fn no_data() -> Result<f64> {
        Err(Error::new(Kind::Server, "no data"))
    }

    #[test]
    fn only_one_finite_number_is_a_number() {
        assert_eq!(parse_number(&vector(&["0.5"])).ok(), Some(0.5));
        for values in [vec![], vec!["NaN"], vec!["+Inf"], vec!["1", "2"]] {
            assert!(parse_number(&vector(&values)).is_err(), "{values:?}");
        }
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(parse_number(matrix).is_err());
    }

    #[test]
    fn too_few_requests_are_inconclusive() {
        let query = GateQuery { max: Some(0.01), min_requests: 100.0, ..GateQuery::default() };
        let judged = judge(&query, Share::GREEN, &ok(0.9), None, Some(&ok(99.0)), None);
        assert_eq!(judged.verdict, GateVerdict::Inconclusive);
        assert_eq!(judged.why, "green had 99 of the 100 requests required");
        let judged = judge(&query, Share::GREEN, &ok(0.9), None, Some(&ok(100.0)), None);
        assert_eq!(judged.verdict, GateVerdict::Fail);
        assert_eq!(
            judge(&query, Share::GREEN, &ok(0.0), None, Some(&no_data()), None).verdict,
            GateVerdict::Inconclusive
        );
    }

    #[test]
    fn green_is_compared_with_blue_or_its_last_number() {
        let query = GateQuery { max_increase: Some(0.01), unit: Unit::Percent, ..GateQuery::default() };
        let judged = |green, blue: Result<f64>, baseline| {
            judge(&query, Share::GREEN, &ok(green), Some(&blue), None, baseline)
        };
        assert_eq!(judged(0.02, ok(0.015), None).verdict, GateVerdict::Pass);
        let failed = judged(0.03, ok(0.015), None);
        assert_eq!((failed.verdict, failed.limit.as_str()), (GateVerdict::Fail, "≤ 2.5 %"));
        assert_eq!(judged(0.02, no_data(), None).verdict, GateVerdict::Inconclusive);
        assert_eq!(judged(0.02, no_data(), Some(0.015)).verdict, GateVerdict::Pass);
    }

    #[test]
    fn the_strictest_limit_applies() {
        let query =
            GateQuery { max: Some(10.0), max_ratio: Some(2.0), min: Some(1.0), ..GateQuery::default() };
        let verdict = |green| judge(&query, Share::GREEN, &ok(green), Some(&ok(4.0)), None, None).verdict;
        assert_eq!(
            [verdict(8.0), verdict(8.1), verdict(0.9)],
            [GateVerdict::Pass, GateVerdict::Fail, GateVerdict::Fail]
        );
    }

    #[test]
    fn more_than_the_share_fails_and_less_is_inconclusive() {
        let query = GateQuery { around_share: Some(0.05), ..GateQuery::default() };
        let verdict_at = |percent, share| {
            judge(&query, Share::percent(percent).unwrap(), &ok(share), None, None, None).verdict
        };
        assert_eq!(verdict_at(10, 0.12), GateVerdict::Pass);
        assert_eq!(verdict_at(10, 0.16), GateVerdict::Fail);
        assert_eq!(verdict_at(10, 0.01), GateVerdict::Inconclusive);
        assert_eq!(verdict_at(100, 0.6), GateVerdict::Pass);
    }
}
