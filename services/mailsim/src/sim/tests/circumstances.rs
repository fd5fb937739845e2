//! What a provider offers, how far away it is, and what is kept of what it hears.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// The lines of the answer to EHLO behind the first, without their codes.
async fn offered(extra: &str) -> Vec<String> {
    let world = one(extra).await;
    let mut client = world.greeted().await;
    client.send("EHLO c.example\r\n").await;
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        client.0.read_line(&mut line).await.unwrap();
        lines.push(line[4..].trim_end().to_owned());
        if line.as_bytes()[3] == b' ' {
            return lines.split_off(1);
        }
    }
}

#[tokio::test]
async fn a_provider_offers_what_it_is_told_to() {
    let few = r#", "extensions": ["pipelining", "SIZE"], "ehlo_lines": ["LIMITS MAILMAX=2"]"#;
    let lines = offered(few).await;
    assert_eq!(
        lines,
        [
            "PIPELINING",
            "SIZE 26214400",
            "LIMITS MAILMAX=2",
            "STARTTLS"
        ]
    );
    let none = r#", "extensions": [], "tls": "off""#;
    assert!(offered(none).await.is_empty());
    assert!(offered("").await.contains(&"CHUNKING".to_owned()));
}

#[test]
fn an_extension_that_is_none_is_a_fault() {
    let text = r#"{"providers": [{"name": "a", "domains": ["a.example"], "extensions": ["X"]}]}"#;
    let raw: RawConfig = serde_json::from_str(text).unwrap();
    let error = Config::try_from(raw).unwrap_err().to_string();
    assert!(
        error.starts_with("mailsim.providers[0].extensions: \"X\" is none of PIPELINING, "),
        "{error}"
    );
}

#[tokio::test]
async fn a_pipelined_envelope_takes_one_round_trip_and_an_unpipelined_one_three() {
    let world = one(r#", "rtt": "60ms""#).await;
    let mut client = world.greeted().await;
    client.say("EHLO c.example").await;
    let envelope = ["MAIL FROM:<a@b.example>", "RCPT TO:<bob@a.example>", "RSET"];
    let began = Instant::now();
    client.send(&format!("{}\r\n", envelope.join("\r\n"))).await;
    for _ in envelope {
        assert!(client.reply().await.starts_with("250 "));
    }
    let together = began.elapsed();
    let began = Instant::now();
    for command in envelope {
        client.say(command).await;
    }
    let apart = began.elapsed();
    assert!(together >= Duration::from_millis(60), "{together:?}");
    assert!(
        apart >= Duration::from_millis(180) && apart > together * 2,
        "{together:?} {apart:?}"
    );
}

#[tokio::test]
async fn a_connection_takes_so_many_messages() {
    let world = one(r#", "messages_per_connection": 1"#).await;
    let mut client = world.greeted().await;
    assert!(
        client
            .deliver("ann@a.example", "1@b")
            .await
            .starts_with("250 ")
    );
    let refused = client.say("MAIL FROM:<a@b.example>").await;
    assert_eq!(refused, "421 4.7.0 too many messages on this connection");
    assert_eq!(client.reply().await, "");
}

#[tokio::test]
async fn every_octet_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let raw = RawConfig {
        mx_port: 0,
        dns_listen: "127.0.0.1:0".into(),
        record: Some(record.clone()),
        ..RawConfig::default()
    };
    let config = Config::try_from(raw).unwrap();
    let mailsim = Mailsim::bind(config, Arc::new(SystemClock)).await.unwrap();
    let port = mailsim.mx_port();
    let shutdown = Shutdown::default();
    let running = spawn(mailsim.run(shutdown.clone()));
    let stream = TcpStream::connect((FIRST, port)).await.unwrap();
    let mut client = Client(BufReader::new(stream));
    client.reply().await;
    client.address("ann@gmail.example").await;
    client.say("DATA").await;
    client.say("a\r\n..b\r\n.").await;
    drop(client);
    shutdown.request();
    running.await.unwrap().unwrap();
    let mut kept: Vec<(String, String)> = std::fs::read_dir(&record)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let ending = path.extension().unwrap().to_string_lossy().into_owned();
            (ending, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    kept.sort();
    let dialogue = "EHLO client.example\r\nMAIL FROM:<ann@sender.example>\r\n\
                    RCPT TO:<ann@gmail.example>\r\nDATA\r\na\r\n..b\r\n.\r\n";
    let expected = [("eml", "a\r\n.b\r\n"), ("in", dialogue)];
    assert_eq!(
        kept,
        expected.map(|(ending, text)| (ending.to_owned(), text.to_owned()))
    );
}

#[tokio::test]
async fn what_a_session_may_hold_is_announced_and_enforced() {
    let limits = r#", "limits": {"mail": 3, "rcpt": 2, "rcpt_domain": 1}"#;
    let lines = offered(limits).await;
    let announced = "LIMITS MAILMAX=3 RCPTMAX=2 RCPTDOMAINMAX=1".to_owned();
    assert!(lines.contains(&announced), "{lines:?}");
    let world = one(limits).await;
    let mut client = world.greeted().await;
    assert!(client.address("1@a.example").await.starts_with("250 "));
    assert!(
        client
            .say("RCPT TO:<2@a.example>")
            .await
            .starts_with("250 ")
    );
    let third = client.say("RCPT TO:<3@a.example>").await;
    assert_eq!(third, "452 4.5.3 too many recipients");
    let elsewhere = client.address("1@b.a.example").await;
    assert_eq!(
        elsewhere,
        "452 4.5.3 more domains than RCPTDOMAINMAX in one session"
    );
    assert!(client.address("4@a.example").await.starts_with("250 "));
    client.say("RSET").await;
    let fourth = client.say("MAIL FROM:<>").await;
    assert_eq!(
        fourth,
        "452 4.5.3 more messages than MAILMAX in one session"
    );
    drop(client);
    world.end().await;
}
