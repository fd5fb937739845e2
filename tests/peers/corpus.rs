//! Messages of all kinds that SMTP must carry unchanged.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tests::{around, line_ends_and_dots};

/// A line as it may stand in a body.
const LINES: [&str; 14] = [
    "",
    ".",
    "..",
    ".hidden",
    " ",
    "\t",
    "trailing space ",
    "From the beginning",
    ">From quoted",
    "QUIT",
    "schöne Grüße, 日本語",
    "DATA",
    "=20=3D",
    "plain text",
];

/// `count` messages: every other one around a string of line ends and dots, the others of lines at random.
pub(crate) fn messages(count: usize) -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(count as u64);
    let strings = line_ends_and_dots(9);
    strings
        .take(count)
        .enumerate()
        .map(|(id, string)| {
            if id % 2 == 0 {
                around(&string, id)
            } else {
                lines(&mut random, id)
            }
        })
        .collect()
}

fn lines(random: &mut StdRng, id: usize) -> Vec<u8> {
    let mut message = format!(
        "From: ann@acme.example\r\nTo: bob@peer.example\r\nSubject: {id}\r\n\
         Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{id}@acme.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n"
    );
    for _ in 0..random.random_range(0..40) {
        match random.random_range(0..=LINES.len()) {
            0 => message.push_str(&"x".repeat(random.random_range(900..=998))),
            number => message.push_str(LINES[number - 1]),
        }
        message.push_str(["\r\n", "\n", "\r"][random.random_range(0..3)]);
    }
    message.into_bytes()
}
