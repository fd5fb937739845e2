//! The text rules: reviewed data, compiled once.

use std::str::FromStr;

use model::{BounceClass, Provider, Reply};
use regex::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The rules are not written as they should be.
    #[error("the classification rules do not parse")]
    Syntax(#[from] toml::de::Error),
    /// A pattern is not a regular expression.
    #[error("a classification rule's pattern does not compile")]
    Pattern(#[from] regex::Error),
}

/// One rule: a reply whose line has the pattern is of the class.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) class: Class,
    /// Matched anywhere in the line, in any case.
    pattern: String,
    /// The only provider whose replies it is about.
    provider: Option<String>,
    /// A reply that the rule is for.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "the tests prove each rule by it")
    )]
    pub(crate) example: String,
}

/// A [`BounceClass`] as the rules write it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Class(pub(crate) BounceClass);

impl TryFrom<String> for Class {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let class = match name.as_str() {
            "invalid-recipient" => BounceClass::InvalidRecipient,
            "inactive-mailbox" => BounceClass::InactiveMailbox,
            "bad-domain" => BounceClass::BadDomain,
            "mailbox-full" => BounceClass::MailboxFull,
            "auth-failure" => BounceClass::AuthFailure,
            "reputation" => BounceClass::Reputation,
            "rate-limited" => BounceClass::RateLimited,
            "greylisted" => BounceClass::Greylisted,
            "content" => BounceClass::Content,
            "message-too-large" => BounceClass::MessageTooLarge,
            "policy" => BounceClass::Policy,
            "dns" => BounceClass::Dns,
            "connect" => BounceClass::Connect,
            "tls" => BounceClass::Tls,
            "protocol" => BounceClass::Protocol,
            "timeout" => BounceClass::Timeout,
            "remote-system" => BounceClass::RemoteSystem,
            _ => return Err(format!("{name:?} is not the class of a text")),
        };
        Ok(Self(class))
    }
}

/// All rules, in the order in which they are believed.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    patterns: RegexSet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Rule>,
}

impl FromStr for Rules {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        let File { rule: rules } = toml::from_str(text)?;
        let patterns = RegexSetBuilder::new(rules.iter().map(|rule| &rule.pattern))
            .case_insensitive(true)
            .build()?;
        Ok(Self { rules, patterns })
    }
}

impl Rules {
    /// The rules that `reply`, coming from `provider`, meets, in their order.
    pub(crate) fn met_by(&self, reply: &Reply, provider: &Provider) -> Vec<&Rule> {
        let of_provider = |rule: &&Rule| match &rule.provider {
            Some(name) => name == provider.as_str(),
            None => true,
        };
        let line = spoken(reply);
        let met = self.patterns.matches(&line);
        met.iter()
            .map(|index| &self.rules[index])
            .filter(of_provider)
            .collect()
    }
}

/// The reply as one line, without what it quotes: an address may hold any word, and a link too. The host a link
/// points to is the server's own choice (a block-list's, say) and stays.
fn spoken(reply: &Reply) -> String {
    let line = reply.to_string();
    let words = line.split_whitespace().filter(|word| !word.contains('@'));
    words.map(without_link).collect::<Vec<_>>().join(" ")
}

fn without_link(word: &str) -> &str {
    match word.split_once("://") {
        Some((_, link)) => link.split(['/', '?', '#']).next().unwrap_or_default(),
        None => word,
    }
}

#[cfg(test)]
mod tests {
    use model::Permanence;

    use super::*;
    use crate::{Classifier, Stage};

    const RULES: &str = include_str!("../rules.toml");

    fn reply(line: &str) -> Reply {
        let (code, rest) = line.split_once(' ').unwrap();
        let (first, after) = rest.split_once(' ').unwrap();
        match first.parse() {
            Ok(enhanced) => Reply::new(code.parse().unwrap(), Some(enhanced), after),
            Err(_) => Reply::new(code.parse().unwrap(), None, rest),
        }
    }

    #[test]
    fn every_rule_is_the_first_that_its_example_meets_and_gives_its_class() {
        let rules: Rules = RULES.parse().unwrap();
        let classifier = Classifier::builtin().unwrap();
        for rule in &rules.rules {
            let provider = Provider::new(rule.provider.as_deref().unwrap_or("example.com"));
            let reply = reply(&rule.example);
            let met = rules.met_by(&reply, &provider);
            let first = met.first().map(|first| &first.example);
            assert_eq!(first, Some(&rule.example));
            let verdict = classifier.judge(Stage::EndOfData, &reply, &provider);
            assert_eq!(verdict.class, rule.class.0, "{reply}");
            assert_eq!(
                verdict.permanence == Permanence::Hard,
                reply.is_permanent(),
                "{reply}"
            );
        }
    }

    #[test]
    fn a_rule_of_one_provider_says_nothing_about_another() {
        let rules: Rules = RULES.parse().unwrap();
        for rule in rules.rules.iter().filter(|rule| rule.provider.is_some()) {
            let met = rules.met_by(&reply(&rule.example), &Provider::new("example.com"));
            assert!(
                met.iter().all(|met| met.provider.is_none()),
                "{}",
                rule.example
            );
        }
    }

    #[test]
    fn words_in_an_address_or_a_link_are_not_the_servers_words() {
        let quoting = "550 5.1.1 <spam@virus.example> http://example.com/blocklist/spf-fail";
        assert_eq!(spoken(&reply(quoting)), "550 5.1.1 example.com");
    }

    #[test]
    fn a_rule_that_names_no_class_of_ours_is_refused() {
        let unknown = "[[rule]]\nclass = 'bad'\npattern = 'x'\nexample = '550 x'";
        assert!(matches!(
            unknown.parse::<Rules>(),
            Err(RulesError::Syntax(_))
        ));
        let broken = "[[rule]]\nclass = 'dns'\npattern = '('\nexample = '550 x'";
        assert!(matches!(
            broken.parse::<Rules>(),
            Err(RulesError::Pattern(_))
        ));
    }
}
