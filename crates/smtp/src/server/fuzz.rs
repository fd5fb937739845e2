//! What holds for any octets a client may send. Called with random ones by the tests and by `make fuzz`.

use model::{Address, ByteSize, Domain};

use super::Extensions;
use super::command::{Command, Context, line_limit};
use super::content::Content;
use super::dots::Dots;
use crate::client;

/// The most content that is taken, in octets.
const LIMIT: ByteSize = ByteSize(4096);

/// What is read as a command holds nothing that could break a line, and addresses that are addresses.
pub fn commands(octets: &[u8]) {
    let Some((offered, octets)) = octets.split_first() else {
        return;
    };
    let hostname: Domain = match "mx.example.com".parse() {
        Ok(hostname) => hostname,
        Err(_) => unreachable!("it is a domain"),
    };
    let context = Context {
        extensions: if offered & 1 == 0 {
            Extensions::all()
        } else {
            Extensions::NONE
        },
        hostname: &hostname,
        smtp_utf8: offered & 2 == 0,
    };
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let _ = line_limit(line);
        match context.read(line) {
            Ok(command) => check(&command),
            Err(error) => assert!((500..600).contains(&error.reply().code())),
        }
    }
}

fn check(command: &Command) {
    let one_line = |text: &str| assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    let same = |address: &Address| {
        let said = address.to_string();
        one_line(&said);
        let again = said.parse::<Address>();
        assert_eq!(again.as_ref(), Ok(address), "{said:?}");
    };
    match command {
        Command::Mail(sender) => {
            sender.address.iter().for_each(same);
            one_line(&sender.envid);
            one_line(&sender.ret);
        }
        Command::Rcpt(recipient) => {
            same(&recipient.address);
            one_line(&recipient.orcpt);
            recipient.notify.iter().for_each(|word| one_line(word));
        }
        Command::Hello(_)
        | Command::Data
        | Command::Bdat(_)
        | Command::StartTls
        | Command::Rset
        | Command::Noop
        | Command::Vrfy
        | Command::Help
        | Command::Quit => {}
    }
}

/// Content ends where CRLF.CRLF does and nowhere else, however it arrives; what our client writes is read as written.
pub fn contents(octets: &[u8]) {
    let Some((piece, octets)) = octets.split_first() else {
        return;
    };
    let piece = usize::from(*piece) + 1;
    let (end, taken) = take(octets, piece);
    let framed = [b"\r\n", octets].concat();
    let expected = memchr::memmem::find(&framed, b"\r\n.\r\n").map(|at| at + 3);
    assert_eq!(end, expected, "the end depends on how it arrives");
    if let Some(taken) = taken {
        assert!(taken.len() as u64 <= LIMIT.0 && client::Content::new(&[&taken]).is_ok());
    }
    let chunks = [octets];
    if let Ok(content) = client::Content::new(&chunks) {
        let mut wire = client::on_the_wire(&content);
        wire.extend_from_slice(b"QUIT\r\n");
        let (end, taken) = take(&wire, piece);
        assert_eq!(
            end,
            Some(wire.len() - 6),
            "the client's end is not the server's"
        );
        let expected = [octets, content_closing(octets)].concat();
        assert!(expected.len() as u64 > LIMIT.0 || taken == Some(expected));
    }
}

fn content_closing(octets: &[u8]) -> &'static [u8] {
    if octets.is_empty() || octets.ends_with(b"\n") {
        b""
    } else {
        b"\r\n"
    }
}

/// Where content ends that comes in pieces of `piece`, and what was taken if it is in order.
fn take(octets: &[u8], piece: usize) -> (Option<usize>, Option<Vec<u8>>) {
    let mut content = Content::new(LIMIT);
    let mut dots = Dots::new();
    for (index, part) in octets.chunks(piece).enumerate() {
        if let Some(used) = dots.feed(part, &mut content) {
            return (Some(index * piece + used), content.finish().ok());
        }
    }
    (None, None)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// What a command is made of, and what breaks it.
    const COMMANDS: &[&str] = &[
        "EHLO ",
        "HELO ",
        "MAIL FROM:",
        "RCPT TO:",
        "DATA",
        "BDAT ",
        "LAST",
        "STARTTLS",
        "RSET",
        "<",
        ">",
        "a@b.example",
        "\"a b\"@b.example",
        "postmaster",
        "@x.example:",
        "jörg@b.example",
        " ",
        "  ",
        "SIZE=",
        "BODY=8BITMIME",
        "SMTPUTF8",
        "RET=HDRS",
        "ENVID=",
        "NOTIFY=NEVER",
        "ORCPT=rfc822;",
        "+0D+0A",
        "+41",
        "99999999999999999999",
        "1",
        "\r\n",
        "\r",
        "\n",
        "\0",
        "\u{2028}",
        "[127.0.0.1]",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn any_line_is_a_command_or_an_error(offered: u8, tokens in vec(select(COMMANDS), 0..16)) {
            super::commands(&[&[offered], tokens.concat().as_bytes()].concat());
        }

        #[test]
        fn any_content_ends_in_one_place(piece in 0u8..8, octets in "[\r\n.x]{0,40}(\r\n.\r\n)?[\r\n.xü]{0,8}") {
            super::contents(&[&[piece], octets.as_bytes()].concat());
        }
    }
}
