//! The distance between a client and a provider: every octet is under way for half a round trip, in both directions.
//!
//! Octets keep their order and their pace; only the moment of arrival moves. A client that waits for each answer feels
//! every round trip, one that pipelines does not.

use std::time::Duration;

use bytes::BytesMut;
use runtime::Tasks;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Octets on our side of the link that were not yet sent or not yet read.
const BUFFER: usize = 256 * 1024;
/// Pieces under way in one direction.
const UNDER_WAY: usize = 1024;
/// Octets in a piece.
const PIECE: usize = 64 * 1024;

/// The near end of `stream`, whose far end is a round trip of `rtt` away.
pub(crate) fn at<S>(stream: S, rtt: Duration, tasks: &Tasks) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (ours, link) = duplex(BUFFER);
    let (from_client, to_client) = split(stream);
    let (from_us, to_us) = split(link);
    tasks.spawn("link", async move {
        tokio::select! {
            // Once the session is over and its last reply has arrived, so is the connection.
            () = carry(from_us, to_client, rtt / 2) => {}
            () = async {
                carry(from_client, to_us, rtt / 2).await;
                std::future::pending().await
            } => {}
        }
    });
    ours
}

/// Carries octets until their source ends and all have arrived, or until nobody takes them.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (leave, mut arrive) = mpsc::channel::<(Instant, BytesMut)>(UNDER_WAY);
    let leaving = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            match from.read_buf(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if leave.send((Instant::now() + delay, piece)).await.is_err() {
                break;
            }
        }
        drop(leave);
        std::future::pending().await
    };
    let arriving = async move {
        while let Some((due, piece)) = arrive.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        // A client that is gone already does not mind.
        let _ = to.shutdown().await;
    };
    tokio::select! {
        () = arriving => {}
        () = leaving => {}
    }
}

#[cfg(test)]
mod tests {
    use runtime::Shutdown;

    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn a_question_and_its_answer_take_one_round_trip_however_many_are_asked_at_once() {
        let tasks = Tasks::new(Shutdown::default());
        let (mut client, theirs) = duplex(1024);
        let mut server = at(theirs, RTT, &tasks);
        let began = Instant::now();
        let asking = async {
            client.write_all(b"123").await.unwrap();
            let mut answers = [0; 3];
            client.read_exact(&mut answers).await.unwrap();
            assert_eq!(&answers, b"123");
        };
        let answering = async {
            for _ in 0..3 {
                let question = server.read_u8().await.unwrap();
                server.write_u8(question).await.unwrap();
            }
        };
        tokio::join!(asking, answering);
        let took = began.elapsed();
        assert!(
            (RTT..RTT + Duration::from_millis(10)).contains(&took),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_last_arrives_although_the_session_is_over() {
        let tasks = Tasks::new(Shutdown::default());
        let (mut client, theirs) = duplex(1024);
        let mut server = at(theirs, RTT, &tasks);
        server.write_all(b"bye").await.unwrap();
        drop(server);
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye");
        tasks.finish(Duration::from_secs(1)).await.unwrap();
    }
}
