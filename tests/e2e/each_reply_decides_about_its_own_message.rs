//! Forty replies to every command, with the server going on, closing or hanging behind them, and silence and hanging up
//! besides: each decides about the message it was said to, and about no other; what may pass is tried again; what was
//! refused for good is not; and a connection is used again only where both sides agree on where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::{BounceClass, Event, EventKind, SubmitRequest};
use futures_util::StreamExt as _;
use mailsim::config::{RawProvider, Tls};
use mailsim::ledger::{Entry, Outcome};
use tests::{Setup, deliver_all, letter, provider};
use tokio::time::timeout;

use super::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(300);

const COMMANDS: [&str; 9] = [
    "greeting", "ehlo", "starttls", "mail", "rcpt", "data", "dot", "rset", "quit",
];

/// The same as the client's own tests have.
const REPLIES: &str = include_str!("../../crates/smtp/src/client/tests/replies.txt");

/// What a server does behind a reply: it goes on, closes, or says nothing more.
const WAYS: [&str; 3] = ["say ", "close ", "mute "];

/// Something a server does once, in answer to one command.
struct Case {
    command: &'static str,
    /// As in mailsim's manners.
    what: String,
    name: String,
}

fn cases() -> Vec<Case> {
    let said = REPLIES
        .lines()
        .flat_map(|reply| WAYS.map(|way| format!("{way}{reply}")));
    let all: Vec<String> = said
        .chain(["hang".into(), "cut".into(), "cut 3".into()])
        .collect();
    let of = |(at, command): (usize, &'static str)| {
        let case = move |(number, what): (usize, &String)| Case {
            command,
            what: what.clone(),
            name: format!("c{at}n{number}"),
        };
        all.iter().enumerate().map(case).collect::<Vec<_>>()
    };
    COMMANDS.into_iter().enumerate().flat_map(of).collect()
}

impl Case {
    fn provider(&self) -> RawProvider {
        RawProvider {
            tls: if self.command == "starttls" {
                Tls::Offered
            } else {
                Tls::Off
            },
            manners: vec![format!("{} first 1: {}", self.command, self.what)],
            ..provider(&self.name)
        }
    }

    /// Three messages, of which one meets what the server does. RSET is only sent behind a refusal.
    fn letters(&self) -> Vec<SubmitRequest> {
        let first = if self.command == "rset" {
            "bounce"
        } else {
            "a"
        };
        let names = [first, "b", "c"];
        names
            .map(|name| letter(&format!("{name}@{}.example", self.name)))
            .into()
    }

    /// What became of the first attempts of its messages, apart from success and from what `bounce@` always meets.
    fn incidents(&self, events: &[Event]) -> Vec<String> {
        let domain = format!("@{}.example", self.name);
        let own = events
            .iter()
            .filter(|event| event.recipient.ends_with(&domain));
        let first =
            own.filter(|event| event.attempt == 1 && !event.recipient.starts_with("bounce@"));
        let odd = first.filter(|event| event.kind() != EventKind::Delivered);
        odd.map(shown).collect()
    }

    /// Whether what the server does is about the session, and so met by all that wait for it.
    fn is_of_the_session(&self) -> bool {
        ["greeting", "ehlo", "starttls"].contains(&self.command)
    }

    /// Whether what the server does is about one message.
    fn is_of_a_message(&self) -> bool {
        ["mail", "rcpt", "data", "dot"].contains(&self.command)
    }

    /// How many of `incidents` are about the message behind the one it was said to: a server that says nothing behind the
    /// final dot, or RSET, has left it without an answer, if it came while the session was open.
    fn behind(&self, incidents: &[String]) -> usize {
        let own = match self.command {
            "dot" => usize::from(!(200..300).contains(&self.code())),
            "rset" => 0,
            _ => incidents.len(),
        };
        let is_silent = self.what.starts_with("mute ");
        incidents.len() - if is_silent { own } else { incidents.len() }
    }

    /// The code that the server says; 0 where it says none.
    fn code(&self) -> u32 {
        let reply = WAYS.iter().find_map(|way| self.what.strip_prefix(way));
        let code = reply.and_then(|reply| reply.split([' ', '-']).next());
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Whether the server means that it has taken the message, and says so in a way that cannot be read: the message is sent
    /// again, as it must be.
    fn is_doubtful(&self) -> bool {
        self.command == "dot" && self.what.ends_with("2500 said")
    }

    /// Whether the server says that it has taken the message, and ends the session.
    fn is_granted(&self) -> bool {
        self.what.starts_with("close 2") || self.what.starts_with("mute 2")
    }

    /// Whether the two sides cannot agree behind it, or the server has gone: no message may follow on that connection.
    fn ends_the_session(&self) -> bool {
        let wanted = if self.command == "data" { 3 } else { 2 };
        match self.code() / 100 {
            _ if !self.what.starts_with("say ") => true,
            4 | 5 => self.code() == 421,
            class => class != wanted,
        }
    }
}

fn shown(event: &Event) -> String {
    let kind = event.kind().as_str_name().trim_start_matches("EVENT_KIND_");
    let class = BounceClass::try_from(event.bounce_class).unwrap_or_default();
    let class = class.as_str_name().trim_start_matches("BOUNCE_CLASS_");
    format!("{kind} {class}").to_lowercase()
}

#[tokio::test]
async fn each_reply_to_each_command_decides_about_its_own_message() -> anyhow::Result<()> {
    let cases = cases();
    let record = tempfile::tempdir()?;
    let setup = Setup::new(PROGRAM)
        .allowing("holds not proven")
        .allowing("redis is away, throttling by local share")
        .allowing("history is away, going on without")
        .configured(|config| {
            config.delivery.limits.connections = 1;
            config.delivery.reply_timeout = "5s".into();
            config.delivery.end_of_data_timeout = "5s".into();
            config.mailsim.record = Some(record.path().to_owned());
            config.mailsim.providers = cases.iter().map(Case::provider).collect();
        });
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let letters = cases.iter().flat_map(Case::letters).collect();
    let ended = deliver_all(&api, letters, PATIENCE).await?;
    let events = everything(&api, ended.len()).await?;
    let ledger = cluster.ledger()?;
    let doubtful = |recipient: &str| {
        let mut doubtful = cases.iter().filter(|case| case.is_doubtful());
        doubtful.any(|case| recipient.ends_with(&format!("@{}.example", case.name)))
    };
    for (recipient, end) in &ended {
        let most = if doubtful(recipient) { 2 } else { 1 };
        check_end(recipient, *end, most, &ledger);
    }
    let mut sessions = Vec::new();
    let mut outcomes: BTreeMap<(usize, &str), BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for case in &cases {
        let incidents = case.incidents(&events);
        let (met, behind) = incidents.split_at(incidents.len() - case.behind(&incidents));
        let distinct: BTreeSet<&String> = met.iter().collect();
        let what = format!("{}: {}: {incidents:?}", case.command, case.what);
        ensure!(distinct.len() <= 1, "several things happened to {what}");
        ensure!(
            case.is_of_the_session() || met.len() <= 1,
            "too many met {what}"
        );
        ensure!(
            behind.len() <= 1 && behind.iter().all(|incident| incident == "deferred timeout"),
            "more than silence behind {what}"
        );
        if case.is_of_a_message() {
            let session = session_of(case, &ledger, record.path());
            sessions.push(session.with_context(|| what.clone())?);
        }
        let outcome = met.first().cloned();
        let outcome = outcome.unwrap_or_else(|| "delivered".into());
        let at = COMMANDS
            .iter()
            .position(|command| *command == case.command)
            .unwrap();
        let by_outcome = outcomes.entry((at, case.command)).or_default();
        by_outcome.entry(outcome).or_default().push(&case.what);
    }
    let count = |wanted| {
        sessions
            .iter()
            .filter(|session| **session == wanted)
            .count()
    };
    let (again, idle) = (count(Session::UsedAgain), count(Session::LeftIdle));
    ensure!(
        again > idle,
        "{again} sessions were used again, and {idle} were not although they could be"
    );
    expect_test::expect_file!["each_reply_decides_about_its_own_message.txt"]
        .assert_eq(&table(outcomes));
    cluster.finish().await
}

/// Every event so far, once `count` jobs have come to their end.
async fn everything(api: &tests::Api, count: usize) -> anyhow::Result<Vec<Event>> {
    let mut watch = api.events().await?;
    let mut all = Vec::new();
    let mut ended = BTreeSet::new();
    while ended.len() < count {
        let next = timeout(PATIENCE, watch.next())
            .await
            .context("nothing more happens")?;
        let event = next.context("the server ended the watch")??;
        match event.kind() {
            EventKind::Unspecified | EventKind::Accepted => continue,
            EventKind::Deferred => {}
            _ => {
                ended.insert(event.job_id.clone());
            }
        }
        all.push(event);
    }
    Ok(all)
}

/// A message is in its mailbox if and only if its sender was told so, and at most `most` times.
fn check_end(recipient: &str, end: EventKind, most: usize, ledger: &[Entry]) {
    let own = ledger.iter().filter(|entry| entry.recipient == recipient);
    let accepted = own
        .filter(|entry| entry.outcome == Outcome::Accepted)
        .count();
    let expected = match end {
        EventKind::Delivered => 1..=most,
        EventKind::Bounced => 0..=0,
        other => panic!("{recipient}: {other:?}"),
    };
    assert!(
        expected.contains(&accepted),
        "{recipient} {end:?}, accepted {accepted} times"
    );
}

/// What became of the session in which `case` happened.
#[derive(Debug, PartialEq, Eq)]
enum Session {
    /// No message may have followed, and none did.
    Over,
    /// It went on until we ended it, and carried the other messages.
    UsedAgain,
    /// It went on until we ended it, before the other messages came; on a busy machine that takes a while.
    LeftIdle,
}

fn session_of(case: &Case, ledger: &[Entry], record: &Path) -> anyhow::Result<Session> {
    let prefix = format!("{}-", case.name);
    let mut sessions = BTreeSet::new();
    for file in std::fs::read_dir(record)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        let session = name
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".in"));
        sessions.extend(session.map(str::to_owned));
    }
    // Their names are in the order of time, and what happens once happens in the first.
    let first = sessions.first().context("no session")?;
    let there = ledger.iter().filter(|entry| entry.session == *first);
    let accepted = there
        .filter(|entry| entry.outcome == Outcome::Accepted)
        .count();
    if case.ends_the_session() {
        // A message that was acknowledged before the server closed was taken in that session.
        let is_taken = case.command == "dot" && (case.is_granted() || case.is_doubtful());
        let taken = usize::from(is_taken);
        ensure!(
            accepted <= taken,
            "{accepted} messages were taken in a session that was over"
        );
        return Ok(Session::Over);
    }
    if accepted >= 2 {
        return Ok(Session::UsedAgain);
    }
    let said = std::fs::read(record.join(format!("{prefix}{first}.in")))?;
    ensure!(
        said.ends_with(b"QUIT\r\n"),
        "a session that was fine was given up"
    );
    Ok(Session::LeftIdle)
}

/// What came of what, command by command.
fn table(outcomes: BTreeMap<(usize, &str), BTreeMap<String, Vec<&str>>>) -> String {
    let mut table = String::new();
    for ((_, command), by_outcome) in outcomes {
        for (outcome, whats) in by_outcome {
            for way in WAYS.into_iter().chain([""]) {
                let of_way = |what: &&&str| match way {
                    "" => !WAYS.iter().any(|way| what.starts_with(way)),
                    way => what.starts_with(way),
                };
                let texts = whats.iter().filter(of_way).map(|what| short(what));
                let texts: Vec<String> = texts.collect();
                if !texts.is_empty() {
                    table.push_str(&format!(
                        "{command} {outcome} <- {way}{}\n",
                        texts.join(" ")
                    ));
                }
            }
        }
    }
    table
}

fn short(what: &str) -> String {
    match WAYS.iter().find_map(|way| what.strip_prefix(way)) {
        Some(reply) => reply
            .split(" said")
            .next()
            .unwrap_or_default()
            .replace("\\r\\n", "/"),
        None => what.into(),
    }
}
