mod circumstances;
mod dns;
mod mailboxes;
mod manners;
mod messages;
mod providers;

use std::path::PathBuf;

use model::SystemClock;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::RawConfig;
use crate::ledger::{self, Entry, Outcome};

/// Where the first provider of a world listens.
const FIRST: &str = "127.0.1.1";

/// A simulator that runs.
struct World {
    dns_addr: SocketAddr,
    mx_port: u16,
    tally: Tally,
    shutdown: Shutdown,
    running: JoinHandle<anyhow::Result<()>>,
    ledger: PathBuf,
    _dir: TempDir,
}

/// A world with these providers, as JSON, or with the built-in ones where that is empty.
async fn world(providers: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.jsonl");
    let raw = RawConfig {
        mx_port: 0,
        dns_listen: "127.0.0.1:0".into(),
        ledger: Some(ledger.clone()),
        slow: "300ms".into(),
        greylist: "100ms".into(),
        providers: serde_json::from_str(&format!("[{providers}]")).unwrap(),
        ..RawConfig::default()
    };
    let config = Config::try_from(raw).unwrap();
    let mailsim = Mailsim::bind(config, Arc::new(SystemClock)).await.unwrap();
    let shutdown = Shutdown::default();
    World {
        dns_addr: mailsim.dns_addr(),
        mx_port: mailsim.mx_port(),
        tally: mailsim.tally(),
        running: spawn(mailsim.run(shutdown.clone())),
        shutdown,
        ledger,
        _dir: dir,
    }
}

/// A world with one ordinary provider, `a.example`, that has this JSON added to its configuration.
async fn one(extra: &str) -> World {
    world(&format!(
        r#"{{"name": "a", "domains": ["a.example"]{extra}}}"#
    ))
    .await
}

#[allow(clippy::disallowed_methods, reason = "a test waits for what it spawns")]
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

impl World {
    /// A client that was greeted.
    async fn greeted(&self) -> Client {
        let mut client = self.connect().await;
        assert!(client.reply().await.starts_with("220 "));
        client
    }

    async fn connect(&self) -> Client {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> std::io::Result<Client> {
        let stream = TcpStream::connect((FIRST, self.mx_port)).await?;
        stream.set_nodelay(true)?;
        Ok(Client(BufReader::new(stream)))
    }

    /// Ends the simulator and answers what it has written down.
    async fn end(self) -> Vec<Entry> {
        self.shutdown.request();
        self.running.await.unwrap().unwrap();
        ledger::read(&self.ledger).unwrap()
    }
}

/// A client that says what it is told to.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The last line of the next reply; empty at the end.
    async fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Sends a command and answers the reply.
    async fn say(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n")).await;
        self.reply().await
    }

    /// Opens a transaction and answers the reply to RCPT.
    async fn address(&mut self, recipient: &str) -> String {
        self.say("EHLO client.example").await;
        let mail = self.say("MAIL FROM:<ann@sender.example>").await;
        assert!(mail.starts_with("250 "), "{mail}");
        self.say(&format!("RCPT TO:<{recipient}>")).await
    }

    /// Sends a message with this Message-ID and answers the reply.
    async fn deliver(&mut self, recipient: &str, message_id: &str) -> String {
        let addressed = self.address(recipient).await;
        assert!(addressed.starts_with("250 "), "{addressed}");
        self.say("DATA").await;
        self.say(&format!("Message-ID: <{message_id}>\r\n\r\nhello\r\n."))
            .await
    }
}
