//! The books of a test: what was accepted, what the events say, and what the ledger says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::v1::{Event, EventKind, SubmitResponse};
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use mailsim::ledger::{Entry, Outcome};
use tonic::Status;

/// One job's page.
#[derive(Debug, Default)]
struct Page {
    message: String,
    recipient: String,
    is_accepted: bool,
    /// Distinct terminal events by id.
    endings: BTreeMap<String, EventKind>,
}

impl Page {
    fn key(&self) -> (&str, &str) {
        (&self.message, &self.recipient)
    }
}

impl Copy {
    fn key(&self) -> (&str, &str) {
        (&self.message, &self.recipient)
    }
}

/// What is known of every job.
#[derive(Debug, Default)]
pub struct Books {
    pages: HashMap<String, Page>,
    ended: usize,
    accepted: usize,
}

/// A message that stands in a mailbox more than once.
#[derive(Debug)]
pub struct Duplicate {
    /// Whose mailbox.
    pub recipient: String,
    /// When each copy was taken, the first one first.
    pub taken_at: Vec<Timestamp>,
    /// Whether each copy but the last one was the last message of its session, which may have been cut behind it.
    pub follows_cuts: bool,
}

/// One copy of a message in a mailbox.
#[derive(Debug)]
struct Copy {
    message: String,
    recipient: String,
    taken_at: Timestamp,
    /// Whether its session took no message after it.
    is_last: bool,
}

/// The books held against the ledger.
#[derive(Debug)]
pub struct Reconciled {
    /// What does not fit, in words.
    pub faults: Vec<String>,
    /// What was received more than once.
    pub duplicates: Vec<Duplicate>,
    /// Jobs by how they ended.
    pub endings: BTreeMap<&'static str, usize>,
}

impl Books {
    /// The API accepted a message.
    pub fn accepted(&mut self, response: SubmitResponse) {
        for recipient in response.recipients {
            let page = self.pages.entry(recipient.job_id).or_default();
            self.accepted += usize::from(!page.is_accepted);
            page.is_accepted = true;
            page.message.clone_from(&response.message_id);
            page.recipient = recipient.recipient;
        }
    }

    /// An event was seen, perhaps not for the first time.
    pub fn happened(&mut self, event: Event) {
        let kind = event.kind();
        let page = self.pages.entry(event.job_id).or_default();
        page.message = event.message_id;
        page.recipient = event.recipient;
        if is_terminal(kind) {
            self.ended += usize::from(page.endings.is_empty());
            page.endings.insert(event.id, kind);
        }
    }

    /// Jobs that were accepted.
    pub fn accepted_count(&self) -> usize {
        self.accepted
    }

    /// Jobs that came to their end.
    pub fn ended(&self) -> usize {
        self.ended
    }

    /// Reads events until `count` jobs have ended.
    pub async fn read_until_ended(
        &mut self,
        count: usize,
        events: &mut (impl Stream<Item = Result<Event, Status>> + Unpin),
        patience: Duration,
    ) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + patience;
        while self.ended < count {
            match tokio::time::timeout_at(deadline, events.next()).await {
                Ok(Some(event)) => self.happened(event.context("watch events")?),
                Ok(None) => bail!("the server ended the watch"),
                Err(_) => bail!(
                    "{} of {count} jobs ended within {} s; open: {:?}",
                    self.ended,
                    patience.as_secs(),
                    self.open().take(10).collect::<BTreeSet<_>>()
                ),
            }
        }
        Ok(())
    }

    fn open(&self) -> impl Iterator<Item = &str> {
        let open = self.pages.values().filter(|page| page.endings.is_empty());
        open.map(|page| page.recipient.as_str())
    }

    /// Holds every page against the mailboxes: both in the order of messages and recipients, side by side.
    pub fn reconcile(&self, ledger: Vec<Entry>) -> Reconciled {
        let mut pages: Vec<(&String, &Page)> = self.pages.iter().collect();
        pages.sort_by_key(|(_, page)| page.key());
        let copies = copies(ledger);
        let mut left = copies.as_slice();
        let mut reconciled = Reconciled {
            faults: Vec::new(),
            duplicates: Vec::new(),
            endings: BTreeMap::new(),
        };
        for (job, page) in pages {
            let strays = left.partition_point(|copy| copy.key() < page.key());
            reconciled.strays(&left[..strays]);
            left = &left[strays..];
            let own = left.partition_point(|copy| copy.key() == page.key());
            reconciled.compare(job, page, &left[..own]);
            left = &left[own..];
        }
        reconciled.strays(left);
        reconciled
    }
}

impl Reconciled {
    fn strays(&mut self, copies: &[Copy]) {
        let fault =
            |copy: &Copy| format!("{} got {}, which nobody sent", copy.recipient, copy.message);
        self.faults.extend(copies.iter().map(fault));
    }

    fn compare(&mut self, job: &str, page: &Page, copies: &[Copy]) {
        let recipient = &page.recipient;
        let mut fault = |text: String| self.faults.push(format!("{job} to {recipient} {text}"));
        if !page.is_accepted {
            fault("was never accepted".into());
        }
        let kinds: Vec<EventKind> = page.endings.values().copied().collect();
        match kinds[..] {
            [] => fault("came to no end".into()),
            [EventKind::Delivered] if copies.is_empty() => {
                fault("is delivered, but did not arrive".into());
            }
            [EventKind::Delivered] => {}
            [kind] if !copies.is_empty() => fault(format!("is {kind:?}, but arrived")),
            [_] => {}
            [..] => fault(format!("has several ends: {:?}", page.endings)),
        }
        if let [kind] = kinds[..] {
            *self.endings.entry(kind.as_str_name()).or_default() += 1;
        }
        if let [earlier @ .., _] = copies
            && !earlier.is_empty()
        {
            self.duplicates.push(Duplicate {
                recipient: recipient.clone(),
                taken_at: copies.iter().map(|copy| copy.taken_at).collect(),
                follows_cuts: earlier.iter().all(|copy| copy.is_last),
            });
        }
    }
}

/// Every accepted copy, in the order of messages, recipients and times.
fn copies(ledger: Vec<Entry>) -> Vec<Copy> {
    let mut copies = Vec::new();
    let mut sessions = HashSet::new();
    // Backwards, so that the first entry seen of a session is its last.
    for entry in ledger.into_iter().rev() {
        // An envelope that is refused says nothing: it goes out behind the final dot, and the session may be cut there.
        if entry.outcome == Outcome::Accepted {
            let is_last = sessions.insert(entry.session);
            // Postrider's Message-ID is <message id@sender's domain>.
            let id = entry.message_id.unwrap_or_default();
            copies.push(Copy {
                message: id.split('@').next().unwrap_or_default().to_owned(),
                recipient: entry.recipient,
                taken_at: entry.time,
                is_last,
            });
        }
    }
    copies.reverse();
    copies.sort_by(|one, other| one.key().cmp(&other.key()));
    copies
}

fn is_terminal(kind: EventKind) -> bool {
    match kind {
        EventKind::Unspecified | EventKind::Accepted | EventKind::Deferred => false,
        EventKind::Delivered
        | EventKind::Bounced
        | EventKind::Expired
        | EventKind::Quarantined
        | EventKind::Cancelled => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use api::v1::SubmittedRecipient;

    use super::*;

    const ANN: &str = "ann@gmail.example";

    /// A letter to Ann that was taken in `session`.
    fn taken(message: &str, session: &str) -> Entry {
        let entry = serde_json::json!({
            "time": "2026-01-01T00:00:00Z",
            "provider": "gmail",
            "session": session,
            "sender": "shop@sender.example",
            "recipient": ANN,
            "message_id": format!("{message}@sender.example"),
            "size": null,
            "sha256": null,
            "tls": null,
            "code": 250,
            "reply": "2.0.0 ok",
            "outcome": "accepted",
        });
        serde_json::from_value(entry).unwrap()
    }

    /// One letter for each of `messages`, accepted and delivered.
    fn books(messages: &[&str]) -> Books {
        let mut books = Books::default();
        for message in messages {
            books.accepted(SubmitResponse {
                message_id: (*message).to_owned(),
                recipients: vec![SubmittedRecipient {
                    recipient: ANN.to_owned(),
                    job_id: format!("job of {message}"),
                    ..SubmittedRecipient::default()
                }],
                ..SubmitResponse::default()
            });
            books.happened(Event {
                id: format!("{message}:1:delivered"),
                kind: EventKind::Delivered.into(),
                job_id: format!("job of {message}"),
                message_id: (*message).to_owned(),
                recipient: ANN.to_owned(),
                ..Event::default()
            });
        }
        books
    }

    #[test]
    fn a_duplicate_follows_a_cut_where_its_first_session_took_nothing_after_it() {
        let books = books(&["one", "two"]);
        let cut = vec![taken("two", "A"), taken("one", "A"), taken("one", "B")];
        let duplicates = books.reconcile(cut).duplicates;
        assert_eq!(duplicates.len(), 1);
        assert!(duplicates[0].follows_cuts);
        let went_on = vec![taken("one", "A"), taken("two", "A"), taken("one", "B")];
        let duplicates = books.reconcile(went_on).duplicates;
        assert_eq!(duplicates.len(), 1);
        assert!(!duplicates[0].follows_cuts);
    }

    #[test]
    fn what_was_lost_or_sent_by_nobody_is_a_fault() {
        let lost = books(&["one", "two"]).reconcile(vec![taken("one", "A")]);
        assert_eq!(lost.faults.len(), 1, "{:?}", lost.faults);
        let stray = books(&["one"]).reconcile(vec![taken("one", "A"), taken("two", "A")]);
        assert_eq!(stray.faults.len(), 1, "{:?}", stray.faults);
    }
}
