//! Every set of extensions a peer may offer: what is offered is used, what is not is not, and the mail arrives.

use model::Dsn;

use super::*;

const OFFERS: [&str; 6] = [
    "PIPELINING",
    "SIZE 100000",
    "8BITMIME",
    "CHUNKING",
    "DSN",
    "SMTPUTF8",
];

/// Two messages, the first with 8-bit content and everything that can be asked for.
async fn sent_to(offered: &[&str], framing: Framing) -> ([String; 2], Seen) {
    let chunks = [
        &b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"[..],
        "grüße aus der ferne\r\n".as_bytes(),
    ];
    let content = Content::new(&chunks).unwrap();
    let mut first = envelope_to("bob@b.example");
    first.content = content.facts();
    first.dsn = Dsn {
        notify: vec!["FAILURE".into()],
        ret: "HDRS".into(),
        envid: "e1".into(),
        orcpt: "rfc822;bob@b.example".into(),
    };
    let second = envelope_to("eve@b.example");
    let options = Options {
        framing,
        ..options()
    };
    with_options(options, Server::offering(offered), async |mut session| {
        let transaction = Transaction {
            envelope: &first,
            content: &content,
        };
        let shown = [
            show(&session.send(&transaction, Some(&second), &held).await),
            show(&send(&mut session, &second, None).await),
        ];
        session.quit().await;
        shown
    })
    .await
}

#[tokio::test]
async fn whatever_the_peer_offers_the_mail_arrives_and_nothing_else_is_used() {
    for set in 0..1_u32 << OFFERS.len() {
        let offered: Vec<&str> = (0..OFFERS.len())
            .filter(|place| set >> place & 1 == 1)
            .map(|place| OFFERS[place])
            .collect();
        let offers = |keyword: &str| offered.iter().any(|offer| offer.starts_with(keyword));
        for framing in [Framing::Data, Framing::Chunking] {
            let (shown, seen) = sent_to(&offered, framing).await;
            assert_eq!(shown, ["delivered 250 2.0.0 queued"; 2], "{offered:?}");
            let [first, second] = &seen.messages[..] else {
                panic!("{} messages: {offered:?}", seen.messages.len());
            };
            assert_eq!(first.is_ascii(), !offers("8BITMIME"), "{offered:?}");
            assert_eq!(*second, MESSAGE.concat());
            let said = |words: &str| seen.commands.iter().any(|line| line.contains(words));
            assert_eq!(said(&format!(" SIZE={}", first.len())), offers("SIZE"));
            assert_eq!(said(" BODY=8BITMIME"), offers("8BITMIME"));
            for words in [" RET=", " ENVID=", " NOTIFY=", " ORCPT="] {
                assert_eq!(said(words), offers("DSN"), "{words} {offered:?}");
            }
            let chunked = framing == Framing::Chunking && offers("CHUNKING");
            assert_eq!((said("BDAT"), said("DATA")), (chunked, !chunked));
            assert!(!said("SMTPUTF8"), "nothing needs it");
        }
    }
}
