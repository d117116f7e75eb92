//! Carries bytes between two wires, both ways, until both ways have ended.
//!
//! An end of file travels on as such once everything before it is delivered,
//! and the other direction goes on. A broken side ends all at once: what was
//! read from it is delivered as far as the other side takes it without a wait,
//! and dropping the sockets then resets the other side.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::flow::{Broken, Common, Flow};
use crate::wire::Wire;

/// Two wires and the bytes between them.
pub struct Pump {
    source: Wire,
    target: Wire,
    to_target: Flow,
    to_source: Flow,
}

impl Pump {
    /// Joins two wires.
    #[must_use]
    pub fn new(source: Wire, target: Wire, common: &Common) -> Self {
        Self { source, target, to_target: Flow::new(common), to_source: Flow::new(common) }
    }

    /// Bytes that the target was given.
    #[must_use]
    pub fn sent_to_target(&self) -> u64 {
        self.to_target.delivered()
    }

    /// Bytes that the source was given.
    #[must_use]
    pub fn sent_to_source(&self) -> u64 {
        self.to_source.delivered()
    }

    /// Carries everything.
    ///
    /// # Errors
    /// When a side broke.
    pub async fn run(&mut self, common: &Common) -> Result<(), Broken> {
        let sockets = (self.source.socket().clone(), self.target.socket().clone());
        let mut source_broken = pin!(sockets.0.broken());
        let mut target_broken = pin!(sockets.1.broken());
        let sharer = common.memory.join();
        poll_fn(|context| {
            let Self { source, target, to_target, to_source } = self;
            let there = to_target.poll(context, &sharer, (source, "source"), (target, "target"))?;
            let back = to_source.poll(context, &sharer, (target, "target"), (source, "source"))?;
            if there.is_ready() && back.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(error) = source_broken.as_mut().poll(context) {
                return Poll::Ready(Err(Broken { side: "source", error }));
            }
            target_broken.as_mut().poll(context).map(|error| Err(Broken { side: "target", error }))
        })
        .await?;
        sockets.0.end_well();
        sockets.1.end_well();
        Ok(())
    }
}
