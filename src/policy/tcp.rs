//! How sessions may have their TCP connections set.

use super::Denial;
use crate::session::{Congestion, TcpWishes};

/// The rule for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpPolicy {
    /// The largest buffers that may be asked for, in bytes; `None`: nobody may choose them.
    pub max_buffer: Option<u32>,
    /// The congestion controls that may be asked for.
    pub congestions: Vec<Congestion>,
}

impl TcpPolicy {
    /// What a session gets that asks for these. Who asks for larger buffers than may be
    /// gets the largest.
    ///
    /// # Errors
    /// What may not be chosen.
    pub fn grant(&self, asked: &TcpWishes) -> Result<TcpWishes, Denial> {
        if asked.max_asked().is_some() && self.max_buffer.is_none() {
            return Err(Denial::Buffers);
        }
        if let Some(congestion) = &asked.congestion
            && !self.congestions.contains(congestion)
        {
            return Err(Denial::Congestion { asked: congestion.clone() });
        }
        let at_most = |asked: Option<u32>| asked.map(|asked| asked.min(self.max_buffer.unwrap_or_default()));
        Ok(TcpWishes {
            send_buffer: at_most(asked.send_buffer),
            receive_buffer: at_most(asked.receive_buffer),
            congestion: asked.congestion.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_bounded_and_what_may_not_be_chosen_is_refused() {
        let asked = TcpWishes { send_buffer: Some(9000), receive_buffer: Some(100), congestion: "bbr".parse().ok() };
        let site = TcpPolicy { max_buffer: Some(1000), congestions: vec!["bbr".parse().expect("a name")] };
        let granted = site.grant(&asked).expect("within bounds");
        assert_eq!((granted.send_buffer, granted.receive_buffer), (Some(1000), Some(100)));
        assert_eq!(granted.congestion, asked.congestion);
        let strict = TcpPolicy { congestions: vec![], ..site };
        assert!(matches!(strict.grant(&asked), Err(Denial::Congestion { .. })));
        let closed = TcpPolicy::default();
        assert_eq!(closed.grant(&asked), Err(Denial::Buffers));
        assert_eq!(closed.grant(&TcpWishes::default()), Ok(TcpWishes::default()));
    }
}
