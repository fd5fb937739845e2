//! BDAT LAST in one group with the envelope.

use super::peer::Step;
use super::*;

const OFFERED: &[&str] = &["PIPELINING", "CHUNKING"];

fn chunking() -> Options {
    let mut options = options();
    options.framing = Framing::Chunking;
    options
}

async fn two_messages(server: Server) -> ([String; 2], Seen) {
    with_options(chunking(), server, async |mut session| {
        let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
        let one = show(&send(&mut session, &first, Some(&second)).await);
        let two = show(&send(&mut session, &second, None).await);
        [one, two]
    })
    .await
}

#[tokio::test]
async fn a_chunk_needs_no_dots_and_no_354() {
    let text: &[u8] = b".a\r\n.\r\nno line end";
    let (shown, seen) = with_options(
        chunking(),
        Server::offering(OFFERED),
        async |mut session| {
            let chunks = [text];
            let content = Content::new(&chunks).unwrap();
            let envelope = envelope_to("bob@b.example");
            let transaction = Transaction {
                envelope: &envelope,
                content: &content,
            };
            show(&session.send(&transaction, None, &held).await)
        },
    )
    .await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(seen.messages, [[text, b"\r\n"].concat()]);
    assert_eq!(seen.dialogue()[2], "BDAT 20 LAST");
}

#[tokio::test]
async fn a_refusal_at_each_command_leaves_the_next_message_alone() {
    for offered in [OFFERED, &["CHUNKING"]] {
        for verb in [Verb::Mail, Verb::Rcpt, Verb::EndOfData] {
            let server = Server::offering(offered).on(verb, "550 5.1.1 no");
            let (shown, _) = two_messages(server).await;
            let expected = format!("refused at {verb}: 550 5.1.1 no");
            assert_eq!(shown, [expected.as_str(), "delivered 250 2.0.0 queued"]);
        }
    }
}

#[tokio::test]
async fn once_the_last_octet_is_out_a_lost_connection_is_ambiguous() {
    for verb in [Verb::Mail, Verb::Rcpt, Verb::EndOfData] {
        let server = Server::offering(OFFERED).does(verb, Step::Close);
        let ([first, _], _) = two_messages(server).await;
        assert_eq!(
            first, "ambiguous: connection closed by the peer at end of data",
            "{verb}"
        );
    }
    let server = Server::offering(&["CHUNKING"]).does(Verb::Rcpt, Step::Close);
    let ([first, _], _) = two_messages(server).await;
    assert_eq!(first, "connection closed by the peer at RCPT");
}

#[tokio::test]
async fn without_chunking_content_goes_behind_data() {
    let (shown, seen) = two_messages(Server::offering(PIPELINING)).await;
    assert_eq!(shown, ["delivered 250 2.0.0 queued"; 2]);
    assert!(seen.commands.contains(&"DATA".to_string()));
}

#[tokio::test]
async fn a_refusal_in_front_of_a_chunk_that_the_peer_does_not_read_is_heard() {
    let body = b"0123456789abcde\r\n".repeat(20_000);
    for verb in [Verb::Mail, Verb::Rcpt] {
        let step = Step::SayAndClose(b"550 5.7.1 blocked\r\n".to_vec());
        let server = Server::offering(OFFERED).does(verb, step).with_buffer(5000);
        let (shown, seen) = with_options(chunking(), server, async |mut session| {
            let chunks = [&body[..]];
            let content = Content::new(&chunks).unwrap();
            let envelope = envelope_to("bob@b.example");
            let transaction = Transaction {
                envelope: &envelope,
                content: &content,
            };
            let shown = show(&session.send(&transaction, None, &held).await);
            assert!(!session.is_reusable());
            shown
        })
        .await;
        assert_eq!(shown, format!("refused at {verb}: 550 5.7.1 blocked"));
        assert!(seen.messages.is_empty());
    }
}

#[tokio::test]
async fn a_large_chunk_arrives_whole() {
    let body = b"0123456789abcde\r\n".repeat(20_000);
    let server = Server::offering(OFFERED).with_buffer(5000);
    let (shown, seen) = with_options(chunking(), server, async |mut session| {
        let chunks = [&body[..7], &body[7..]];
        let content = Content::new(&chunks).unwrap();
        let envelope = envelope_to("bob@b.example");
        let transaction = Transaction {
            envelope: &envelope,
            content: &content,
        };
        show(&session.send(&transaction, None, &held).await)
    })
    .await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(seen.messages, [body]);
}
