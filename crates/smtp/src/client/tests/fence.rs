//! The fence: nothing is completed without the caller's word.

use std::sync::atomic::AtomicUsize;

use super::*;

async fn send_with(
    session: &mut Session,
    chunks: &[&[u8]],
    next: Option<&Envelope>,
    fence: Fence<'_>,
) -> Result<Outcome, SessionError> {
    let content = Content::new(chunks).unwrap();
    let envelope = envelope_to("bob@b.example");
    let transaction = Transaction {
        envelope: &envelope,
        content: &content,
    };
    session.send(&transaction, next, fence).await
}

#[tokio::test]
async fn a_fence_that_says_no_leaves_no_message_behind() {
    let large = b"0123456789abcde\r\n".repeat(20_000);
    for chunks in [MESSAGE, &[&large[..]], &[]] {
        for (offered, framing) in [
            (PIPELINING, Framing::Data),
            (&[], Framing::Data),
            (&["PIPELINING", "CHUNKING"], Framing::Chunking),
            (&["CHUNKING"], Framing::Chunking),
        ] {
            let mut options = options();
            options.framing = framing;
            let next = envelope_to("next@b.example");
            let server = Server::offering(offered);
            let (error, seen) = with_options(options, server, async |mut session| {
                let refuse = || false;
                let result = send_with(&mut session, chunks, Some(&next), &refuse).await;
                assert!(!session.is_reusable());
                result.unwrap_err()
            })
            .await;
            assert!(matches!(error, SessionError::Fenced), "{error:?}");
            assert!(!error.is_ambiguous());
            assert!(seen.messages.is_empty(), "{offered:?}");
            assert!(!seen.commands.iter().any(|line| line.contains("next")));
        }
    }
}

#[tokio::test]
async fn a_fence_is_asked_once_and_after_the_rest_of_the_content_has_left() {
    let large = b"0123456789abcde\r\n".repeat(20_000);
    let asked = AtomicUsize::new(0);
    let (shown, seen) = with(Server::offering(PIPELINING), async |mut session| {
        let fence = || asked.fetch_add(1, Ordering::Relaxed) == 0;
        show(&send_with(&mut session, &[&large], None, &fence).await)
    })
    .await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(asked.into_inner(), 1);
    assert_eq!(seen.messages, [large]);
}

#[tokio::test]
async fn a_fence_that_falls_while_the_peer_is_slow_still_holds() {
    // One octet fits into the stream, so the last block leaves in many writes and the fence is asked before each.
    let (ours, theirs) = duplex(1);
    let fallen = AtomicBool::new(false);
    let client = async {
        let mut session = Session::open(ours, &mx(), &options()).await.unwrap();
        let asked = AtomicUsize::new(0);
        let fence = || {
            asked.fetch_add(1, Ordering::Relaxed) < 5 || {
                fallen.store(true, Ordering::Relaxed);
                false
            }
        };
        send_with(&mut session, MESSAGE, None, &fence)
            .await
            .unwrap_err()
    };
    let (error, seen) = tokio::join!(client, Server::offering(&[]).run(theirs));
    assert!(matches!(error, SessionError::Fenced) && fallen.into_inner());
    assert!(seen.messages.is_empty() && !seen.torso.is_empty());
}

#[tokio::test]
async fn a_fence_is_not_asked_for_a_message_that_was_refused() {
    let server = Server::offering(PIPELINING).on(Verb::Rcpt, "550 5.1.1 no");
    let (shown, _) = with(server, async |mut session| {
        let fence = || unreachable!("nothing is going to be delivered");
        show(&send_with(&mut session, MESSAGE, None, &fence).await)
    })
    .await;
    assert_eq!(shown, "refused at RCPT: 550 5.1.1 no");
}
