//! What a receiving server said.

use std::fmt;

/// The most characters of a reply's text that are kept.
const TEXT_LIMIT: usize = 512;

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl std::str::FromStr for EnhancedCode {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self(next().parse()?, next().parse()?, next().parse()?))
    }
}

/// One SMTP reply (RFC 5321 section 4.2), made safe to store and to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: String,
}

impl Reply {
    /// A reply with `code`, whose `text` is cut to 512 characters and cleared of control characters.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, text: &str) -> Self {
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let text = text.trim();
        let mut shown = String::with_capacity(text.len().min(TEXT_LIMIT));
        shown.extend(text.chars().take(TEXT_LIMIT).map(visible));
        Self {
            code,
            enhanced,
            text: shown,
        }
    }

    /// The three-digit code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, where the server sent one.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text, without the codes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 2xx: the command was carried out.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 5xx: the same command will fail again.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_cannot_break_the_line_it_is_shown_on() {
        let reply = Reply::new(550, Some(EnhancedCode(5, 1, 1)), "no\r\nsuch \x1b[31muser");
        assert_eq!(reply.to_string(), "550 5.1.1 no  such  [31muser");
    }

    #[test]
    fn a_long_reply_is_cut() {
        assert_eq!(Reply::new(250, None, &"x".repeat(5000)).text().len(), 512);
    }
}
