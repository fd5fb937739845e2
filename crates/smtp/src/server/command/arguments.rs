//! The words of a command line: paths, parameters and their values.

use super::{Chunk, CommandError};

pub(super) fn client_name(rest: &str) -> Result<String, CommandError> {
    let printable = !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_graphic());
    if printable && rest.len() <= 255 {
        Ok(rest.to_owned())
    } else {
        Err(CommandError::Syntax("HELO domain"))
    }
}

/// Splits `FROM:<path> parameters` into path and parameters, without a source route (RFC 5321 appendix C).
pub(super) fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (given, rest) = rest.split_at_checked(keyword.len())?;
    let inner = rest.strip_prefix('<')?;
    let end = closing_bracket(inner)?;
    let parameters = &inner[end + 1..];
    let separated = parameters.is_empty() || parameters.starts_with(' ');
    (given.eq_ignore_ascii_case(keyword) && separated)
        .then(|| (without_route(&inner[..end]), parameters))
}

/// Where the path ends: the first `>` outside quotes.
fn closing_bracket(inner: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    inner.bytes().position(|octet| {
        let ends = octet == b'>' && !quoted;
        quoted ^= octet == b'"' && !escaped;
        escaped = octet == b'\\' && quoted && !escaped;
        ends
    })
}

fn without_route(path: &str) -> &str {
    match path.split_once(':') {
        Some((route, mailbox)) if route.starts_with('@') => mailbox,
        _ => path,
    }
}

pub(super) fn bdat(rest: &str) -> Result<Chunk, CommandError> {
    let (size, last) = match rest.split_once(' ') {
        None => (rest, false),
        Some((size, word)) if word.eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return Err(CommandError::Bdat),
    };
    let size = number(size).ok_or(CommandError::Bdat)?;
    Ok(Chunk { size, last })
}

/// Digits and nothing else.
pub(super) fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|c| c.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// `text`, if it is xtext, which cannot hold a control character (RFC 3461 section 4).
pub(super) fn xtext(text: &str) -> Option<String> {
    let valid = !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic() && c != b'=');
    valid.then(|| text.to_owned())
}

pub(super) fn notify(keywords: &str) -> Option<Vec<String>> {
    let keywords: Vec<String> = keywords.split(',').map(str::to_ascii_uppercase).collect();
    let known = |word: &String| ["SUCCESS", "FAILURE", "DELAY"].contains(&word.as_str());
    (keywords == ["NEVER"] || keywords.iter().all(known)).then_some(keywords)
}

/// `KEY` or `KEY=value`.
pub(super) struct Parameter<'a> {
    pub(super) key: String,
    pub(super) value: Option<&'a str>,
}

impl<'a> Parameter<'a> {
    /// Reads a parameter whose key is not among those `seen`, and puts it there.
    pub(super) fn read(word: &'a str, seen: &mut Vec<String>) -> Result<Self, CommandError> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let key = key.to_ascii_uppercase();
        if seen.contains(&key) {
            return Err(CommandError::Value(key));
        }
        seen.push(key.clone());
        Ok(Self { key, value })
    }
}
