//! Whether the sessions of an earlier run may go on by the policy in force.
//!
//! An operator who takes a rule away and starts the controller again expects that what
//! the rule had let in ends. So each session is judged as a REQ for one like it would
//! be: its role, listeners, protection, sources, key and backend, and the targets that
//! it leads to, in the name of its owner as the journal has them. Nobody is asked for
//! that, so a provider that is out of reach ends nothing. How many sessions one may
//! have is looked at when one is asked for, and then only.

use std::time::Duration;

use super::adoption::Adoption;
use super::settings::shorter;
use super::{Shared, WeakKeys, minutes};
use crate::backend::Needs;
use crate::policy::{Ask, Grant, Lapse, RuleBandwidth};
use crate::session::{Capacity, ReleaseReason, TargetAddr, TcpWishes};

/// What becomes of a session of an earlier run.
pub(super) enum Fate {
    /// It goes on, for so long from now on at most.
    GoesOn {
        /// `None`: as long as it was to last.
        most: Option<Duration>,
    },
    /// It ends.
    Ends(ReleaseReason),
}

/// Judges a session, and writes down how. What would be granted today takes the place
/// of what was.
pub(super) fn review(found: &mut Adoption, shared: &Shared) -> Fate {
    let policy = &shared.settings.policy;
    grant_tcp_again(found, shared);
    if policy.is_open() {
        grant_again(found, shared, RuleBandwidth::default());
        return Fate::GoesOn { most: None };
    }
    let outcome = judge(found, shared);
    let (session, owner) = (found.session, &found.standing.owner);
    minutes::note_review(&shared.audit, session, owner, &outcome);
    match outcome {
        Ok(grant) => {
            // An UPDATE without targets would lead there.
            found.announced_targets.retain(|target| policy.target(owner, session.role, target.0).is_ok());
            found.standing.max_lifetime = grant.max_lifetime;
            grant_again(found, shared, grant.bandwidth);
            Fate::GoesOn { most: shorter(shared.settings.max_lifetime, grant.max_lifetime) }
        }
        Err(lapse) => {
            tracing::warn!(%session, %owner, "it may not go on by the policy in force: {lapse}");
            Fate::Ends(ReleaseReason::Lapsed { why: lapse.to_string() })
        }
    }
}

/// Has a session's sockets be what they may be today.
fn grant_tcp_again(found: &mut Adoption, shared: &Shared) {
    let granted = shared.settings.tcp.grant(&found.standing.tcp).unwrap_or_else(|denial| {
        tracing::warn!(session = %found.session, "its sockets are set up as the gateway's are: {denial}");
        TcpWishes::default()
    });
    if let Some(plan) = &mut found.machine.live {
        plan.tcp = granted.clone();
    }
    found.standing.tcp = granted;
}

/// Has a session move what it would be granted today, where some program can keep it to that.
fn grant_again(found: &mut Adoption, shared: &Shared, rule: RuleBandwidth) {
    let before = found.standing.capacity;
    let today = shared.settings.bandwidth.grant(before.asked, rule);
    let chosen = shared.site.chosen(&found.standing.backend);
    // A gate cannot come between what runs already, nor go from there.
    let in_place = found.machine.live.as_ref().is_none_or(|plan| chosen.could_limit(Needs::from(plan)));
    if today.is_bounded() && !in_place {
        tracing::warn!(
            session = %found.session,
            "it is not kept to a bandwidth: it began when none was set, and {} cannot be limited without a gate",
            found.standing.backend.name,
        );
        return;
    }
    let stays_bounded = before.is_bounded() && !today.is_bounded();
    found.standing.capacity = Capacity { shared: today.shared || stays_bounded, ..today };
    if let Some(plan) = &mut found.machine.live {
        plan.capacity = found.standing.capacity;
    }
}

fn judge(found: &Adoption, shared: &Shared) -> Result<Grant, Lapse> {
    let (settings, standing, live) = (&shared.settings, &found.standing, found.machine.live.as_ref());
    let role = found.session.role;
    let backend = Some(&standing.backend.name).filter(|_| standing.backend_is_asked_for);
    let ask = Ask {
        role,
        connections: u16::try_from(found.leases.len()).unwrap_or(u16::MAX),
        // The weaker one, should they differ.
        protection: live.map(|plan| plan.protection).into_iter().chain([standing.protection]).min(),
        floor: settings.protection,
        backend: backend.filter(|name| **name != shared.site.backend.name).cloned(),
        sources: standing.sources.clone(),
    };
    let live: Option<Vec<TargetAddr>> = live.map(|plan| plan.routes.iter().map(|route| route.target).collect());
    // Where nothing is served yet, what was announced will be.
    let targets = live.as_ref().unwrap_or(&found.announced_targets);
    let grant = settings.policy.review(&standing.owner, &ask, targets)?;
    standing.sources.within(settings.sources.bound(role)).map_err(|outside| settings.sources.error(role, outside))?;
    match (standing.weakness, settings.weak_keys) {
        (Some(weakness), WeakKeys::Refuse) => Err(Lapse::Weak(weakness)),
        _ => Ok(grant),
    }
}
