//! Strings that have made two messages of one elsewhere.

/// Commands that must stay content.
const COMMANDS: &[u8] =
    b"MAIL FROM:<eve@evil.example>\r\nRCPT TO:<victim@gmail.example>\r\nDATA\r\n";

/// All strings over CR, LF and dot of up to `longest` octets, the shortest first.
pub fn line_ends_and_dots(longest: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..=longest).flat_map(|length| {
        (0..3_usize.pow(length)).map(move |number| {
            let octet = |place| b"\r\n."[number / 3_usize.pow(place) % 3];
            (0..length).map(octet).collect()
        })
    })
}

/// A raw message with `string` at the beginning, before and after commands, and at the end of its body.
pub fn around(string: &[u8], id: usize) -> Vec<u8> {
    let header = format!(
        "From: ann@acme.example\r\nTo: bob@gmail.example\r\nSubject: {id}\r\n\
         Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{id}@acme.example>\r\n\r\n"
    );
    [
        header.as_bytes(),
        string,
        b"a",
        string,
        COMMANDS,
        string,
        b"b\r\n",
        COMMANDS,
        string,
    ]
    .concat()
}

/// `raw` with each lone CR and each lone LF made CRLF, and a CRLF at its end: what arrives, octet by octet.
pub fn canonical(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() * 2);
    let mut octets = raw.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}
