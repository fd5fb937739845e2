use super::*;

fn read(line: &str) -> Result<Command, CommandError> {
    let hostname = "mx.example.com".parse().unwrap();
    let context = Context {
        extensions: Extensions::all(),
        hostname: &hostname,
        smtp_utf8: false,
    };
    context.read(format!("{line}\r\n").as_bytes())
}

fn code(line: &str) -> u16 {
    read(line).unwrap_err().reply().code()
}

fn sender(line: &str) -> Sender {
    match read(line) {
        Ok(Command::Mail(sender)) => sender,
        other => panic!("{line}: {other:?}"),
    }
}

fn recipient(line: &str) -> Recipient {
    match read(line) {
        Ok(Command::Rcpt(recipient)) => recipient,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn verbs_are_known_in_any_case() {
    assert_eq!(read("data"), Ok(Command::Data));
    assert_eq!(read("Noop with words"), Ok(Command::Noop));
    assert_eq!(
        read("ehlo [127.0.0.1]"),
        Ok(Command::Hello(Hello::Ehlo("[127.0.0.1]".into())))
    );
    assert_eq!(
        read("BDAT 12 last"),
        Ok(Command::Bdat(Chunk {
            size: 12,
            last: true
        }))
    );
}

#[test]
fn mail_carries_its_parameters() {
    let sender = sender(
        "MAIL FROM:<ann@example.com> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=hdrs ENVID=a+2Bb REQUIRETLS",
    );
    assert_eq!(sender.address.unwrap().to_string(), "ann@example.com");
    assert_eq!(sender.size, Some(ByteSize(10)));
    assert!(sender.eight_bit && sender.smtp_utf8 && sender.require_tls);
    assert_eq!(
        (sender.ret.as_str(), sender.envid.as_str()),
        ("HDRS", "a+2Bb")
    );
}

#[test]
fn the_null_reverse_path_is_empty_brackets_only() {
    assert_eq!(sender("MAIL FROM:<>").address, None);
    assert_eq!(code("MAIL FROM:<postmaster>"), 501);
    assert_eq!(code("MAIL FROM:< >"), 501);
    assert_eq!(code("RCPT TO:<>"), 501);
}

#[test]
fn paths_may_hold_quotes_and_routes() {
    let address = |line| recipient(line).address.to_string();
    assert_eq!(
        address(r#"RCPT TO:<"a>b\"c"@example.com>"#),
        r#""a>b\"c"@example.com"#
    );
    assert_eq!(
        address("RCPT TO:<@relay.example,@b.example:ann@example.com>"),
        "ann@example.com"
    );
    assert_eq!(address("RCPT TO:<Postmaster>"), "Postmaster@mx.example.com");
}

#[test]
fn rcpt_carries_its_parameters() {
    let recipient =
        recipient("RCPT TO:<a@example.com> NOTIFY=success,DELAY ORCPT=rfc822;a@x.example");
    assert_eq!(recipient.notify, ["SUCCESS", "DELAY"]);
    assert_eq!(recipient.orcpt, "rfc822;a@x.example");
}

#[test]
fn what_is_not_a_command_is_refused_by_its_fault() {
    for (line, expected) in [
        ("", 500),
        ("FOO", 500),
        (" NOOP", 500),
        ("NOOP\0", 500),
        ("NOOP\rRSET", 500),
        ("AUTH PLAIN", 502),
        ("DATA now", 501),
        ("EHLO", 501),
        ("EHLO a b", 501),
        ("MAIL FROM: <a@example.com>", 501),
        ("MAIL FROM:<a@example.com>SIZE=1", 501),
        ("MAIL FROM:<a@example.com> SIZE=-1", 501),
        ("MAIL FROM:<a@example.com> SIZE=1 SIZE=2", 501),
        ("MAIL FROM:<a@example.com> BODY=BINARYMIME", 501),
        ("MAIL FROM:<a@example.com> HOLDFOR=1", 555),
        ("RCPT TO:<a@example.com", 501),
        ("RCPT TO:<a@[127.0.0.1]>", 501),
        ("RCPT TO:<a@example.com> NOTIFY=NEVER,DELAY", 501),
        ("RCPT TO:<a@example.com> ORCPT=x", 501),
        ("RCPT TO:<jörg@example.com>", 553),
        ("BDAT", 501),
        ("BDAT -1", 501),
        ("BDAT 1 LAST x", 501),
    ] {
        assert_eq!(code(line), expected, "{line:?}");
    }
}

#[test]
fn a_line_without_cr_is_refused() {
    let hostname = "mx.example.com".parse().unwrap();
    let context = Context {
        extensions: Extensions::NONE,
        hostname: &hostname,
        smtp_utf8: false,
    };
    assert_eq!(context.read(b"NOOP\n"), Err(CommandError::NotText));
    assert!(context.read(b"BDAT 5\r\n").unwrap_err().loses_sync());
    assert!(
        context
            .read(b"MAIL FROM:<a@example.com> SIZE=5\r\n")
            .is_err()
    );
}
