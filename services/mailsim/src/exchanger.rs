//! One provider's mail exchangers: what their sessions share, and how they judge a recipient and a message.

use std::net::IpAddr;
use std::path::PathBuf;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mail_parser::{HeaderName, MessageParser};
use model::{Address, Clock, EnhancedCode, Reply};
use smtp::server::{Act, Envelope, Limits, Message, Sender, Settings};
use tokio::time::Instant;

use crate::behaviour::Behaviour;
use crate::config::{Config, Mx, Policy, Provider};
use crate::counters::Counters;
use crate::ledger::Ledger;
use crate::manners::Manners;
use crate::memory::Memory;
use crate::tls::Authority;
use crate::visitors::{Visit, Visitors};
use crate::world::Domains;

/// The mail exchangers of one provider.
pub(crate) struct Exchanger {
    pub(crate) provider: Provider,
    pub(crate) settings: Settings,
    pub(crate) slow: Duration,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) manners: Manners,
    pub(crate) record: Option<PathBuf>,
    greylist: Duration,
    domains: Domains,
    visitors: Visitors,
    greylisted: Memory,
    dropped: Memory,
    parser: MessageParser,
}

impl Exchanger {
    /// The exchangers of `provider`; none where it has none.
    pub(crate) fn of(
        provider: &Provider,
        config: &Config,
        authority: &Authority,
        ledger: Arc<Ledger>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Self>> {
        let Mx::Hosts(hosts) = &provider.mx else {
            return Ok(None);
        };
        let hostname = hosts.first().context("a provider without exchangers")?;
        let conduct = &provider.conduct;
        let tls = authority.offered(conduct.tls, hosts)?;
        let mut limits = Limits::default();
        if let Some(most) = conduct.limits.rcpt {
            limits.recipients = most.get() as usize;
        }
        let ehlo_lines = conduct
            .limits
            .line()
            .into_iter()
            .chain(conduct.ehlo_lines.clone());
        Ok(Some(Self {
            settings: Settings {
                hostname: hostname.clone(),
                extensions: conduct.extensions,
                ehlo_lines: ehlo_lines.collect(),
                max_message: conduct.max_message,
                tls,
                limits,
            },
            slow: config.slow,
            counters: Arc::default(),
            ledger,
            clock,
            record: config.record.clone(),
            manners: Manners::new(&conduct.habits),
            greylist: config.greylist,
            domains: Domains::of(slice::from_ref(provider)),
            visitors: Visitors::default(),
            greylisted: Memory::default(),
            dropped: Memory::default(),
            parser: MessageParser::new()
                .header_id(HeaderName::MessageId)
                .default_header_ignore(),
            provider: provider.clone(),
        }))
    }

    /// Lets a connection in, unless its client has too many.
    pub(crate) fn enter(&self, client: IpAddr) -> Option<Visit> {
        self.visitors
            .enter(client, self.provider.conduct.max_connections)
    }

    /// Whether `client` may begin one more message now.
    pub(crate) fn admits(&self, client: IpAddr, now: Instant) -> bool {
        match self.provider.conduct.rate_limit {
            Some(rate) => self.visitors.admit(client, rate, now),
            None => true,
        }
    }

    /// What becomes of a recipient when it is named.
    pub(crate) fn judge_recipient(
        &self,
        sender: &Sender,
        recipient: &Address,
        now: Instant,
    ) -> Act {
        if self.domains.find(recipient.domain().as_str()).is_none() {
            return say(550, (5, 7, 1), "relaying denied");
        }
        match self.provider.conduct.policy {
            Policy::Reject => return say(550, (5, 1, 1), "no such user"),
            Policy::Defer => return say(451, (4, 3, 0), "temporary system problem"),
            Policy::Accept => {}
        }
        let greylist = match Behaviour::of(recipient) {
            Behaviour::Bounce => return say(550, (5, 1, 1), "no such user"),
            Behaviour::Full => return say(452, (4, 2, 2), "mailbox full"),
            Behaviour::Defer => return say(451, (4, 3, 0), "temporary system problem"),
            Behaviour::MxDown => {
                return Act::SayAndClose(reply(421, (4, 3, 2), "system going down"));
            }
            Behaviour::Greylist => Some(self.greylist),
            Behaviour::Ordinary
            | Behaviour::Spam
            | Behaviour::Slow
            | Behaviour::Drop
            | Behaviour::Hang => self.provider.conduct.greylist,
        };
        if greylist.is_some_and(|delay| self.is_greylisted(sender, recipient, delay, now)) {
            return say(451, (4, 7, 1), "greylisted, try again later");
        }
        say(250, (2, 1, 5), "recipient ok")
    }

    fn is_greylisted(
        &self,
        sender: &Sender,
        recipient: &Address,
        delay: Duration,
        now: Instant,
    ) -> bool {
        let first = self
            .greylisted
            .first_attempt((&sender.address, recipient), now);
        first.is_none_or(|first| now < first + delay)
    }

    /// What becomes of a message with this Message-ID, for all its recipients.
    pub(crate) fn judge_message(
        &self,
        envelope: &Envelope,
        message_id: Option<&str>,
        now: Instant,
    ) -> Act {
        let has = |wanted| {
            let mut recipients = envelope.recipients.iter();
            recipients.any(|recipient| Behaviour::of(&recipient.address) == wanted)
        };
        if has(Behaviour::Hang) {
            return Act::Hang;
        }
        if has(Behaviour::Drop) && self.is_to_be_dropped(envelope, message_id, now) {
            return Act::Close;
        }
        if has(Behaviour::Spam) {
            return say(554, (5, 7, 1), "message looks like spam");
        }
        say(250, (2, 0, 0), "message accepted")
    }

    /// A message is dropped once: the next attempt carries the same Message-ID to the same recipients.
    fn is_to_be_dropped(
        &self,
        envelope: &Envelope,
        message_id: Option<&str>,
        now: Instant,
    ) -> bool {
        let recipients: Vec<&Address> = envelope
            .recipients
            .iter()
            .map(|recipient| &recipient.address)
            .collect();
        self.dropped
            .first_attempt((message_id, recipients), now)
            .is_none()
    }

    /// The Message-ID header field of `message`, without brackets.
    pub(crate) fn message_id(&self, message: &Message) -> Option<String> {
        let parsed = self.parser.parse_headers(&message.content)?;
        parsed.message_id().map(str::to_owned)
    }
}

/// A reply with its enhanced status code.
pub(crate) fn reply(code: u16, enhanced: (u8, u16, u16), text: &str) -> Reply {
    let (class, subject, detail) = enhanced;
    Reply::new(code, Some(EnhancedCode(class, subject, detail)), text)
}

fn say(code: u16, enhanced: (u8, u16, u16), text: &str) -> Act {
    Act::Say(reply(code, enhanced, text))
}
