//! The client half against the server half, over a stream in memory.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod combinations;
mod smuggling;

use std::sync::Arc;

use model::{ByteSize, Reply, SystemClock};
use smtp::client::{EightBit, Framing, HostName, Options, Session, TlsMode, TlsSettings};
use smtp::server::{
    Answer, Extensions, Handler, Limits, Message, Recipient, Sender, Settings, serve,
};
use tokio::io::duplex;

/// The octets under way between the two.
const BUFFER: usize = 64 * 1024;

/// Takes everything and keeps it.
#[derive(Default)]
struct Mailbox(Vec<Message>);

impl Handler for Mailbox {
    async fn greet(&mut self) -> Answer {
        Reply::new(220, None, "ready").into()
    }

    async fn mail(&mut self, _: &Sender) -> Answer {
        Reply::new(250, None, "ok").into()
    }

    async fn rcpt(&mut self, _: &Sender, _: &Recipient) -> Answer {
        Reply::new(250, None, "ok").into()
    }

    async fn message(&mut self, message: Message) -> Answer {
        self.0.push(message);
        Reply::new(250, None, "taken").into()
    }
}

/// A server with these extensions, and STARTTLS where it has a certificate.
fn settings(extensions: Extensions, tls: Option<Arc<rustls::ServerConfig>>) -> Settings {
    Settings {
        hostname: "mx.example".parse().unwrap(),
        extensions,
        ehlo_lines: Vec::new(),
        max_message: ByteSize(4000),
        tls,
        limits: Limits::default(),
    }
}

fn options(framing: Framing) -> Options {
    let tls = TlsSettings::new(Arc::new(SystemClock), []).unwrap();
    let mut options = Options::new("client.example".parse().unwrap(), tls);
    options.framing = framing;
    options.eight_bit = EightBit::Send;
    options.tls = TlsMode::Opportunistic;
    options
}

/// What arrives at the server while `client` does something, and what comes of that.
async fn between<T>(
    settings: &Settings,
    options: &Options,
    client: impl AsyncFnOnce(Session) -> T,
) -> (T, Vec<Message>) {
    let (ours, theirs) = duplex(BUFFER);
    let mx: HostName = "mx.example".parse().unwrap();
    let mut mailbox = Mailbox::default();
    let client = async {
        let session = Session::open(ours, &mx, options).await.unwrap();
        client(session).await
    };
    let server = serve(theirs, settings, &mut mailbox, std::future::pending());
    let (result, ended) = tokio::join!(client, server);
    ended.unwrap();
    (result, mailbox.0)
}
