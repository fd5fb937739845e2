mod commands;
mod content;
mod ends;
mod starttls;

use std::sync::Arc;

use model::{ByteSize, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::server::{Envelope, Extensions, Limits, Message, Recipient, Sender, TlsFacts};

/// Takes everything, except where the recipient's local part asks for something else.
#[derive(Default)]
pub(super) struct Mailroom {
    greeting: Option<Answer>,
    messages: Vec<Message>,
    refusals: Vec<(Envelope, Reply)>,
    tls: Option<TlsFacts>,
}

impl Handler for Mailroom {
    async fn greet(&mut self) -> Answer {
        let greeting = self.greeting.take();
        greeting.unwrap_or_else(|| Reply::new(220, None, "ready").into())
    }

    fn secured(&mut self, tls: &TlsFacts) {
        self.tls = Some(tls.clone());
    }

    async fn mail(&mut self, _sender: &Sender) -> Answer {
        reply(250, (2, 1, 0), "sender ok").into()
    }

    async fn rcpt(&mut self, _sender: &Sender, recipient: &Recipient) -> Answer {
        match recipient.address.local() {
            "bounce" => reply(550, (5, 1, 1), "no such user").into(),
            "down" => Answer::say_and_close(reply(421, (4, 3, 2), "down")),
            _ => reply(250, (2, 1, 5), "recipient ok").into(),
        }
    }

    async fn message(&mut self, message: Message) -> Answer {
        let local = message.envelope.recipients[0].address.local().to_owned();
        self.messages.push(message);
        match local.as_str() {
            "hang" => Act::Hang.into(),
            "close" => Act::Close.into(),
            _ => reply(250, (2, 0, 0), "taken").into(),
        }
    }

    fn refused(&mut self, envelope: &Envelope, reply: &Reply) {
        self.refusals.push((envelope.clone(), reply.clone()));
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        hostname: "mx.example.com".parse().unwrap(),
        extensions: Extensions::all(),
        ehlo_lines: Vec::new(),
        max_message: ByteSize(1000),
        tls: None,
        limits: Limits::default(),
    }
}

/// The client's end of a session.
pub(super) struct Client {
    stream: DuplexStream,
    received: Vec<u8>,
}

impl Client {
    /// Sends without waiting for an answer.
    async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.unwrap();
    }

    /// The next reply's line, or its last line where it has several; empty at the end.
    async fn reply(&mut self) -> String {
        loop {
            if let Some(end) = self.received.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = String::from_utf8(line).unwrap();
                if line.as_bytes()[3] == b' ' {
                    return line.trim_end().to_owned();
                }
                continue;
            }
            if self.stream.read_buf(&mut self.received).await.unwrap() == 0 {
                assert_eq!(self.received, b"", "a reply is torn");
                return String::new();
            }
        }
    }

    /// Sends one group of commands and answers the reply to its last.
    async fn say(&mut self, commands: &str) -> String {
        self.send(commands).await;
        let mut last = String::new();
        for _ in commands.matches("\r\n") {
            last = self.reply().await;
        }
        last
    }

    /// From the greeting to an open transaction with one recipient.
    async fn begin(&mut self, recipient: &str) {
        assert!(self.reply().await.starts_with("220 "));
        self.say("EHLO client.example.com\r\n").await;
        let group = format!("MAIL FROM:<a@example.com>\r\nRCPT TO:<{recipient}@example.com>\r\n");
        assert_eq!(self.say(&group).await, "250 2.1.5 recipient ok");
    }

    /// Closes and answers everything that still comes.
    async fn rest(mut self) -> String {
        self.stream.shutdown().await.unwrap();
        let mut rest = self.received;
        self.stream.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }
}

pub(super) type Served = Result<Ended, ServeError>;

/// Serves one session to the client that `script` plays.
pub(super) async fn serve_with<T>(
    settings: Settings,
    mailroom: &mut Mailroom,
    script: impl AsyncFnOnce(Client) -> T,
) -> (T, Served) {
    let (near, far) = duplex(64 * 1024);
    let client = Client {
        stream: near,
        received: Vec::new(),
    };
    let never = std::future::pending();
    tokio::join!(script(client), serve(far, &settings, mailroom, never))
}

/// The same, with the settings and the mailroom that most tests want.
pub(super) async fn session<T>(script: impl AsyncFnOnce(Client) -> T) -> (T, Served, Mailroom) {
    let mut mailroom = Mailroom::default();
    let (told, served) = serve_with(settings(), &mut mailroom, script).await;
    (told, served, mailroom)
}
