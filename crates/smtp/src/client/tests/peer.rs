//! A server that keeps to RFC 5321 except where its script says otherwise, and remembers everything.

use std::collections::HashMap;
use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};

use super::Verb;

/// What the server does when it is to answer.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// It says this; every line must bring its CRLF.
    Say(Vec<u8>),
    /// It says this and closes.
    SayAndClose(Vec<u8>),
    /// It says this and nothing more, and keeps the connection.
    SayAndHang(Vec<u8>),
    /// It does nothing more, and keeps the connection.
    Hang,
    /// It closes.
    Close,
}

/// The script.
pub(super) struct Server {
    capabilities: Vec<String>,
    steps: HashMap<Verb, VecDeque<Step>>,
    pub(super) buffer: usize,
}

/// What the client did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The commands, without their CRLF.
    pub(super) commands: Vec<String>,
    /// The messages that were sent to their end, as they stood on the wire without the final dot.
    pub(super) messages: Vec<Vec<u8>>,
    /// What was left of a message that was not.
    pub(super) torso: Vec<u8>,
}

impl Seen {
    /// The commands behind EHLO.
    pub(super) fn dialogue(&self) -> Vec<&str> {
        let verbs = self.commands.iter().map(|line| line.as_str());
        verbs.filter(|line| !line.starts_with("EHLO")).collect()
    }
}

struct Ended;

impl Server {
    pub(super) fn offering(capabilities: &[&str]) -> Self {
        Self {
            capabilities: capabilities.iter().map(|name| name.to_string()).collect(),
            steps: HashMap::new(),
            buffer: 1 << 20,
        }
    }

    /// Answers the next `verb` that has no step yet with `line`.
    pub(super) fn on(self, verb: Verb, line: &str) -> Self {
        self.does(verb, Step::Say(format!("{line}\r\n").into_bytes()))
    }

    pub(super) fn does(mut self, verb: Verb, step: Step) -> Self {
        self.steps.entry(verb).or_default().push_back(step);
        self
    }

    fn has_step(&self, verb: Verb) -> bool {
        self.steps.get(&verb).is_some_and(|steps| !steps.is_empty())
    }

    /// How many octets the stream takes before somebody reads them.
    pub(super) fn with_buffer(mut self, octets: usize) -> Self {
        self.buffer = octets;
        self
    }

    pub(super) async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Seen {
        let mut serving = Serving {
            script: self,
            stream: BufStream::new(stream),
            seen: Seen::default(),
            mail: false,
            rcpt: false,
        };
        let _ = serving.serve().await;
        serving.seen
    }
}

struct Serving<S> {
    script: Server,
    stream: BufStream<S>,
    seen: Seen,
    mail: bool,
    rcpt: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serving<S> {
    async fn serve(&mut self) -> Result<(), Ended> {
        self.answer(Verb::Greeting, "220 mx.example ready").await?;
        loop {
            let line = self.line().await?;
            self.seen.commands.push(line.clone());
            let word = line.split([' ', ':']).next().unwrap_or_default();
            match word {
                "EHLO" => self.ehlo().await?,
                "HELO" => self.reply(Verb::Helo, "250 mx.example").await?,
                "MAIL" if self.mail => self.reply(Verb::Mail, "503 5.5.1 nested MAIL").await?,
                "MAIL" => self.mail = self.answer(Verb::Mail, "250 2.1.0 ok").await? == 2,
                "RCPT" if !self.mail => self.reply(Verb::Rcpt, "503 5.5.1 MAIL first").await?,
                "RCPT" => self.rcpt = self.answer(Verb::Rcpt, "250 2.1.5 ok").await? == 2,
                "DATA" if !self.rcpt => {
                    let class = self.answer(Verb::Data, "503 5.5.1 no recipients").await?;
                    self.data(class).await?;
                }
                "DATA" => {
                    let class = self.answer(Verb::Data, "354 go on").await?;
                    self.data(class).await?;
                }
                "BDAT" => self.chunk(&line).await?,
                "RSET" => {
                    (self.mail, self.rcpt) = (false, false);
                    self.answer(Verb::Rset, "250 2.0.0 ok").await?;
                }
                "QUIT" => {
                    self.answer(Verb::Quit, "221 2.0.0 bye").await?;
                    return Ok(());
                }
                _ => self.reply(Verb::StartTls, "500 5.5.2 what").await?,
            }
        }
    }

    async fn reply(&mut self, verb: Verb, default: &str) -> Result<(), Ended> {
        self.answer(verb, default).await.map(|_| ())
    }

    async fn ehlo(&mut self) -> Result<(), Ended> {
        let mut lines = vec!["mx.example".to_string()];
        lines.extend(self.script.capabilities.iter().cloned());
        let last = lines.len() - 1;
        let reply: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(at, line)| format!("250{}{line}", if at == last { ' ' } else { '-' }))
            .collect();
        self.answer(Verb::Ehlo, &reply.join("\r\n"))
            .await
            .map(|_| ())
    }

    async fn data(&mut self, class: u8) -> Result<(), Ended> {
        if class != 3 {
            return Ok(());
        }
        if self.script.has_step(Verb::Content) {
            self.line().await?;
        }
        while self.script.has_step(Verb::Content) {
            self.answer(Verb::Content, "").await?;
        }
        let mut message = Vec::new();
        loop {
            let read = self.stream.read_until(b'\n', &mut message).await;
            if read.is_err() || read.is_ok_and(|octets| octets == 0) {
                self.seen.torso = message;
                return Err(Ended);
            }
            if message == b".\r\n" || message.ends_with(b"\r\n.\r\n") {
                break;
            }
        }
        message.truncate(message.len() - 3);
        self.seen.messages.push(message);
        let default = if self.rcpt {
            "250 2.0.0 queued"
        } else {
            "554 5.5.1 nobody"
        };
        (self.mail, self.rcpt) = (false, false);
        self.answer(Verb::EndOfData, default).await.map(|_| ())
    }

    async fn chunk(&mut self, line: &str) -> Result<(), Ended> {
        let size = line.split(' ').nth(1).and_then(|size| size.parse().ok());
        let mut message = vec![0; size.unwrap_or(0)];
        self.stream
            .read_exact(&mut message)
            .await
            .map_err(|_| Ended)?;
        self.seen.messages.push(message);
        let default = if self.rcpt {
            "250 2.0.0 queued"
        } else {
            "503 5.5.1 nobody"
        };
        (self.mail, self.rcpt) = (false, false);
        self.answer(Verb::EndOfData, default).await.map(|_| ())
    }

    async fn line(&mut self) -> Result<String, Ended> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await;
        if !line.ends_with(b"\r\n") || read.is_err() {
            return Err(Ended);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8(line).unwrap())
    }

    /// Does the next step for `verb`, or says `default`; the first digit of what was said.
    async fn answer(&mut self, verb: Verb, default: &str) -> Result<u8, Ended> {
        let step = self
            .script
            .steps
            .get_mut(&verb)
            .and_then(VecDeque::pop_front);
        let step = step.unwrap_or_else(|| Step::Say(format!("{default}\r\n").into_bytes()));
        match step {
            Step::Say(octets) => {
                self.say(&octets).await?;
                Ok(octets.first().map_or(0, |digit| digit.wrapping_sub(b'0')))
            }
            Step::SayAndClose(octets) => {
                self.say(&octets).await?;
                Err(Ended)
            }
            Step::SayAndHang(octets) => {
                self.say(&octets).await?;
                while self.stream.read_u8().await.is_ok() {}
                Err(Ended)
            }
            Step::Hang => std::future::pending().await,
            Step::Close => Err(Ended),
        }
    }

    async fn say(&mut self, octets: &[u8]) -> Result<(), Ended> {
        self.stream.write_all(octets).await.map_err(|_| Ended)?;
        self.stream.flush().await.map_err(|_| Ended)
    }
}
