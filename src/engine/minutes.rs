//! Writes down who asked for what and what was decided, before anything is done about it.

use super::{Refusal, Requester, SessionView};
use crate::audit::{Audit, Entry, What};
use crate::auth::Caller;
use crate::causes::causes;
use crate::policy::{Grant, Lapse};
use crate::session::{Bandwidth, Capacity, Endpoint, SessionId, TargetAddr};

/// A call on its way through the engine.
#[derive(Debug, Clone)]
pub(super) struct Call {
    audit: Audit,
    entry: Entry,
    /// Whether it ends something, which a full disk must not keep anybody from.
    ends: bool,
}

impl Call {
    /// A call in the words of the protocol, about a session or a UID as logs name it.
    pub(super) fn new(audit: &Audit, name: &'static str, by: &Requester, about: impl ToString) -> Self {
        let entry = Entry {
            call: Some(name),
            who: Some(by.caller.principal()),
            name: Some(by.caller.to_string()),
            address: by.address.map(|address| address.to_string()),
            session: Some(about.to_string()),
            ..Entry::of(What::Decision)
        };
        Self { audit: audit.clone(), entry, ends: false }
    }

    /// The endpoints that it names.
    pub(super) fn naming(mut self, endpoints: &[Endpoint]) -> Self {
        self.entry.targets = endpoints.iter().map(ToString::to_string).collect();
        self
    }

    /// What the names among them are, as it will be decided on.
    pub(super) fn resolved(&mut self, targets: &[TargetAddr]) {
        self.entry.targets = targets.iter().map(|target| target.0.to_string()).collect();
    }

    /// A call that ends something.
    pub(super) fn ending(mut self) -> Self {
        self.ends = true;
        self
    }

    /// Writes down a decision. One that cannot be written down is none.
    pub(super) fn decided<T>(&mut self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        let entry = Entry {
            allowed: Some(outcome.is_ok()),
            why: outcome.as_ref().err().map(|refusal| causes(refusal)),
            ..self.entry.clone()
        };
        match self.audit.write(&entry) {
            Err(source) if outcome.is_ok() && !self.ends => {
                Err(Refusal::Internal { doing: "write the audit log", source })
            }
            Err(e) => {
                tracing::error!("cannot write the audit log: {e}");
                outcome
            }
            Ok(()) => outcome,
        }
    }

    /// Writes down a refusal; what is well is decided elsewhere.
    pub(super) fn or_refused<T>(&mut self, outcome: Result<T, impl Into<Refusal>>) -> Result<T, Refusal> {
        outcome.or_else(|refusal| self.decided(Err(refusal.into())))
    }

    /// The rule that the decision will name.
    pub(super) fn by_rule(&mut self, rule: Option<&String>) {
        self.entry.rule = rule.cloned();
    }

    /// How much it will be about.
    pub(super) fn with_capacity(&mut self, capacity: Capacity) {
        self.entry.rate = capacity.asked.map(Bandwidth::kilobytes_per_second);
        self.entry.bandwidth = capacity.limit.map(Bandwidth::kilobytes_per_second);
    }

    /// Writes down that what was allowed came to nothing.
    pub(super) fn came_to<T>(&self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        outcome.inspect_err(|refusal| {
            let why = Some(format!("{}: {}", refusal.code().as_str(), causes(refusal)));
            self.audit.note(&Entry { event: What::Failure, why, ..self.entry.clone() });
        })
    }
}

/// Writes down what the policy says of a session of an earlier run, in the name of its
/// owner. It goes on, or ends, whether that can be written down or not.
pub(super) fn note_review(audit: &Audit, session: SessionId, owner: &Caller, outcome: &Result<Grant, Lapse>) {
    audit.note(&Entry {
        call: Some("REVIEW"),
        allowed: Some(outcome.is_ok()),
        why: outcome.as_ref().err().map(ToString::to_string),
        rule: outcome.as_ref().ok().and_then(|grant| grant.rule.clone()),
        session: Some(session.to_string()),
        owner: Some(owner.principal()),
        ..Entry::of(What::Decision)
    });
}

/// Writes down what happens to a session, or is about to.
pub(super) fn note_change(audit: &Audit, what: &str, view: &SessionView) {
    audit.note(&Entry {
        why: Some(what.to_owned()),
        session: Some(view.session.to_string()),
        owner: Some(view.owner.principal()),
        listeners: view.listeners.iter().map(ToString::to_string).collect(),
        targets: view.targets.iter().map(|target| target.0.to_string()).collect(),
        sources: view.sources.networks().iter().map(ToString::to_string).collect(),
        protection: Some(view.protection.as_str()),
        bandwidth: view.capacity.limit.map(Bandwidth::kilobytes_per_second),
        ..Entry::of(What::Session)
    });
}
