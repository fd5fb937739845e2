//! A provider keeps a message and closes before it says so, again and again: each such message arrives once more for
//! each time, and no other does.

use std::collections::HashMap;

use mailsim::ledger::Outcome;
use tests::{Books, PATIENCE, Setup, letter, messages, provider, submit_all};

use super::PROGRAM;
use super::drained::drained;

const MESSAGES: usize = 500;
const CUT_EVERY: usize = 10;

#[tokio::test]
async fn a_lost_reply_is_one_duplicate() -> anyhow::Result<()> {
    let count = messages(MESSAGES);
    let setup = Setup::new(PROGRAM).configured(|config| {
        let mut forgetful = provider("gmail");
        forgetful.manners = vec![format!("dot each {CUT_EVERY}: cut")];
        config.mailsim.providers = vec![forgetful];
    });
    let cluster = setup.start_with(2).await?;
    let api = cluster.api(0)?;
    let mut events = api.events().await?;
    let mut books = Books::default();
    let letters = (0..count).map(|number| letter(&format!("customer{number}@gmail.example")));
    submit_all(&api, letters, |answer| books.accepted(answer)).await?;
    books
        .read_until_ended(count, &mut events, PATIENCE * 10)
        .await?;
    drained(cluster.nats_url()?).await?;

    let ledger = cluster.ledger()?;
    let mut copies: HashMap<&str, usize> = HashMap::new();
    let mut cuts = 0;
    for entry in &ledger {
        // With its content there, a message that was cut is in the mailbox as well.
        if let (Outcome::Accepted | Outcome::Cut, Some(_)) = (entry.outcome, &entry.message_id) {
            *copies.entry(&entry.recipient).or_default() += 1;
            cuts += usize::from(entry.outcome == Outcome::Cut);
        }
    }
    let duplicates: usize = copies.values().map(|copies| copies - 1).sum();
    println!("{cuts} replies lost, {duplicates} duplicates");
    assert!(cuts >= count / CUT_EVERY, "{cuts}");
    assert_eq!(duplicates, cuts);
    let reconciled = books.reconcile(ledger);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.duplicates.len(), 0, "a reply that was heard");
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", count)].into());
    cluster.finish().await
}
