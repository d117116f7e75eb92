//! Whether a direction moves enough at a time for a pipe to be worth its calls.

/// A read of so much says that it is,
pub const PIPE_FROM: usize = 64 << 10;
/// and so many in a row of less than this that it is not.
const PIPE_DOWN_TO: usize = 8 << 10;
const LITTLE_IN_A_ROW: u32 = 8;

/// Whether a direction goes through a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piping {
    /// Not until more is moved.
    NotYet,
    /// So many times in a row little was moved.
    Yes {
        /// Less than [`LITTLE_IN_A_ROW`].
        little: u32,
    },
    /// The kernel cannot.
    Never,
}

impl Piping {
    /// It does from now on.
    pub const BEGUN: Self = Self::Yes { little: 0 };

    /// What it is after so many bytes went through a pipe.
    #[must_use]
    pub fn after(self, count: usize) -> Self {
        match self {
            Self::Yes { little } if count < PIPE_DOWN_TO && little + 1 == LITTLE_IN_A_ROW => Self::NotYet,
            Self::Yes { little } if count < PIPE_DOWN_TO => Self::Yes { little: little + 1 },
            Self::Yes { .. } => Self::BEGUN,
            Self::NotYet | Self::Never => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_left_for_small_messages_not_for_a_gap() {
        let mut piping = Piping::BEGUN;
        for _ in 0..3 {
            for _ in 1..LITTLE_IN_A_ROW {
                piping = piping.after(1);
            }
            assert!(matches!(piping, Piping::Yes { .. }));
            piping = piping.after(PIPE_DOWN_TO);
        }
        for _ in 0..LITTLE_IN_A_ROW {
            assert!(matches!(piping, Piping::Yes { .. }));
            piping = piping.after(PIPE_DOWN_TO - 1);
        }
        assert_eq!(piping, Piping::NotYet);
        assert_eq!(Piping::Never.after(PIPE_FROM), Piping::Never);
    }
}
