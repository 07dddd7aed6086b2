//! Hooks, notifications and Prometheus metrics of the real program.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::site::{STEPS, Site, baking, manual_split, slow_steps};

/// Takes what is posted, and answers 200.
async fn receiver() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("its address"));
    let (sender, received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut text = Vec::new();
                let mut part = [0_u8; 4096];
                while let Ok(Ok(length @ 1..)) =
                    tokio::time::timeout(Duration::from_millis(300), stream.read(&mut part)).await
                {
                    text.extend_from_slice(&part[..length]);
                }
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
                let text = String::from_utf8_lossy(&text).into_owned();
                let _ = sender
                    .send(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default());
            });
        }
    });
    (url, received)
}

#[tokio::test]
async fn notifications_and_hooks_are_sent() {
    let (url, mut received) = receiver().await;
    let notify = format!(
        "{STEPS}\n[[notify]]\nformat = \"slack\"\nurl = \"{url}\"\n[hooks]\npre_step = {{ url = \"{url}\" }}\nevent = {{ run = [\"sh\", \"-c\", \"cat >> events; echo >> events\"] }}\n"
    );
    let site = Site::new(&notify).await;
    site.run(&["start", "--yes", "--no-wait"]).await.exits_with(0);
    let mut all = Vec::new();
    while let Ok(body) = received.try_recv() {
        all.push(serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default());
    }
    let texts: Vec<&str> = all.iter().filter_map(|body| body["text"].as_str()).collect();
    assert!(
        texts.iter().any(|text| text.contains("Step 2 of 3: 10 % to green (api.example.test/A)")),
        "{texts:#?}"
    );
    assert_eq!(all.iter().filter(|body| body["hook"] == "pre_step").count(), 3, "{all:#?}");
    let events = std::fs::read_to_string(site.home.path().join("events")).expect("events");
    assert!(events.lines().any(|line| line.contains("\"event\":\"drained\"")), "{events}");
}

#[tokio::test]
async fn an_invalid_hook_or_notification_refuses_start() {
    let more = "[hooks]\nrollback = { run = [\"./close-connections.sh\"] }\n[[notify]]\nurl_env = \"NO_SUCH_CHAT\"\n";
    let site = Site::new(&format!("{STEPS}{more}")).await;
    let refused = site.run(&["start", "--yes"]).await.exits_with(4);
    for message in [
        "hooks.rollback: ./close-connections.sh is not an executable program",
        "[[notify]]: the variable NO_SUCH_CHAT is not set",
    ] {
        assert!(refused.stderr.contains(message), "{refused:#?}");
    }
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
    // Going back does not need them.
    site.dns.call("PATCH", "/zones/example.test.", Some(manual_split())).await.expect("a split");
    site.run(&["rollback"]).await.exits_with(3);
}

#[tokio::test]
async fn prometheus_metrics_are_served() {
    let site = Site::new(&slow_steps()).await;
    let address = format!("127.0.0.1:{}", kongferry_harness::ports::free().expect("a port"));
    let _running = site.spawn(&["start", "--yes", "--metrics-listen", &address]);
    site.until("1 %", baking(1)).await;
    let mut stream = TcpStream::connect(&address).await.expect("an exporter");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    assert!(text.contains("kongferry_cutover_share_ratio 0.01\n"), "{text}");
    assert!(text.contains("kongferry_cutover_state{state=\"step\"} 1\n"), "{text}");
    for (request, answer) in [
        ("HEAD /metrics", "HTTP/1.1 200 OK"),
        ("GET /metrics?x=1", "HTTP/1.1 200 OK"),
        ("GET /metricsandmore", "HTTP/1.1 404 Not Found"),
        ("POST /metrics", "HTTP/1.1 405 Method Not Allowed"),
    ] {
        let mut stream = TcpStream::connect(&address).await.expect("an exporter");
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with(answer), "{request}: {text}");
        assert_eq!(request.starts_with("HEAD"), text.ends_with("\r\n\r\n"), "{request}: {text}");
    }
}
