//! The commands that open one transaction, in one piece of text (RFC 2920 section 3.1).

use super::{Envelope, Extensions, Verb};

/// Room for the commands of most transactions.
const USUAL_TEXT: usize = 192;
/// RSET, MAIL, RCPT and DATA.
const MOST_COMMANDS: usize = 4;

/// Commands in the order in which they are sent, and their replies will come.
#[derive(Debug)]
pub(super) struct Group {
    text: String,
    ends: Vec<(Verb, usize)>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            text: String::with_capacity(USUAL_TEXT),
            ends: Vec::with_capacity(MOST_COMMANDS),
        }
    }
}

impl Group {
    /// MAIL and RCPT.
    pub(super) fn mail(mut self, envelope: &Envelope, offered: &Extensions) -> Self {
        envelope.write_mail(offered, &mut self.text);
        let mut group = self.end(Verb::Mail);
        envelope.write_rcpt(offered, &mut group.text);
        group.end(Verb::Rcpt)
    }

    /// RSET, which clears what an earlier transaction left behind.
    pub(super) fn rset(self) -> Self {
        self.line(Verb::Rset, "RSET\r\n")
    }

    /// DATA, which can only be the last.
    pub(super) fn data(self) -> Self {
        self.line(Verb::Data, "DATA\r\n")
    }

    /// All commands as they are written at once.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Each command with its verb.
    pub(super) fn commands(&self) -> impl Iterator<Item = (Verb, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let spans = starts.zip(&self.ends);
        spans.map(|(start, (verb, end))| (*verb, &self.text[start..*end]))
    }

    fn line(mut self, verb: Verb, line: &str) -> Self {
        self.text.push_str(line);
        self.end(verb)
    }

    fn end(mut self, verb: Verb) -> Self {
        self.ends.push((verb, self.text.len()));
        self
    }
}
