//! The messages of a load: alike in size, unlike in recipient.

use std::time::Duration;

use anyhow::Context as _;
use api::v1::submit_request::Content;
use api::v1::{Class, SubmitRequest};
use bytes::Bytes;
use model::{ByteSize, Domain, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// So many different texts take turns: a message is like none of its neighbours.
const TEXTS: u64 = 64;
/// Octets of all of them at most, unless one is larger.
const OCTETS: u64 = 64 << 20;
/// Words that occur.
const VOCABULARY: usize = 600;
/// Longer lines are broken.
const LINE: usize = 70;

/// Makes messages.
#[derive(Debug)]
pub(crate) struct Mail {
    contents: Vec<Bytes>,
    class: Class,
    /// Each destination as often as its weight.
    destinations: Vec<Destination>,
    plan: Option<Plan>,
}

/// When messages are to be sent that are not to be sent at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The first one's time.
    pub(crate) first: Timestamp,
    /// How far the last one's lies behind it.
    pub(crate) over: Duration,
    /// How many there are.
    pub(crate) messages: usize,
}

impl Plan {
    /// Message `number`'s time: they lie evenly.
    fn at(&self, number: usize) -> Option<Timestamp> {
        let part = number as f64 / self.messages.max(1) as f64;
        self.first.checked_add(self.over.mul_f64(part)).ok()
    }
}

impl Mail {
    /// Messages of `size` to the destinations `to`, written as "domain" or "domain=weight".
    pub(crate) fn new(size: ByteSize, to: &[String], class: Class) -> anyhow::Result<Self> {
        let mut destinations = Vec::new();
        for text in to {
            let (pattern, weight) = text.split_once('=').unwrap_or((text, "1"));
            let weight: usize = weight
                .parse()
                .with_context(|| format!("--to {text:?}: weight is no number"))?;
            let destination =
                Destination::parse(pattern).with_context(|| format!("--to {text:?}"))?;
            destinations.extend(std::iter::repeat_n(destination, weight));
        }
        anyhow::ensure!(
            !destinations.is_empty(),
            "--to names no domain with a weight above 0"
        );
        let texts = (OCTETS / size.0.max(1)).clamp(1, TEXTS);
        Ok(Self {
            contents: (0..texts).map(|number| text(number, size)).collect(),
            class,
            destinations,
            plan: None,
        })
    }

    /// The same messages, to be sent when `plan` says.
    pub(crate) fn planned(self, plan: Option<Plan>) -> Self {
        Self { plan, ..self }
    }

    /// Message number `number`.
    pub(crate) fn message(&self, number: usize) -> SubmitRequest {
        let count = self.destinations.len();
        let domain = self.destinations[number % count].domain(number / count);
        let content = self.contents[number % self.contents.len()].clone();
        SubmitRequest {
            class: self.class.into(),
            recipients: vec![format!("load{number}@{domain}")],
            content: Some(Content::Raw(content)),
            send_at: self
                .plan
                .and_then(|plan| plan.at(number))
                .map(api::timestamp_to_wire),
            ..SubmitRequest::default()
        }
    }
}

/// A message of `size`, of random words: to pack it saves two fifths, less than with most mail. The same for the same number.
fn text(number: u64, size: ByteSize) -> Bytes {
    let mut random = StdRng::seed_from_u64(number);
    let words: Vec<String> = (0..VOCABULARY).map(|_| word(&mut random)).collect();
    let mut content =
        b"From: load@load.example\r\nTo: you@load.example\r\nSubject: load\r\n\r\n".to_vec();
    let mut column = 0;
    while (content.len() as u64) < size.0 {
        // Some words are common and most are rare.
        let rank = random.random::<f64>().powi(3) * VOCABULARY as f64;
        let word = &words[rank as usize % VOCABULARY];
        let (end, next) = if column + word.len() > LINE {
            ("\r\n", 0)
        } else {
            (" ", column + word.len() + 1)
        };
        content.extend_from_slice(word.as_bytes());
        content.extend_from_slice(end.as_bytes());
        column = next;
    }
    content.extend_from_slice(b"\r\n");
    content.into()
}

fn word(random: &mut StdRng) -> String {
    let length = random.random_range(2..9);
    (0..length)
        .map(|_| char::from(random.random_range(b'a'..=b'z')))
        .collect()
}

/// A domain, or many: in "d{1000}.example" the braces stand for a number below 1,000, which goes up with every message.
#[derive(Debug, Clone)]
struct Destination {
    /// What stands before each number, and how many numbers there are.
    numbered: Vec<(String, usize)>,
    /// What stands behind the last one.
    rest: String,
}

impl Destination {
    fn parse(pattern: &str) -> anyhow::Result<Self> {
        let mut numbered = Vec::new();
        let mut rest = pattern;
        while let Some((before, behind)) = rest.split_once('{') {
            let (count, behind) = behind.split_once('}').context("a { has no }")?;
            let count: usize = count
                .parse()
                .with_context(|| format!("{{{count}}} holds no number"))?;
            anyhow::ensure!(count > 0, "{{0}} stands for no number at all");
            numbered.push((before.to_owned(), count));
            rest = behind;
        }
        let destination = Self {
            numbered,
            rest: rest.to_owned(),
        };
        let _: Domain = destination.domain(0).parse()?;
        Ok(destination)
    }

    /// The domain of message `number` of this destination.
    fn domain(&self, number: usize) -> String {
        let mut domain = String::new();
        for (before, count) in &self.numbered {
            domain.push_str(before);
            domain.push_str(&(number % count).to_string());
        }
        domain.push_str(&self.rest);
        domain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(to: &[&str], messages: usize) -> anyhow::Result<Vec<String>> {
        let to: Vec<String> = to.iter().map(|text| (*text).to_owned()).collect();
        let mail = Mail::new(ByteSize(1), &to, Class::Bulk)?;
        let domain = |number| {
            let recipient = mail.message(number).recipients.remove(0);
            let (_, domain) = recipient.split_once('@').unwrap();
            domain.to_owned()
        };
        Ok((0..messages).map(domain).collect())
    }

    #[test]
    fn each_domain_gets_as_many_messages_as_its_weight() {
        let made = domains(&["a.example=2", "b.example"], 6).unwrap();
        let expected = ["a", "a", "b", "a", "a", "b"].map(|name| format!("{name}.example"));
        assert_eq!(made, expected);
    }

    #[test]
    fn braces_stand_for_numbers_in_turn() {
        let made = domains(&["d{3}.p{2}.example"], 4).unwrap();
        let expected = ["d0.p0", "d1.p1", "d2.p0", "d0.p1"].map(|name| format!("{name}.example"));
        assert_eq!(made, expected);
    }

    #[test]
    fn what_is_no_destination_says_why() {
        let bad = [
            ("a.example=x", "weight is no number"),
            ("a.example=0", "no domain with a weight above 0"),
            ("d{3.example", "has no }"),
            ("d{x}.example", "holds no number"),
            ("d{0}.example", "no number at all"),
            ("d_{3}", "--to"),
        ];
        for (text, why) in bad {
            let problem = format!("{:#}", domains(&[text], 1).unwrap_err());
            assert!(problem.contains(why), "{text:?}: {problem}");
        }
    }
}
