//! One client's session with an exchanger: answers each command and writes down each decision.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Address, Domain, Reply};
use sha2::{Digest, Sha256};
use smtp::server::{
    Act, Answer, Envelope, Handler, Hello, Manner, Message, Recipient, Sender, Stage, TlsFacts,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::behaviour::Behaviour;
use crate::config::asked_by;
use crate::exchanger::{Exchanger, reply};
use crate::ledger::{Entry, Outcome};
use crate::recorder::Recorder;
use crate::visitors::Visit;

/// What the ledger says of a message's content.
#[derive(Debug, Default, Clone)]
struct Digested {
    message_id: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
}

/// A session with one client.
pub(crate) struct Session {
    exchanger: Arc<Exchanger>,
    client: IpAddr,
    id: Uuid,
    tls: Option<String>,
    /// Counts the connection for as long as the session lasts.
    visit: Option<Visit>,
    /// How much longer replies take in this transaction.
    slowed: Duration,
    /// What this transaction's recipients ask for by their names.
    asked: Vec<(Stage, Manner)>,
    /// What was chosen, and written down, for a stage that is about to be reached.
    chosen: Option<(Stage, Option<Manner>)>,
    /// How many messages were begun.
    begun: u32,
    /// The domains of the recipients named so far, where they are limited.
    domains: HashSet<Domain>,
    /// Keeps the content of messages, where that is wanted.
    recorder: Option<Recorder>,
}

impl Session {
    pub(crate) fn new(exchanger: Arc<Exchanger>, client: IpAddr) -> Self {
        Self {
            exchanger,
            client,
            id: Uuid::now_v7(),
            tls: None,
            visit: None,
            slowed: Duration::ZERO,
            asked: Vec::new(),
            chosen: None,
            begun: 0,
            domains: HashSet::new(),
            recorder: None,
        }
        .recording()
    }

    fn recording(mut self) -> Self {
        let name = self.exchanger.provider.name.as_str();
        let recorder = |directory: &PathBuf| Recorder::new(directory, name, self.id);
        self.recorder = self.exchanger.record.as_ref().map(recorder);
        self
    }

    /// Where the session is recorded, if it is.
    pub(crate) fn recorder(&self) -> Option<Recorder> {
        self.recorder.clone()
    }

    /// Chooses the manner of `stage`: what the recipients ask for goes before the provider's habits.
    fn choose(&mut self, stage: Stage) -> Option<Manner> {
        let asked = self.asked.iter().find(|(at, _)| *at == stage);
        let chosen = match asked {
            Some((_, manner)) => Some(manner.clone()),
            None => self.exchanger.manners.at(stage),
        };
        self.chosen = Some((stage, chosen.clone()));
        chosen
    }

    /// What the client is told at `stage`, where `act` is the honest answer; none if nothing whole.
    fn told(&mut self, stage: Stage, act: &Act) -> Option<Reply> {
        let honest = act.reply()?;
        match self.choose(stage) {
            Some(Manner::Hang | Manner::Cut(_)) => None,
            Some(
                Manner::Lie(octets) | Manner::LieAndClose(octets) | Manner::LieAndHang(octets),
            ) => lie(&octets),
            Some(Manner::Drip(_) | Manner::Wait(_) | Manner::Also(_)) | None => {
                Some(honest.clone())
            }
        }
    }

    /// Notes the domain of `recipient`, unless that is one more than is taken in one session.
    fn is_one_domain_too_many(&mut self, recipient: &Address) -> bool {
        let Some(limit) = self.exchanger.provider.conduct.limits.rcpt_domain else {
            return false;
        };
        let domain = recipient.domain();
        if self.domains.contains(domain) {
            return false;
        }
        if self.domains.len() >= limit.get() as usize {
            return true;
        }
        self.domains.insert(domain.clone());
        false
    }

    fn answer(&self, act: Act) -> Answer {
        Answer::from(act).after(self.exchanger.provider.conduct.latency + self.slowed)
    }

    /// Answers with `act` if it was written down; else the client has to come again.
    fn answer_if(&self, written: io::Result<()>, act: Act) -> Answer {
        match written {
            Ok(()) => self.answer(act),
            Err(error) => {
                tracing::error!(%error, "ledger not written");
                self.answer(Act::Say(reply(451, (4, 3, 0), "cannot write it down")))
            }
        }
    }

    /// Writes down what became of `recipients`. Where that fails, nothing may be acknowledged.
    fn record<'a>(
        &self,
        sender: &Sender,
        recipients: impl Iterator<Item = &'a Address>,
        digested: &Digested,
        said: Option<&Reply>,
    ) -> io::Result<()> {
        let outcome = match said {
            None => Outcome::Cut,
            Some(reply) if reply.is_positive() => Outcome::Accepted,
            Some(reply) if reply.is_permanent() => Outcome::Rejected,
            Some(_) => Outcome::Deferred,
        };
        let time = self.exchanger.clock.now();
        let entry = |recipient: &Address| Entry {
            time,
            provider: self.exchanger.provider.name.clone(),
            session: self.id.to_string(),
            sender: text(sender.address.as_ref()),
            recipient: recipient.to_string(),
            message_id: digested.message_id.clone(),
            size: digested.size,
            sha256: digested.sha256.clone(),
            tls: self.tls.clone(),
            require_tls: sender.require_tls,
            code: said.map(Reply::code),
            reply: said.map(Reply::to_string).unwrap_or_default(),
            outcome,
        };
        let entries: Vec<Entry> = recipients.map(entry).collect();
        self.exchanger.ledger.write(&entries)?;
        let counters = &self.exchanger.counters;
        counters.count_recipients(outcome, entries.len());
        Ok(())
    }
}

/// The reply that `octets` begin with, if they do.
fn lie(octets: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(octets).ok()?;
    let code = text.get(..3)?.parse().ok()?;
    let said = text.get(4..)?.lines().next()?;
    (200..600)
        .contains(&code)
        .then(|| Reply::new(code, None, said))
}

fn hexadecimal(octets: &[u8]) -> String {
    let digit = |value| char::from_digit(u32::from(value), 16);
    let digits = octets
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]);
    digits.flatten().collect()
}

fn text(address: Option<&Address>) -> String {
    address.map(Address::to_string).unwrap_or_default()
}

fn addresses(envelope: &Envelope) -> impl Iterator<Item = &Address> {
    envelope
        .recipients
        .iter()
        .map(|recipient| &recipient.address)
}

impl Handler for Session {
    async fn greet(&mut self) -> Answer {
        self.exchanger.counters.count_connection();
        self.visit = self.exchanger.enter(self.client);
        if self.visit.is_none() {
            self.exchanger.counters.count_turned_away();
            let refusal = reply(421, (4, 7, 0), "too many connections from your address");
            return self.answer(Act::SayAndClose(refusal));
        }
        self.answer(Act::Say(Reply::new(220, None, "ESMTP mailsim")))
    }

    async fn hello(&mut self, hello: &Hello) -> Answer {
        self.slowed = Duration::ZERO;
        let greeting = format!("greets {}", hello.name());
        self.answer(Act::Say(Reply::new(250, None, &greeting)))
    }

    fn secured(&mut self, tls: &TlsFacts) {
        self.tls = Some(tls.version.clone());
    }

    async fn mail(&mut self, _sender: &Sender) -> Answer {
        self.slowed = Duration::ZERO;
        self.asked.clear();
        let most = self.exchanger.provider.conduct.messages_per_connection;
        if most.is_some_and(|most| self.begun >= most.get()) {
            let refusal = reply(421, (4, 7, 0), "too many messages on this connection");
            return self.answer(Act::SayAndClose(refusal));
        }
        let limit = self.exchanger.provider.conduct.limits.mail;
        if limit.is_some_and(|limit| self.begun >= limit.get()) {
            let text = "more messages than MAILMAX in one session";
            return self.answer(Act::Say(reply(452, (4, 5, 3), text)));
        }
        self.begun += 1;
        if !self.exchanger.admits(self.client, Instant::now()) {
            self.exchanger.counters.count_throttled();
            let text = "[TSS04] messages temporarily deferred due to unexpected volume";
            return self.answer(Act::SayAndClose(reply(421, (4, 7, 0), text)));
        }
        self.answer(Act::Say(reply(250, (2, 1, 0), "sender ok")))
    }

    async fn rcpt(&mut self, sender: &Sender, recipient: &Recipient) -> Answer {
        let address = &recipient.address;
        let act = if self.is_one_domain_too_many(address) {
            let text = "more domains than RCPTDOMAINMAX in one session";
            Act::Say(reply(452, (4, 5, 3), text))
        } else {
            self.exchanger
                .judge_recipient(sender, address, Instant::now())
        };
        let name = address.local().split('+').next().unwrap_or_default();
        self.asked.extend(asked_by(&name.to_ascii_lowercase()));
        let told = self.told(Stage::Rcpt, &act);
        if told.as_ref().is_some_and(Reply::is_positive) {
            if Behaviour::of(address) == Behaviour::Slow {
                self.slowed = self.exchanger.slow;
            }
            return self.answer(act);
        }
        let nothing = Digested::default();
        let written = self.record(sender, std::iter::once(address), &nothing, told.as_ref());
        self.answer_if(written, act)
    }

    async fn message(&mut self, message: Message) -> Answer {
        let digested = Digested {
            message_id: self.exchanger.message_id(&message),
            size: Some(message.content.len() as u64),
            sha256: Some(hexadecimal(&Sha256::digest(&message.content))),
        };
        let kept = match &self.recorder {
            Some(recorder) => recorder.keep(self.begun, &message.content),
            None => Ok(()),
        };
        let envelope = &message.envelope;
        let message_id = digested.message_id.as_deref();
        let act = self
            .exchanger
            .judge_message(envelope, message_id, Instant::now());
        let told = self.told(Stage::EndOfData, &act);
        let written = self.record(
            &envelope.sender,
            addresses(envelope),
            &digested,
            told.as_ref(),
        );
        self.answer_if(kept.and(written), act)
    }

    fn manner(&mut self, stage: Stage) -> Option<Manner> {
        match self.chosen.take() {
            Some((at, chosen)) if at == stage => chosen,
            Some(_) | None => {
                let chosen = self.choose(stage);
                self.chosen = None;
                chosen
            }
        }
    }

    fn refused(&mut self, envelope: &Envelope, reply: &Reply) {
        let nothing = Digested::default();
        let written = self.record(&envelope.sender, addresses(envelope), &nothing, Some(reply));
        if let Err(error) = written {
            tracing::error!(%error, "ledger not written");
        }
    }
}
