//! The client against peers that do as they are told, over an in-memory stream.

mod chunking;
mod combinations;
mod content;
mod fence;
mod matrix;
mod matrix_of_the_session;
mod opening;
mod peer;
mod pipelining;
mod replies;
mod starttls;
mod suitability;
mod survival;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::SystemClock;
use tokio::io::{DuplexStream, duplex};

use super::*;
use peer::{Seen, Server};

const PIPELINING: &[&str] = &["PIPELINING"];

fn options() -> Options {
    let settings = TlsSettings::new(Arc::new(SystemClock), []).unwrap();
    let mut options = Options::new("client.example".parse().unwrap(), settings);
    options.tls = TlsMode::Off;
    options
}

fn mx() -> HostName {
    "mx.example".parse().unwrap()
}

fn envelope_to(recipient: &str) -> Envelope {
    let facts = Content::new(MESSAGE).unwrap().facts();
    let sender = "ann@a.example".parse().unwrap();
    Envelope::new(Some(sender), recipient.parse().unwrap(), facts)
}

const MESSAGE: &[&[u8]] = &[b"Subject: hi\r\n\r\n", b"hello\r\n"];

/// A fence that always says yes.
fn held() -> bool {
    true
}

async fn send(
    session: &mut Session,
    envelope: &Envelope,
    next: Option<&Envelope>,
) -> Result<Outcome, SessionError> {
    let content = Content::new(MESSAGE).unwrap();
    let transaction = Transaction {
        envelope,
        content: &content,
    };
    session.send(&transaction, next, &held).await
}

/// Opens a session with `server` and does something with it; returns what came of it and what the server saw.
async fn with<T>(server: Server, client: impl AsyncFnOnce(Session) -> T) -> (T, Seen) {
    with_options(options(), server, client).await
}

async fn with_options<T>(
    options: Options,
    server: Server,
    client: impl AsyncFnOnce(Session) -> T,
) -> (T, Seen) {
    let (ours, theirs) = duplex(server.buffer);
    let client = async move {
        let session = Session::open(ours, &mx(), &options).await.unwrap();
        client(session).await
    };
    tokio::join!(client, server.run(theirs))
}

/// One message to one recipient; what came of it, as text, and what the server saw.
async fn outcome_of(server: Server) -> (String, Seen) {
    with(server, async |mut session| {
        let result = send(&mut session, &envelope_to("bob@b.example"), None).await;
        let shown = show(&result);
        session.quit().await;
        shown
    })
    .await
}

fn show(result: &Result<Outcome, SessionError>) -> String {
    match result {
        Ok(Outcome::Delivered(reply)) => format!("delivered {reply}"),
        Ok(Outcome::Refused(Refusal { verb, reply, by })) => match by {
            Party::Peer => format!("refused at {verb}: {reply}"),
            Party::Us => format!("not asked: {reply}"),
        },
        Err(error) if error.is_ambiguous() => format!("ambiguous: {error}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_futures_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    let (stream, _peer) = duplex(1);
    check(Session::open(stream, &mx(), &options()));
    let _ = |mut session: Session, envelope: Envelope| {
        check(async move {
            let result = send(&mut session, &envelope, None).await;
            session.quit().await;
            result
        })
    };
}
