//! How manners are written: `"dot: cut"`, `"mail first 3: say 451 4.3.0 later"`.

use std::num::NonZeroU64;
use std::time::Duration;

use model::parse_duration;
use smtp::server::{Manner, Stage};

/// Reply octets are this far apart where a recipient's name asks for a drip and does not say how slow.
const DRIP: Duration = Duration::from_millis(100);
/// Replies come this much later where a recipient's name asks for a wait and does not say how long.
const WAIT: Duration = Duration::from_secs(2);
/// The longest reply, and the most lines of one, that can be asked for.
const MOST: usize = 16 << 20;

/// Where in a connection something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before anything is said: the connection is not taken, or is reset.
    Connect,
    /// In the dialogue.
    Stage(Stage),
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    /// Whenever it could be.
    Always,
    /// So many times and then no more.
    First(NonZeroU64),
    /// The first time, and then every so many times.
    Each(NonZeroU64),
}

/// One line of a provider's manners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Habit {
    /// Where.
    pub at: At,
    /// How often.
    pub often: Often,
    /// What is done. At [`At::Connect`], either [`Manner::Hang`] or [`Manner::Cut`].
    pub manner: Manner,
}

/// Why a line is no habit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HabitError {
    /// Not of the form `state: what`.
    #[error("{0:?} is not of the form \"state: what\", such as \"dot: cut\"")]
    Form(String),
    /// Not a state.
    #[error(
        "{0:?} is no state; write connect, greeting, ehlo, starttls, tls, mail, rcpt, data, content, dot, rset or quit"
    )]
    State(String),
    /// Not a number of times.
    #[error(
        "{0:?} is not how often; write \"first 3\" or \"each 10\" behind the state, or nothing"
    )]
    Often(String),
    /// Nothing that can be done.
    #[error(
        "{0:?} cannot be done; write hang, cut [octets], drip <duration>, wait <duration>, say <reply>, close <reply>, \
         mute <reply>, also <reply>, raw <octets>, long <octets> or lines <count>; at connect, hang or cut"
    )]
    What(String),
}

impl std::str::FromStr for Habit {
    type Err = HabitError;

    fn from_str(text: &str) -> Result<Self, HabitError> {
        let form = || HabitError::Form(text.to_owned());
        let (place, what) = text.split_once(':').ok_or_else(form)?;
        let (state, times) = place.trim().split_once(' ').unwrap_or((place.trim(), ""));
        let at = at(state).ok_or_else(|| HabitError::State(state.to_owned()))?;
        let often = often(times.trim()).ok_or_else(|| HabitError::Often(times.to_owned()))?;
        let what = what.trim_start();
        let manner = manner(what).filter(|manner| fits(at, manner));
        let manner = manner.ok_or_else(|| HabitError::What(what.to_owned()))?;
        Ok(Self { at, often, manner })
    }
}

fn fits(at: At, manner: &Manner) -> bool {
    match at {
        At::Connect => matches!(manner, Manner::Hang | Manner::Cut(_)),
        At::Stage(_) => true,
    }
}

fn at(state: &str) -> Option<At> {
    Some(At::Stage(match state {
        "connect" => return Some(At::Connect),
        "greeting" => Stage::Greeting,
        "ehlo" => Stage::Hello,
        "starttls" => Stage::StartTls,
        "tls" => Stage::Handshake,
        "mail" => Stage::Mail,
        "rcpt" => Stage::Rcpt,
        "data" => Stage::Data,
        "content" => Stage::Content,
        "dot" => Stage::EndOfData,
        "rset" => Stage::Rset,
        "quit" => Stage::Quit,
        _ => return None,
    }))
}

fn often(text: &str) -> Option<Often> {
    if text.is_empty() {
        return Some(Often::Always);
    }
    let (word, number) = text.split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "first" => Some(Often::First(number)),
        "each" => Some(Often::Each(number)),
        _ => None,
    }
}

fn manner(what: &str) -> Option<Manner> {
    let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
    Some(match (verb, rest) {
        ("hang", "") => Manner::Hang,
        ("cut", "") => Manner::Cut(0),
        ("cut", count) => Manner::Cut(count.parse().ok()?),
        ("drip", gap) => Manner::Drip(parse_duration(gap).ok()?),
        ("wait", delay) => Manner::Wait(parse_duration(delay).ok()?),
        ("say", text) => Manner::Lie(line(text)?),
        ("close", text) => Manner::LieAndClose(line(text)?),
        ("mute", text) => Manner::LieAndHang(line(text)?),
        ("also", text) => Manner::Also(line(text)?),
        ("raw", text) => Manner::Lie(octets(text)?),
        ("long", count) => Manner::Lie(long(amount(count)?)),
        ("lines", count) => Manner::Lie(b"250-more\r\n".repeat(amount(count)?)),
        _ => return None,
    })
}

/// A reply line with so many octets of text.
fn long(count: usize) -> Vec<u8> {
    [b"250 ".as_slice(), &b"x".repeat(count), b"\r\n"].concat()
}

fn amount(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| *count <= MOST)
}

fn line(text: &str) -> Option<Vec<u8>> {
    let mut line = octets(text)?;
    line.extend_from_slice(b"\r\n");
    Some(line)
}

/// The octets of `text`, in which `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` stand for what they do in Rust.
fn octets(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'\\' {
            octets.push(*first);
            continue;
        }
        let (octet, used) = match rest {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                (u8::from_str_radix(digits, 16).ok()?, 3)
            }
            _ => return None,
        };
        octets.push(octet);
        rest = &rest[used..];
    }
    Some(octets)
}

/// What a recipient called `name` asks for: `dot-cut`, `content-cut-1000`, `rcpt-451`, `dot-drip-20`.
///
/// The number behind `drip` and `wait` is in milliseconds. Only states behind RCPT can be asked for.
pub(crate) fn asked_by(name: &str) -> Option<(Stage, Manner)> {
    let mut words = name.split('-');
    let At::Stage(stage) = at(words.next()?)? else {
        return None;
    };
    let (what, number) = (words.next()?, words.next());
    if words.next().is_some() || !is_behind_rcpt(stage) {
        return None;
    }
    let number = number.map(str::parse).transpose().ok()?;
    let span = |default| number.map_or(default, |count| Duration::from_millis(count as u64));
    let manner = match what {
        "hang" if number.is_none() => Manner::Hang,
        "cut" => Manner::Cut(number.unwrap_or(0)),
        "drip" => Manner::Drip(span(DRIP)),
        "wait" => Manner::Wait(span(WAIT)),
        code if number.is_none() && is_code(code) => Manner::Lie(line(&format!("{code} said"))?),
        _ => return None,
    };
    Some((stage, manner))
}

fn is_code(text: &str) -> bool {
    matches!(text.as_bytes(), [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'])
}

fn is_behind_rcpt(stage: Stage) -> bool {
    match stage {
        Stage::Rcpt
        | Stage::Data
        | Stage::Content
        | Stage::EndOfData
        | Stage::Rset
        | Stage::Quit => true,
        Stage::Greeting | Stage::Hello | Stage::StartTls | Stage::Handshake | Stage::Mail => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match text.parse::<Habit>() {
            Ok(habit) => format!("{:?} {:?} {:?}", habit.at, habit.often, habit.manner),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_habit_says_where_how_often_and_what() {
        assert_eq!(read("dot: cut"), "Stage(EndOfData) Always Cut(0)");
        assert_eq!(
            read("content each 10: cut 512"),
            "Stage(Content) Each(10) Cut(512)"
        );
        assert_eq!(
            read("ehlo first 3: drip 20ms"),
            "Stage(Hello) First(3) Drip(20ms)"
        );
        assert_eq!(read("connect: hang"), "Connect Always Hang");
        let raw = "raw \\xff\\0\\r\\n".to_owned();
        let habit: Habit = format!("mail: {raw}").parse().unwrap();
        assert_eq!(habit.manner, Manner::Lie(vec![0xff, 0, b'\r', b'\n']));
        let habit: Habit = "mail: say 250-a\\r\\n250 b".parse().unwrap();
        assert_eq!(habit.manner, Manner::Lie(b"250-a\r\n250 b\r\n".to_vec()));
    }

    #[test]
    fn what_is_no_habit_is_named_with_its_remedy() {
        expect_test::expect![[r#"
            "hang" is not of the form "state: what", such as "dot: cut"
            "vrfy" is no state; write connect, greeting, ehlo, starttls, tls, mail, rcpt, data, content, dot, rset or quit
            "last 3" is not how often; write "first 3" or "each 10" behind the state, or nothing
            "smile" cannot be done; write hang, cut [octets], drip <duration>, wait <duration>, say <reply>, close <reply>, mute <reply>, also <reply>, raw <octets>, long <octets> or lines <count>; at connect, hang or cut
            "say hi" cannot be done; write hang, cut [octets], drip <duration>, wait <duration>, say <reply>, close <reply>, mute <reply>, also <reply>, raw <octets>, long <octets> or lines <count>; at connect, hang or cut
            "raw \\xg0" cannot be done; write hang, cut [octets], drip <duration>, wait <duration>, say <reply>, close <reply>, mute <reply>, also <reply>, raw <octets>, long <octets> or lines <count>; at connect, hang or cut"#]]
        .assert_eq(
            &["hang", "vrfy: hang", "mail last 3: cut", "mail: smile", "connect: say hi", "mail: raw \\xg0"]
                .map(read)
                .join("\n"),
        );
    }

    #[test]
    fn a_recipients_name_can_ask_for_what_comes_behind_rcpt() {
        let asked = |name| asked_by(name).map(|(stage, manner)| format!("{stage:?} {manner:?}"));
        assert_eq!(asked("dot-cut").as_deref(), Some("EndOfData Cut(0)"));
        assert_eq!(
            asked("content-cut-1000").as_deref(),
            Some("Content Cut(1000)")
        );
        assert_eq!(
            asked("dot-drip-20").as_deref(),
            Some("EndOfData Drip(20ms)")
        );
        assert_eq!(
            asked_by("rcpt-451").unwrap().1,
            Manner::Lie(b"451 said\r\n".to_vec())
        );
        for ordinary in [
            "mail-hang",
            "connect-cut",
            "dot",
            "dot-hang-5",
            "dot-cut-x",
            "rcpt-600",
            "ann",
            "jean-cut",
        ] {
            assert_eq!(asked(ordinary), None, "{ordinary}");
        }
    }
}
