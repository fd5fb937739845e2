//! Reads one command line (RFC 5321 section 4.1).
//!
//! Stricter than smtp-proto's request parser on purpose: that one reads `<postmaster>` as the null reverse-path, takes
//! `DATA x` for `DATA` and decodes xtext into control characters.

mod arguments;
#[cfg(test)]
mod tests;

use model::{Address, AddressError, ByteSize, EnhancedCode, Reply};

use arguments::{Parameter, bdat, client_name, notify, number, path, xtext};

use super::envelope::{Hello, Recipient, Sender};
use super::{Extension, Extensions};

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Hello(Hello),
    Mail(Sender),
    Rcpt(Recipient),
    Data,
    Bdat(Chunk),
    StartTls,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
}

/// BDAT's arguments (RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Octets that follow the command.
    pub(super) size: u64,
    /// Whether they end the message.
    pub(super) last: bool,
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("line holds something other than printable text ended by CRLF")]
    NotText,
    #[error("line too long")]
    TooLong,
    #[error("command not recognised")]
    Unknown,
    #[error("command not implemented")]
    NotImplemented,
    #[error("write {0}")]
    Syntax(&'static str),
    #[error("write BDAT chunk-size [LAST]")]
    Bdat,
    #[error("parameter {0} not recognised or not offered")]
    Parameter(String),
    #[error("parameter {0} has no such value, or came twice")]
    Value(String),
    #[error("sender {0}")]
    Sender(AddressError),
    #[error("recipient {0}")]
    Recipient(AddressError),
    #[error("addresses that are not ASCII need SMTPUTF8")]
    NeedsSmtpUtf8,
}

impl CommandError {
    /// What to tell the client.
    pub(super) fn reply(&self) -> Reply {
        let (code, enhanced) = match self {
            Self::NotText | Self::TooLong | Self::Unknown => (500, EnhancedCode(5, 5, 2)),
            Self::NotImplemented => (502, EnhancedCode(5, 5, 1)),
            Self::Syntax(_) | Self::Bdat | Self::Value(_) => (501, EnhancedCode(5, 5, 4)),
            Self::Parameter(_) => (555, EnhancedCode(5, 5, 4)),
            Self::Sender(_) => (501, EnhancedCode(5, 1, 7)),
            Self::Recipient(_) => (501, EnhancedCode(5, 1, 3)),
            Self::NeedsSmtpUtf8 => (553, EnhancedCode(5, 6, 7)),
        };
        Reply::new(code, Some(enhanced), &self.to_string())
    }

    /// Whether it is unknown where the next command begins.
    pub(super) fn loses_sync(&self) -> bool {
        match self {
            Self::Bdat => true,
            Self::NotText
            | Self::TooLong
            | Self::Unknown
            | Self::NotImplemented
            | Self::Syntax(_)
            | Self::Parameter(_)
            | Self::Value(_)
            | Self::Sender(_)
            | Self::Recipient(_)
            | Self::NeedsSmtpUtf8 => false,
        }
    }
}

/// The most octets of a line that begins so, with its CRLF (RFC 5321 section 4.5.3.1.4, RFC 3461 section 5).
pub(super) fn line_limit(beginning: &[u8]) -> usize {
    match beginning.get(..4) {
        Some(verb) if verb.eq_ignore_ascii_case(b"MAIL") => 512 + 26 + 17 + 10 + 11 + 107,
        Some(verb) if verb.eq_ignore_ascii_case(b"RCPT") => 512 + 500,
        Some(_) | None => 512,
    }
}

const MAIL: &str = "MAIL FROM:<address> [parameters]";
const RCPT: &str = "RCPT TO:<address> [parameters]";

/// What depends on the session when a line is read.
pub(super) struct Context<'a> {
    /// Extensions that this client was offered.
    pub(super) extensions: Extensions,
    /// Whose `<postmaster>` is meant.
    pub(super) hostname: &'a model::Domain,
    /// Whether the open transaction has SMTPUTF8.
    pub(super) smtp_utf8: bool,
}

impl Context<'_> {
    /// The command in `line`, which includes its CRLF.
    pub(super) fn read(&self, line: &[u8]) -> Result<Command, CommandError> {
        let line = text(line)?;
        let (verb, rest) = match line.split_once(' ') {
            Some((verb, rest)) => (verb, rest.trim_end_matches(' ')),
            None => (line, ""),
        };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => Ok(Command::Hello(Hello::Ehlo(client_name(rest)?))),
            "HELO" => Ok(Command::Hello(Hello::Helo(client_name(rest)?))),
            "MAIL" => self.mail(rest).map(Command::Mail),
            "RCPT" => self.rcpt(rest).map(Command::Rcpt),
            "DATA" => alone(rest, Command::Data, "DATA"),
            "BDAT" if self.extensions.offer(Extension::Chunking) => bdat(rest).map(Command::Bdat),
            "BDAT" => Err(CommandError::Bdat),
            "STARTTLS" => alone(rest, Command::StartTls, "STARTTLS"),
            "RSET" => alone(rest, Command::Rset, "RSET"),
            "QUIT" => alone(rest, Command::Quit, "QUIT"),
            "NOOP" => Ok(Command::Noop),
            "VRFY" => Ok(Command::Vrfy),
            "HELP" => Ok(Command::Help),
            "AUTH" | "EXPN" | "ETRN" | "TURN" | "ATRN" | "BURL" => {
                Err(CommandError::NotImplemented)
            }
            _ => Err(CommandError::Unknown),
        }
    }

    fn mail(&self, rest: &str) -> Result<Sender, CommandError> {
        let (path, parameters) = path(rest, "FROM:").ok_or(CommandError::Syntax(MAIL))?;
        let mut sender = Sender::default();
        let mut seen = Vec::new();
        for parameter in parameters.split(' ').filter(|word| !word.is_empty()) {
            let parameter = Parameter::read(parameter, &mut seen)?;
            self.mail_parameter(&mut sender, parameter)?;
        }
        if !path.is_empty() {
            let address: Address = path.parse().map_err(CommandError::Sender)?;
            check_utf8(&address, sender.smtp_utf8)?;
            sender.address = Some(address);
        }
        Ok(sender)
    }

    fn mail_parameter(
        &self,
        sender: &mut Sender,
        parameter: Parameter<'_>,
    ) -> Result<(), CommandError> {
        let offer = |extension| self.extensions.offer(extension);
        let wrong = || CommandError::Value(parameter.key.clone());
        match (parameter.key.as_str(), parameter.value) {
            ("SIZE", Some(size)) if offer(Extension::Size) => {
                sender.size = Some(ByteSize(number(size).ok_or_else(wrong)?));
            }
            ("BODY", Some(body)) if offer(Extension::EightBitMime) => {
                sender.eight_bit = match body.to_ascii_uppercase().as_str() {
                    "7BIT" => false,
                    "8BITMIME" => true,
                    _ => return Err(wrong()),
                };
            }
            ("SMTPUTF8", None) if offer(Extension::SmtpUtf8) => sender.smtp_utf8 = true,
            ("REQUIRETLS", None) if offer(Extension::RequireTls) => sender.require_tls = true,
            ("RET", Some(ret)) if offer(Extension::Dsn) => {
                sender.ret = ret.to_ascii_uppercase();
                if !["FULL", "HDRS"].contains(&sender.ret.as_str()) {
                    return Err(wrong());
                }
            }
            ("ENVID", Some(envid)) if offer(Extension::Dsn) => {
                sender.envid = xtext(envid).ok_or_else(wrong)?;
            }
            _ => return Err(CommandError::Parameter(parameter.key)),
        }
        Ok(())
    }

    fn rcpt(&self, rest: &str) -> Result<Recipient, CommandError> {
        let (path, parameters) = path(rest, "TO:").ok_or(CommandError::Syntax(RCPT))?;
        let address: Address = if path.eq_ignore_ascii_case("postmaster") {
            format!("{path}@{}", self.hostname).parse()
        } else {
            path.parse()
        }
        .map_err(CommandError::Recipient)?;
        check_utf8(&address, self.smtp_utf8)?;
        let mut recipient = Recipient {
            address,
            notify: Vec::new(),
            orcpt: String::new(),
        };
        let mut seen = Vec::new();
        for parameter in parameters.split(' ').filter(|word| !word.is_empty()) {
            let parameter = Parameter::read(parameter, &mut seen)?;
            self.rcpt_parameter(&mut recipient, parameter)?;
        }
        Ok(recipient)
    }

    fn rcpt_parameter(
        &self,
        recipient: &mut Recipient,
        parameter: Parameter<'_>,
    ) -> Result<(), CommandError> {
        let wrong = || CommandError::Value(parameter.key.clone());
        match (parameter.key.as_str(), parameter.value) {
            ("NOTIFY", Some(keywords)) if self.extensions.offer(Extension::Dsn) => {
                recipient.notify = notify(keywords).ok_or_else(wrong)?;
            }
            ("ORCPT", Some(orcpt)) if self.extensions.offer(Extension::Dsn) => {
                let typed = orcpt
                    .split_once(';')
                    .is_some_and(|(kind, _)| !kind.is_empty());
                recipient.orcpt = xtext(orcpt).filter(|_| typed).ok_or_else(wrong)?;
            }
            _ => return Err(CommandError::Parameter(parameter.key)),
        }
        Ok(())
    }
}

/// The line without its CRLF, if it is nothing but visible characters and spaces.
fn text(line: &[u8]) -> Result<&str, CommandError> {
    line.strip_suffix(b"\r\n")
        .and_then(|line| std::str::from_utf8(line).ok())
        .filter(|line| !line.chars().any(char::is_control))
        .ok_or(CommandError::NotText)
}

fn alone(rest: &str, command: Command, syntax: &'static str) -> Result<Command, CommandError> {
    if rest.is_empty() {
        Ok(command)
    } else {
        Err(CommandError::Syntax(syntax))
    }
}

fn check_utf8(address: &Address, allowed: bool) -> Result<(), CommandError> {
    if address.needs_smtputf8() && !allowed {
        return Err(CommandError::NeedsSmtpUtf8);
    }
    Ok(())
}
