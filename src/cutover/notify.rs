//! Notifications, in the format of their receiver.

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{CallReply, ExternalCall};
use super::notice::{Level, Notice};
use crate::error::Result;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// The address, in one of the three ways of a call.
    pub url: Option<String>,
    pub url_env: Option<String>,
    pub url_file: Option<std::path::PathBuf>,
    #[serde(default)]
    pub format: MessageFormat,
    #[serde(default)]
    pub level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageFormat {
    /// Slack's incoming webhooks; Mattermost and Rocket.Chat accept them too.
    Slack,
    /// An adaptive card, as Teams' workflows accept it.
    Teams,
    #[default]
    Json,
}

impl Notification {
    pub fn call(&self) -> ExternalCall {
        ExternalCall {
            url: self.url.clone(),
            url_env: self.url_env.clone(),
            url_file: self.url_file.clone(),
            ..ExternalCall::default()
        }
    }

    pub fn check(&self) -> Result<()> {
        self.call().check("[[notify]]")
    }

    /// Sends a notice of sufficient level; returns why it was not delivered.
    pub async fn send(&self, notice: &Notice, body: &Value) -> Option<String> {
        if notice.level < self.level {
            return None;
        }
        match self.call().call(&message(self.format, notice, body)).await {
            CallReply::Success(_) => None,
            CallReply::Failure(text) | CallReply::NoReply(text) => Some(text),
        }
    }
}

fn message(format: MessageFormat, notice: &Notice, body: &Value) -> Value {
    let (mark, color) = match notice.level {
        Level::Info => ("🔵", "Default"),
        Level::Warn => ("🟡", "Warning"),
        Level::Error => ("🔴", "Attention"),
    };
    let records = body["records"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let records = records.collect::<Vec<_>>().join(", ");
    let (headline, rollback) =
        (format!("{} ({records})", notice.text), body["rollback_command"].as_str().unwrap_or_default());
    match format {
        MessageFormat::Slack => {
            json!({ "text": format!("{mark} *{}*\n{}\nTo roll back: `{rollback}`", escape_for_slack(&headline), facts(body)) })
        }
        MessageFormat::Teams => json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        { "type": "TextBlock", "text": headline, "weight": "Bolder", "wrap": true, "color": color },
                        { "type": "TextBlock", "text": facts(body), "wrap": true },
                        { "type": "TextBlock", "text": format!("To roll back: {rollback}"), "wrap": true, "fontType": "Monospace" },
                    ],
                },
            }],
        }),
        MessageFormat::Json => {
            let mut message = json!({ "level": notice.level, "code": notice.code, "text": notice.text });
            if let (Some(message), Some(body)) = (message.as_object_mut(), body.as_object()) {
                message.extend(body.clone());
            }
            message
        }
    }
}

fn facts(body: &Value) -> String {
    let [state, owner] = ["state", "owner"].map(|key| body[key].as_str().unwrap_or_default());
    format!("{} % to green · {state} · {owner}", body["share"])
}

/// The three characters that Slack reads as markup.
fn escape_for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(format: MessageFormat) -> Value {
        let notice = Notice {
            level: Level::Error,
            code: "rollback".to_owned(),
            text: "Rolling back: 5xx > 1 %".to_owned(),
        };
        let body = json!({
            "records": ["api.example.com/A"], "share": 10.0, "state": "rolling_back", "owner": "anna@ops",
            "rollback_command": "kongferry cutover rollback",
        });
        message(format, &notice, &body)
    }

    #[test]
    fn slack_gets_a_text() {
        assert_eq!(
            sample(MessageFormat::Slack),
            json!({ "text": "🔴 *Rolling back: 5xx &gt; 1 % (api.example.com/A)*\n10.0 % to green · rolling_back · anna@ops\nTo roll back: `kongferry cutover rollback`" })
        );
    }

    #[test]
    fn teams_gets_a_card() {
        let card = sample(MessageFormat::Teams);
        assert_eq!(card["type"], "message");
        let content = &card["attachments"][0]["content"];
        assert_eq!(content["type"], "AdaptiveCard");
        assert_eq!(content["body"][0]["text"], "Rolling back: 5xx > 1 % (api.example.com/A)");
    }

    #[test]
    fn json_has_notice_and_body() {
        let message = sample(MessageFormat::Json);
        assert_eq!((message["code"].as_str(), message["share"].as_f64()), (Some("rollback"), Some(10.0)));
    }
}
