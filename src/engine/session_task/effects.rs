//! Performs what the machine asks for.

use std::sync::atomic::Ordering;

use super::super::handle::reply;
use super::super::refusal::Refusal;
use super::super::{Reserved, Serving};
use super::Task;
use crate::session::{Effect, Event, ReleaseReason};
use crate::supervisor::DataPath;

impl Task {
    pub(super) async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::AnswerReserve => {
                failpoint!("before-req-is-answered");
                if let Some(answer) = self.waiting_reserve.take() {
                    let listeners = self.listeners.clone();
                    let (announced, capacity) = (self.machine.announced.clone(), self.standing.capacity);
                    let reserved = Reserved { listeners, announced, capacity };
                    if answer.send(Ok(reserved)).is_err() {
                        self.step(Event::Release(ReleaseReason::Abandoned)).await;
                    }
                }
            }
            Effect::Start(plan) | Effect::Change(plan) => {
                let path = match self.data_path.take() {
                    Some(path) => path,
                    None => DataPath::open(self.data_path_parts()),
                };
                let path = self.data_path.insert(path);
                failpoint!("before-the-plan-is-served");
                path.serve(plan);
            }
            Effect::AnswerUpdated => {
                let targets = self.machine.live.iter().flat_map(|plan| plan.routes.iter().map(|r| r.target)).collect();
                failpoint!("before-update-is-answered");
                let serving = Serving { listeners: self.listeners.clone(), targets };
                self.answer_update(Ok(serving));
            }
            Effect::AnswerRefused => {
                if let Some(why) = self.refused.take() {
                    self.answer_update(Err(why.into()));
                }
            }
            Effect::Reject(why) => {
                let refusal = self.rejected(why);
                self.answer_update(Err(refusal));
            }
            Effect::TearDown(why) => {
                failpoint!("before-release");
                self.end = Some(why.to_string());
                self.publish(&format!("ending: {why}"));
                self.tear_down(why).await;
                self.step(Event::Drained).await;
            }
            Effect::Forget => self.shared.directory.forget(self.session),
        }
    }

    pub(super) async fn tear_down(&mut self, why: ReleaseReason) {
        let session = self.session;
        self.awaits_hello.store(false, Ordering::Release);
        // Gone first: a session without its key is not gone on with, whatever happens now.
        if let Err(e) = self.folder.remove_key() {
            tracing::error!(%session, "cannot remove the session's key: {e}");
        }
        if let Some(answer) = self.waiting_reserve.take() {
            let waited = self.shared.setup().settings.hello_timeout;
            let refusal = match &why {
                ReleaseReason::NoHello => Refusal::NoHello { session, waited },
                why => Refusal::Ended { session, why: why.clone() },
            };
            reply(answer, Err(refusal));
        }
        self.answer_update(Err(Refusal::Ended { session, why }));
        if let Some(path) = self.data_path.take() {
            // Where the kernel does not tell the last counters of connections, these are.
            self.gauge.look().await;
            path.stop().await;
            self.gauge.look().await;
        }
        failpoint!("processes-stopped");
        self.leases.clear();
        failpoint!("ports-given-back");
        if let Err(e) = self.folder.remove() {
            tracing::error!(%session, "cannot remove the session's folder: {e}");
        }
    }

    pub(super) fn answer_update(&mut self, answer: Result<Serving, Refusal>) {
        if let Some(waiting) = self.waiting_update.take() {
            reply(waiting, answer);
        }
    }
}
