//! Puts codes and text together.

use model::{BounceClass, Provider, Reply, Verdict};

use crate::codes::{self, Meaning};
use crate::rules::{Rule, Rules};
use crate::{RulesError, Stage};

/// Judges replies by the codes and the text rules.
#[derive(Debug)]
pub struct Classifier {
    rules: Rules,
}

impl Classifier {
    /// A classifier with the rules that come with this crate.
    pub fn builtin() -> Result<Self, RulesError> {
        let rules = include_str!("../rules.toml").parse()?;
        Ok(Self { rules })
    }

    /// What `reply`, given by `provider` at `stage`, means. Not for replies that grant what was asked.
    pub fn judge(&self, stage: Stage, reply: &Reply, provider: &Provider) -> Verdict {
        let said = codes::meaning(stage, reply);
        let met = self.rules.met_by(reply, provider);
        Verdict {
            class: possible_at(stage, weigh(said, &met)),
            permanence: codes::permanence(stage, reply),
        }
    }
}

/// The class that codes and text agree on, or the one to believe.
fn weigh(said: Meaning, met: &[&Rule]) -> BounceClass {
    let Some(first) = met.first().map(|rule| rule.class.0) else {
        return said.class();
    };
    match said {
        Meaning::Hints(_) => first,
        Meaning::Says(class) if met.iter().any(|rule| rule.class.0 == class) => class,
        Meaning::Says(class) if speaks_of_address(class) && !speaks_of_address(first) => first,
        Meaning::Says(class) => class,
    }
}

/// Before RCPT TO it is the sender that is refused, in whatever words.
fn possible_at(stage: Stage, class: BounceClass) -> BounceClass {
    if speaks_of_address(class) && !stage.knows_the_recipient() {
        return BounceClass::Policy;
    }
    class
}

fn speaks_of_address(class: BounceClass) -> bool {
    match class {
        BounceClass::InvalidRecipient
        | BounceClass::InactiveMailbox
        | BounceClass::BadDomain
        | BounceClass::MailboxFull => true,
        BounceClass::AuthFailure
        | BounceClass::Reputation
        | BounceClass::RateLimited
        | BounceClass::Greylisted
        | BounceClass::Content
        | BounceClass::MessageTooLarge
        | BounceClass::Policy
        | BounceClass::Dns
        | BounceClass::Connect
        | BounceClass::Tls
        | BounceClass::Protocol
        | BounceClass::Timeout
        | BounceClass::RemoteSystem
        | BounceClass::Undetermined => false,
    }
}

#[cfg(test)]
mod tests {
    use model::{EnhancedCode, Permanence};

    use super::*;

    fn reply(code: u16, enhanced: &str, text: &str) -> Reply {
        let enhanced: Option<EnhancedCode> = enhanced.parse().ok();
        Reply::new(code, enhanced, text)
    }

    /// Judges what somebody says to RCPT TO.
    fn judge(code: u16, enhanced: &str, text: &str) -> Verdict {
        let classifier = Classifier::builtin().unwrap();
        let reply = reply(code, enhanced, text);
        classifier.judge(Stage::RcptTo, &reply, &somebody())
    }

    fn somebody() -> Provider {
        Provider::new("example.com")
    }

    /// Replies in the wording of Postfix, Exim, Exchange Online, Gmail, Yahoo and Amazon SES, from their public
    /// documentation and sources.
    const SAMPLES: [(u16, &str, &str, BounceClass); 20] = [
        (
            550,
            "5.1.1",
            "The email account that you tried to reach does not exist.",
            BounceClass::InvalidRecipient,
        ),
        (
            550,
            "5.1.1",
            "Recipient address rejected: User unknown in local recipient table",
            BounceClass::InvalidRecipient,
        ),
        (
            550,
            "",
            "Unrouteable address",
            BounceClass::InvalidRecipient,
        ),
        (
            550,
            "5.2.1",
            "The email account that you tried to reach is disabled.",
            BounceClass::InactiveMailbox,
        ),
        (
            452,
            "4.2.2",
            "The email account that you tried to reach is over quota.",
            BounceClass::MailboxFull,
        ),
        (554, "5.2.2", "mailbox full", BounceClass::MailboxFull),
        (
            550,
            "5.4.1",
            "Recipient address rejected: Access denied.",
            BounceClass::InvalidRecipient,
        ),
        (
            550,
            "5.7.26",
            "Unauthenticated email from example.org is not accepted due to domain's DMARC policy.",
            BounceClass::AuthFailure,
        ),
        (
            450,
            "4.7.1",
            "Client host rejected: cannot find your hostname, [192.0.2.1]",
            BounceClass::Reputation,
        ),
        (
            554,
            "5.7.1",
            "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
            BounceClass::Reputation,
        ),
        (
            421,
            "4.7.28",
            "Our system has detected an unusual rate of unsolicited mail originating from your IP address.",
            BounceClass::Reputation,
        ),
        (
            421,
            "4.7.0",
            "[TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
            BounceClass::Reputation,
        ),
        (
            421,
            "4.3.2",
            "The number of concurrent connections has exceeded a limit",
            BounceClass::RateLimited,
        ),
        (
            454,
            "",
            "Throttling failure: Maximum sending rate exceeded.",
            BounceClass::RateLimited,
        ),
        (
            450,
            "4.2.0",
            "Recipient address rejected: Greylisted",
            BounceClass::Greylisted,
        ),
        (
            552,
            "5.3.4",
            "Message size exceeds fixed limit",
            BounceClass::MessageTooLarge,
        ),
        (
            550,
            "5.7.1",
            "Message rejected as spam by Content Filtering.",
            BounceClass::Content,
        ),
        (
            550,
            "5.7.1",
            "Sender address rejected: Domain not found",
            BounceClass::Policy,
        ),
        (554, "5.7.1", "Relay access denied", BounceClass::Policy),
        (
            451,
            "4.3.0",
            "Temporary server error. Please try again later.",
            BounceClass::RemoteSystem,
        ),
    ];

    #[test]
    fn the_common_servers_are_understood() {
        let classifier = Classifier::builtin().unwrap();
        for (code, enhanced, text, class) in SAMPLES {
            let reply = reply(code, enhanced, text);
            let verdict = classifier.judge(Stage::RcptTo, &reply, &somebody());
            assert_eq!(verdict.class, class, "{code} {enhanced} {text}");
        }
    }

    #[test]
    fn a_code_that_blames_the_address_is_not_believed_against_the_text() {
        for text in [
            "Message blocked: client host [192.0.2.1] is listed at zen.spamhaus.org",
            "rejected because SPF check failed",
            "too many connections from your host",
            "Sender address rejected: Domain not found",
        ] {
            let verdict = judge(550, "5.1.1", text);
            assert!(!speaks_of_address(verdict.class), "{text}: {verdict:?}");
        }
    }

    #[test]
    fn a_code_that_the_text_confirms_stands_whatever_else_the_text_says() {
        let text = "User unknown. Addresses that collect spam are listed at our blocklist.";
        let verdict = judge(550, "5.1.1", text);
        assert_eq!(verdict.class, BounceClass::InvalidRecipient);
    }

    #[test]
    fn before_rcpt_nothing_speaks_of_the_address() {
        let classifier = Classifier::builtin().unwrap();
        for stage in [
            Stage::Connect,
            Stage::Greeting,
            Stage::Hello,
            Stage::StartTls,
            Stage::MailFrom,
        ] {
            for (code, enhanced, text, _) in SAMPLES {
                let reply = reply(code, enhanced, text);
                let verdict = classifier.judge(stage, &reply, &somebody());
                assert!(
                    !speaks_of_address(verdict.class),
                    "{stage:?} {text}: {verdict:?}"
                );
            }
        }
    }

    #[test]
    fn a_rate_limit_for_good_is_hard_and_still_a_rate_limit() {
        let verdict = judge(550, "5.4.5", "Daily sending quota exceeded");
        assert_eq!(verdict.class, BounceClass::RateLimited);
        assert_eq!(verdict.permanence, Permanence::Hard);
    }

    #[test]
    fn a_reply_that_tells_nothing_is_undetermined() {
        let verdict = judge(550, "", "");
        assert_eq!(verdict.class, BounceClass::Undetermined);
    }
}
