//! Measures the classifier on replies that nobody on the project wrote, where the collection is at hand.

use std::collections::BTreeMap;
use std::path::Path;

use classify::{Classifier, Stage};
use model::{BounceClass, EnhancedCode, Permanence, Provider, Reply};
use serde_json::Value;

/// The share of replies whose class must be the labelled one or one that the label's makers accept as well.
const LEAST_RIGHT: f64 = 0.97;

fn group(class: BounceClass) -> &'static str {
    match class {
        BounceClass::InvalidRecipient => "invalid_recipient",
        BounceClass::InactiveMailbox => "mailbox_inactive",
        BounceClass::BadDomain => "invalid_domain",
        BounceClass::MailboxFull => "mailbox_full",
        BounceClass::AuthFailure => "auth_failure",
        BounceClass::Reputation => "reputation_block",
        BounceClass::RateLimited => "rate_limited",
        BounceClass::Greylisted => "greylist",
        BounceClass::Content => "content_spam",
        BounceClass::MessageTooLarge => "too_big",
        BounceClass::Policy => "policy",
        BounceClass::Tls | BounceClass::Protocol => "protocol",
        BounceClass::Dns
        | BounceClass::Connect
        | BounceClass::Timeout
        | BounceClass::RemoteSystem => "transient_system",
        BounceClass::Undetermined => "unknown",
    }
}

/// The collection has names of its own for providers, and one class that is part of our policy class.
fn ours(name: &str) -> &str {
    match name {
        "gmail" => "google",
        "outlook" => "microsoft365",
        "relay_denied" => "policy",
        other => other,
    }
}

fn reply(line: &str) -> Reply {
    let (code, rest) = line.split_at(3);
    let rest = rest.trim_start();
    let first = rest.split(' ').next().unwrap_or_default();
    let enhanced: Option<EnhancedCode> = first.parse().ok();
    let text = enhanced.map_or(rest, |_| &rest[first.len()..]);
    Reply::new(
        code.parse().expect("a reply begins with its code"),
        enhanced,
        text,
    )
}

/// The stage is not recorded. What the text says of it is used, and otherwise the stage of most refusals.
fn stage(line: &str) -> Stage {
    let said = [
        ("in reply to MAIL FROM", Stage::MailFrom),
        ("in reply to end of DATA", Stage::EndOfData),
    ];
    let found = said.iter().find(|(words, _)| line.contains(words));
    found.map_or(Stage::Data, |(_, stage)| *stage)
}

#[test]
fn replies_of_the_world_get_the_classes_that_others_gave_them() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/smtp_replies.jsonl");
    let Ok(lines) = std::fs::read_to_string(&path) else {
        println!("not measured: {} is absent", path.display());
        return;
    };
    let classifier = Classifier::builtin().unwrap();
    let (mut exact, mut right, mut all) = (0_u32, 0_u32, 0_u32);
    let mut wrong = BTreeMap::new();
    let mut blamed = Vec::new();
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["text"].as_str().unwrap();
        let provider = Provider::new(ours(case["provider"].as_str().unwrap()));
        let verdict = classifier.judge(stage(text), &reply(text), &provider);
        let got = group(verdict.class);
        let accepted = case["accept"].as_array().unwrap();
        let accepts = |value: &Value| ours(value.as_str().unwrap()) == got;
        all += 1;
        exact += u32::from(accepts(&case["class"]));
        if accepts(&case["class"]) || accepted.iter().any(accepts) {
            right += 1;
        } else {
            wrong.insert(
                text.chars().take(160).collect::<String>(),
                (case["class"].clone(), got),
            );
        }
        let blames = matches!(got, "invalid_recipient" | "invalid_domain");
        if case["hard"] == false && blames && verdict.permanence == Permanence::Hard {
            blamed.push(text.to_owned());
        }
    }
    println!("{exact} exact, {right} right of {all}; wrong: {wrong:#?}");
    assert!(
        blamed.is_empty(),
        "would be suppressed for others' faults: {blamed:#?}"
    );
    assert!(f64::from(right) >= LEAST_RIGHT * f64::from(all));
}
