//! Whether sessions may go on by the policy in force: those of an earlier run, and all
//! of them when other settings come into force.
//!
//! An operator who takes a rule away and has the controller read it, or starts it again,
//! expects that what the rule had let in ends. So each session is judged as a REQ for one
//! like it would be: its role, listeners, protection, sources, key and backend, and the
//! targets that it leads to, in the name of its owner as they were when they asked.
//! Nobody is asked for that, so a provider that is out of reach ends nothing. How many
//! sessions one may have is looked at when one is asked for, and then only.

use std::time::Duration;

use super::adoption::Adoption;
use super::settings::{Setup, shorter};
use super::{Shared, Standing, WeakKeys, minutes};
use crate::audit::Audit;
use crate::backend::Needs;
use crate::policy::{Ask, Grant, Lapse, RuleBandwidth};
use crate::session::{Capacity, Plan, ReleaseReason, SessionId, TargetAddr, TcpWishes};

/// A session as it is judged.
pub(super) struct Subject<'a> {
    pub(super) session: SessionId,
    pub(super) standing: &'a Standing,
    /// What it serves.
    pub(super) live: Option<&'a Plan>,
    /// How many listeners it has.
    pub(super) connections: usize,
    pub(super) announced_targets: &'a [TargetAddr],
}

/// What a session that may go on has from now on.
pub(super) struct Today {
    /// Those of its announced targets that may be.
    pub(super) announced_targets: Vec<TargetAddr>,
    /// The longest that its lifetime may be made.
    pub(super) max_lifetime: Option<Duration>,
    /// How long it goes on from now at most; `None`: as long as it was to last.
    pub(super) most: Option<Duration>,
    pub(super) capacity: Capacity,
}

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

/// Judges a session of an earlier run.
pub(super) fn on_adoption(found: &mut Adoption, shared: &Shared) -> Fate {
    let subject = Subject {
        session: found.session,
        standing: &found.standing,
        live: found.machine.live.as_ref(),
        connections: found.leases.len(),
        announced_targets: &found.announced_targets,
    };
    match review(&subject, &shared.setup(), &shared.audit) {
        Ok(today) => {
            found.announced_targets = today.announced_targets;
            found.standing.max_lifetime = today.max_lifetime;
            found.standing.capacity = today.capacity;
            found.standing.tcp = tcp(found, &shared.setup());
            if let Some(plan) = &mut found.machine.live {
                plan.capacity = today.capacity;
                plan.tcp = found.standing.tcp.clone();
            }
            Fate::GoesOn { most: today.most }
        }
        Err(why) => Fate::Ends(why),
    }
}

/// Judges a session, and writes down how. Where there are rules, what they say today
/// takes the place of what was granted.
pub(super) fn review(subject: &Subject<'_>, setup: &Setup, audit: &Audit) -> Result<Today, ReleaseReason> {
    let (policy, standing) = (&setup.settings.policy, subject.standing);
    if policy.is_open() {
        return Ok(Today {
            announced_targets: subject.announced_targets.to_vec(),
            max_lifetime: standing.max_lifetime,
            most: None,
            capacity: capacity(subject, setup, RuleBandwidth::default()),
        });
    }
    let outcome = judge(subject, setup);
    let (session, owner) = (subject.session, &standing.owner);
    minutes::note_review(audit, session, owner, &outcome);
    let grant = outcome.map_err(|lapse| {
        tracing::warn!(%session, %owner, "it may not go on by the policy in force: {lapse}");
        ReleaseReason::Lapsed { why: lapse.to_string() }
    })?;
    // An UPDATE without targets would lead there.
    let may_be = |target: &&TargetAddr| policy.target(owner, session.role, target.0).is_ok();
    Ok(Today {
        announced_targets: subject.announced_targets.iter().filter(may_be).copied().collect(),
        max_lifetime: grant.max_lifetime,
        most: shorter(setup.settings.max_lifetime, grant.max_lifetime),
        capacity: capacity(subject, setup, grant.bandwidth),
    })
}

/// What a session's sockets may be today.
fn tcp(found: &Adoption, setup: &Setup) -> TcpWishes {
    setup.settings.tcp.grant(&found.standing.tcp).unwrap_or_else(|denial| {
        tracing::warn!(session = %found.session, "its sockets are set up as the gateway's are: {denial}");
        TcpWishes::default()
    })
}

/// What a session would be granted to move today, where some program can keep it to that.
fn capacity(subject: &Subject<'_>, setup: &Setup, rule: RuleBandwidth) -> Capacity {
    let standing = subject.standing;
    let before = standing.capacity;
    let today = setup.settings.bandwidth.grant(before.asked, rule);
    let chosen = standing.site.chosen(&standing.backend);
    // A gate cannot come between what runs already, nor go from there.
    let in_place = subject.live.is_none_or(|plan| chosen.could_limit(Needs::from(plan)));
    if today.is_bounded() && !in_place {
        tracing::warn!(
            session = %subject.session,
            "it is not kept to a bandwidth: it began when none was set, and {} cannot be limited without a gate",
            standing.backend.name,
        );
        return before;
    }
    let stays_bounded = before.is_bounded() && !today.is_bounded();
    Capacity { shared: today.shared || stays_bounded, ..today }
}

fn judge(subject: &Subject<'_>, setup: &Setup) -> Result<Grant, Lapse> {
    let (settings, standing, live) = (&setup.settings, subject.standing, subject.live);
    let role = subject.session.role;
    let backend = Some(&standing.backend.name).filter(|_| standing.backend_is_asked_for);
    let ask = Ask {
        role,
        connections: u16::try_from(subject.connections).unwrap_or(u16::MAX),
        // The weaker one, should they differ.
        protection: live.map(|plan| plan.protection).into_iter().chain([standing.protection]).min(),
        floor: settings.protection,
        backend: backend.filter(|name| **name != setup.site.backend.name).cloned(),
        sources: standing.sources.clone(),
    };
    let live: Option<Vec<TargetAddr>> = live.map(|plan| plan.routes.iter().map(|route| route.target).collect());
    // Where nothing is served yet, what was announced will be.
    let targets = live.as_deref().unwrap_or(subject.announced_targets);
    let grant = settings.policy.review(&standing.owner, &ask, targets)?;
    standing.sources.within(settings.sources.bound(role)).map_err(|outside| settings.sources.error(role, outside))?;
    match (standing.weakness, settings.weak_keys) {
        (Some(weakness), WeakKeys::Refuse) => Err(Lapse::Weak(weakness)),
        _ => Ok(grant),
    }
}
