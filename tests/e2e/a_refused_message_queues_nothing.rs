//! What is wrong is refused with the field and the remedy, and leaves nothing behind.

use api::v1::submit_request::Content;
use api::v1::{Attachment, HeaderField, MessageParts, SubmitRequest};
use tests::{Setup, letter, letter_to};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::PROGRAM;
use super::broker;

/// A request with one fault.
struct Faulty {
    request: SubmitRequest,
    field: &'static str,
    remedy: &'static str,
}

#[tokio::test]
async fn a_wrong_field_is_named_with_its_remedy() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    for faulty in in_the_envelope().into_iter().chain(in_the_content()) {
        let Faulty {
            request,
            field,
            remedy,
        } = faulty;
        let refused = api.submit(request).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(
            refused.message().contains(&format!("{field}: ")),
            "{field} is missing in {refused:?}"
        );
        assert!(
            refused.message().contains(remedy),
            "{remedy:?} is missing in {refused:?}"
        );
        assert_eq!(reason(&refused), "INVALID_FIELD");
        let details = refused.get_details_bad_request();
        let details = details.map_or_else(Vec::new, |details| details.field_violations);
        let fields: Vec<&str> = details
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, [field], "{refused:?}");
        assert!(details[0].description.contains(remedy), "{details:?}");
    }
    assert_eq!(broker::occupied(cluster.nats_url()?).await?, [].into());
    cluster.finish().await
}

#[tokio::test]
async fn a_caller_without_a_valid_key_is_refused() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let stranger = cluster.anonymous()?;
    let bad = stranger.clone().with_key("not one of the keys")?;
    let cases = [
        (
            stranger,
            "API_KEY_MISSING",
            "send `authorization: Bearer <API key>`",
        ),
        (bad, "API_KEY_INVALID", "use one that ingest.api_keys lists"),
    ];
    for (caller, expected, remedy) in cases {
        let refusals = [
            caller.submit(letter("ann@gmail.example")).await.err(),
            caller
                .get("0193e0d5-8c4a-7b6e-9f3d-2a1b5c7d9e0f")
                .await
                .err(),
            caller.events().await.err(),
        ];
        for refused in refusals.map(|refused| refused.expect("a stranger got in")) {
            assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
            assert_eq!(reason(&refused), expected);
            assert!(
                refused.message().contains(remedy),
                "{remedy:?} is missing in {refused:?}"
            );
        }
    }
    assert_eq!(broker::occupied(cluster.nats_url()?).await?, [].into());
    cluster.finish().await
}

#[tokio::test]
async fn the_command_line_passes_the_refusal_on() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let args = [
        "send",
        "--from",
        "ann@acme.example",
        "--to",
        "bob",
        "--text",
        "hi",
    ];
    let refused = cluster.verbs()?.run(&args).await?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.err.contains("recipients[0]: \"bob\" has no '@'"),
        "{refused:?}"
    );
    assert_eq!(broker::occupied(cluster.nats_url()?).await?, [].into());
    cluster.finish().await
}

fn in_the_envelope() -> Vec<Faulty> {
    let to = |address| letter_to(&["good@gmail.example", address]);
    vec![
        Faulty {
            request: to("bob"),
            field: "recipients[1]",
            remedy: "has no '@'",
        },
        Faulty {
            request: to("bob@"),
            field: "recipients[1]",
            remedy: "domain",
        },
        Faulty {
            request: to("bob@gmail.example>\r\nRCPT TO:<eve@gmail.example"),
            field: "recipients[1]",
            remedy: "",
        },
        Faulty {
            request: letter_to(&[]),
            field: "recipients",
            remedy: "give at least one address",
        },
        Faulty {
            request: SubmitRequest {
                sender: "ann@@acme.example".into(),
                ..letter("bob@gmail.example")
            },
            field: "sender",
            remedy: "",
        },
        Faulty {
            request: SubmitRequest {
                class: 7,
                ..letter("bob@gmail.example")
            },
            field: "class",
            remedy: "use CLASS_TRANSACTIONAL (1) or CLASS_BULK (2)",
        },
    ]
}

fn in_the_content() -> Vec<Faulty> {
    let mut unknown_type = parts();
    unknown_type.attachments.push(Attachment {
        filename: "a.bin".into(),
        content_type: "whatever".into(),
        content: vec![1].into(),
        content_id: String::new(),
    });
    let mut injected = parts();
    injected.headers.push(HeaderField {
        name: "X-Order".into(),
        value: "1\r\nBcc: eve@gmail.example".into(),
    });
    vec![
        Faulty {
            request: of_parts(MessageParts {
                subject: "hi\r\nBcc: eve@gmail.example".into(),
                ..parts()
            }),
            field: "parts.subject",
            remedy: "contains a line break (CR or LF), which would begin another header field; remove it",
        },
        Faulty {
            request: of_parts(injected),
            field: "parts.headers[0].value",
            remedy: "remove it",
        },
        Faulty {
            request: of_parts(unknown_type),
            field: "parts.attachments[0].content_type",
            remedy: "is not a media type such as \"application/pdf\"",
        },
        Faulty {
            request: of_parts(MessageParts {
                from: "Acme".into(),
                ..parts()
            }),
            field: "parts.from",
            remedy: "write \"ann@example.com\" or \"Ann <ann@example.com>\"",
        },
        Faulty {
            request: of_raw(b"Subject: hi\r\n\r\nhello\r\n".to_vec()),
            field: "raw",
            remedy: "From",
        },
        Faulty {
            request: of_raw(thirty_megabytes()),
            field: "raw",
            remedy: "25MiB",
        },
        Faulty {
            request: of_parts(MessageParts {
                text: "long line\n".repeat(3 << 20),
                ..parts()
            }),
            field: "parts",
            remedy: "send a link instead of the attachment, or raise the limit",
        },
    ]
}

fn parts() -> MessageParts {
    MessageParts {
        from: "ann@acme.example".into(),
        text: "hello".into(),
        ..MessageParts::default()
    }
}

fn of_parts(parts: MessageParts) -> SubmitRequest {
    SubmitRequest {
        content: Some(Content::Parts(parts)),
        ..letter("bob@gmail.example")
    }
}

fn of_raw(raw: Vec<u8>) -> SubmitRequest {
    SubmitRequest {
        content: Some(Content::Raw(raw.into())),
        ..letter("bob@gmail.example")
    }
}

fn thirty_megabytes() -> Vec<u8> {
    let mut raw = b"From: ann@acme.example\r\n\r\n".to_vec();
    raw.resize(30_000_000, b'\n');
    raw
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}
