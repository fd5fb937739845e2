//! Messages before and after, and what no message may become.

use mail_parser::{MessageParser, MimeHeaders as _};
use proptest::prelude::*;

use super::*;

fn reencoded(message: &str) -> Result<String, Obstacle> {
    let message = message.replace('\n', "\r\n");
    let made = to_seven_bit(message.as_bytes())?;
    assert!(made.is_ascii());
    Ok(String::from_utf8(made.into_owned())
        .unwrap()
        .replace("\r\n", "\n"))
}

#[test]
fn ascii_is_left_alone() {
    let message = b"Subject: s\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhi\r\n";
    assert!(matches!(to_seven_bit(message), Ok(Cow::Borrowed(same)) if same == message));
}

#[test]
fn text_becomes_quoted_printable() {
    let made = reencoded(
        "MIME-Version: 1.0\nContent-Type: text/plain;\n charset=utf-8\ncontent-transfer-encoding: 8BIT\nSubject: s\n\n\
         grüße = 1 \n.dot\nend\t\n",
    );
    assert_eq!(
        made.unwrap(),
        "MIME-Version: 1.0\nContent-Type: text/plain;\n charset=utf-8\n\
         Content-Transfer-Encoding: quoted-printable\nSubject: s\n\ngr=C3=BC=C3=9Fe =3D 1=20\n.dot\nend=09\n"
    );
}

#[test]
fn text_that_is_mostly_not_ascii_becomes_base64() {
    let made = reencoded("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nпривет\n");
    assert_eq!(
        made.unwrap(),
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n\
         0L/RgNC40LLQtdGCDQo=\n"
    );
}

#[test]
fn a_message_that_was_not_mime_becomes_it() {
    let made = reencoded("Subject: s\n\na long line of text, and ü\n").unwrap();
    assert_eq!(
        made,
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nSubject: s\n\
         Content-Transfer-Encoding: quoted-printable\n\na long line of text, and =C3=BC\n"
    );
    let latin = to_seven_bit(b"Subject: s\r\n\r\ncaf\xe9 and more text\r\n").unwrap();
    assert!(String::from_utf8_lossy(&latin).contains("charset=unknown-8bit\r\n"));
}

/// Text, an attachment, and a forwarded message with parts of its own.
const NESTED: &str = "\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"outer\"
Content-Transfer-Encoding: 8bit

preamble
--outer
Content-Type: text/plain; charset=utf-8

für alle
--outer  \nContent-Type: application/octet-stream
Content-Transfer-Encoding: binary

ä
--outer
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: inner
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=outer-inner

--outer-inner
Content-Type: text/plain

only ascii
--outer-inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<p>naïve text</p>
--outer-inner--

--outer--
epilogue
";

#[test]
fn every_part_is_encoded_in_its_place() {
    assert_eq!(
        reencoded(NESTED).unwrap(),
        "\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"outer\"
Content-Transfer-Encoding: 7bit

preamble
--outer
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

f=C3=BCr alle
--outer  \nContent-Type: application/octet-stream
Content-Transfer-Encoding: base64

w6Q=
--outer
Content-Type: message/rfc822
Content-Transfer-Encoding: 7bit

Subject: inner
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=outer-inner

--outer-inner
Content-Type: text/plain

only ascii
--outer-inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>na=C3=AFve text</p>
--outer-inner--

--outer--
epilogue
"
    );
}

#[test]
fn an_independent_parser_reads_the_same_before_and_after() {
    let before = NESTED.replace('\n', "\r\n");
    let after = to_seven_bit(before.as_bytes()).unwrap();
    let read = |message: &[u8]| {
        let message = MessageParser::new().parse(message).unwrap();
        let parts = message.parts.iter().map(|part| {
            let kind = part.content_type().map(|kind| kind.c_type.to_string());
            let body = match &part.body {
                mail_parser::PartType::Message(inner) => {
                    inner.body_html(0).unwrap_or_default().into_owned()
                }
                _ if part.is_multipart() => String::new(),
                _ => String::from_utf8_lossy(part.contents()).into_owned(),
            };
            (kind, body)
        });
        parts.collect::<Vec<_>>()
    };
    assert_eq!(read(before.as_bytes()), read(&after));
}

#[test]
fn a_digest_holds_messages_that_need_not_say_so() {
    let made = reencoded(
        "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\ntext with ü\n--b--\n",
    );
    assert!(made.unwrap().contains(
        "--b\n\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nSubject: one\n"
    ));
}

#[test]
fn a_part_without_anything_stays_one() {
    let made = reencoded(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\ntext with ü\n--b",
    );
    assert_eq!(
        made.unwrap(),
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\
         Content-Transfer-Encoding: quoted-printable\n\ntext with =C3=BC\n--b"
    );
}

#[test]
fn what_must_not_or_cannot_be_encoded_says_why() {
    let deep = "Content-Type: message/rfc822\n\n".repeat(DEPTH_LIMIT) + "\nü\n";
    for (message, obstacle) in [
        ("Subject: ü\n\nb\n", Obstacle::Header),
        ("Subject: ü", Obstacle::Header),
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment; filename=ü\n\nx\n--b--\n",
            Obstacle::Header,
        ),
        (
            "Content-Type: message/global\n\nSubject: ü\n\nb\n",
            Obstacle::Header,
        ),
        (
            "Content-Type: multipart/signed; boundary=b\n\n--b\n\nü\n--b--\n",
            Obstacle::Sealed,
        ),
        (
            "Content-Type: multipart/mixed; boundary=o\n\n--o\ncontent-type: Multipart/Signed; boundary=b\n\n\
             --b\n\nü\n--b--\n--o--\n",
            Obstacle::Sealed,
        ),
        (
            "Content-Transfer-Encoding: base64\n\nü\n",
            Obstacle::Contradiction,
        ),
        ("Content-Type: message/partial; id=1\n\nü\n", Obstacle::Kind),
        ("Content-Type: multipart/mixed\n\nü\n", Obstacle::Boundary),
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--c\n\nü\n",
            Obstacle::Boundary,
        ),
        (&deep, Obstacle::Depth),
    ] {
        assert_eq!(reencoded(message), Err(obstacle), "{message}");
    }
}

#[test]
fn a_soft_line_break_makes_no_boundary() {
    let message = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n{}--b--ü\n--b--\n",
        "x".repeat(75)
    );
    let made = reencoded(&message).unwrap();
    assert_eq!(made.matches("\n--b").count(), 2, "{made}");
    assert!(made.contains("x=\n=2D-b--=C3=BC\n"), "{made}");
}

proptest! {
    /// Whatever the text, it reads the same, in lines that every server takes.
    #[test]
    fn any_text_comes_back_from_its_encoding(text in "[ -~\tüя=.-]{0,200}(\r\n[ -~\tüя=.-]{0,200}){0,6}\r\n") {
        let message = format!("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nü{text}");
        let made = to_seven_bit(message.as_bytes()).unwrap();
        prop_assert!(made.is_ascii() && made.split(|octet| *octet == b'\n').all(|line| line.len() <= 77));
        let parsed = MessageParser::new().parse(&made[..]).unwrap();
        prop_assert_eq!(parsed.body_text(0).unwrap().into_owned(), format!("ü{text}"));
    }

    /// What comes out is canonical and ASCII, and has no more parts than what went in.
    #[test]
    fn nothing_becomes_worse(lines in proptest::collection::vec(
        "(--b|--b--|--c|--c--|Content-Type: multipart/mixed; boundary=[bc]|Content-Type: message/rfc822\
         |Content-Transfer-Encoding: 8bit|Subject: s||ü|text -- ü)", 0..24)
    ) {
        let message = lines.join("\r\n");
        if let Ok(made) = to_seven_bit(message.as_bytes()) {
            prop_assert!(made.is_ascii());
            prop_assert!(crate::client::Content::new(&[&made]).is_ok());
            let count = |text: &[u8]| {
                usize::from(text.starts_with(b"--")) + memchr::memmem::find_iter(text, "\n--").count()
            };
            prop_assert!(count(&made) <= count(message.as_bytes()));
        }
    }
}
