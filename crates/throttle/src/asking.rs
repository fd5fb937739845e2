//! What a worker asks Redis for: a slot, and tokens.

use model::Class;

use crate::gate::Gate;
use crate::lease::Terms;
use crate::link::{Away, Line};
use crate::scripts::{AdmitReply, Decision, Question, Slot, Tokens};
use crate::slot::Claim;
use crate::throttle::Inner;
use crate::{Limits, Wait};

impl Inner {
    /// Takes a token for mail of `class`, from what this worker holds or by asking. One question serves all.
    pub(crate) async fn take_for(
        &self,
        gate: &Gate,
        limits: &Limits,
        class: Class,
    ) -> Result<(), Wait> {
        let Some(terms) = Terms::of(limits, self.settings.lease) else {
            return Ok(());
        };
        let share = self.share(gate, limits);
        if let Some(known) = gate.answer(limits, &share, self.link.mode(), class) {
            return known;
        }
        let _asking = gate.asking.lock().await;
        if let Some(known) = gate.answer(limits, &share, self.link.mode(), class) {
            return known;
        }
        let decision = match self.link.line() {
            Some(line) => self.ask_for_tokens(&line, gate, terms, class).await,
            None => Err(Away),
        };
        match decision {
            Ok(decision) => gate.settle(limits, &share, &terms, class, decision),
            Err(Away) => gate.take_of_share(&share, self.settings.return_jitter),
        }
    }

    /// Asks for the slot of `claim`, and tokens with it.
    pub(crate) async fn ask_for_slot(
        &self,
        line: &Line,
        claim: &Claim,
        connections: u32,
        tokens: Option<Tokens>,
    ) -> Result<Decision, Away> {
        let member = self.member(claim.id);
        let replaces = claim.gate.holdings().has_given_back(self.settings.slot_ttl);
        let is_first = claim.gate.holdings().len() == 0;
        let question = Question {
            rate_key: &claim.gate.rate_key,
            slots_key: &claim.gate.slots_key,
            slot: Some(Slot {
                member: &member,
                connections,
                replaces,
                is_first,
            }),
            tokens,
            told: claim.gate.told_before(),
        };
        self.ask(line, &claim.gate, &question).await
    }

    async fn ask_for_tokens(
        &self,
        line: &Line,
        gate: &Gate,
        terms: Terms,
        class: Class,
    ) -> Result<Decision, Away> {
        let question = Question {
            rate_key: &gate.rate_key,
            slots_key: &gate.slots_key,
            slot: None,
            tokens: Some(Tokens {
                terms,
                wanted: gate.demand(&terms),
                class,
            }),
            told: gate.told_before(),
        };
        self.ask(line, gate, &question).await
    }

    async fn ask(
        &self,
        line: &Line,
        gate: &Gate,
        question: &Question<'_>,
    ) -> Result<Decision, Away> {
        let epoch = self.epoch();
        let script = self.scripts.admit(self.asker(&epoch), question);
        let reply: AdmitReply = self.link.ask(line, &script).await?;
        self.remember_epoch(&reply.3);
        gate.told(reply.4);
        Decision::read(&reply).ok_or(Away)
    }
}
