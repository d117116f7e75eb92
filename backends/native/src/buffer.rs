//! Memory for bytes that are on their way, which a thread lends while there are any.
//!
//! It is mapped from the kernel and goes back there: of what a heap gave once, it
//! tends to keep the most.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};

use memmap2::MmapMut;

use crate::lending;
use crate::memory::MOST;

/// A little more than a turn of a flow takes: a record adds 22 bytes to 16 KiB of
/// an application in TLS 1.3, and some more in 1.2.
pub const SIZE: usize = MOST + MOST / 64;
/// A thread keeps so many for the next who needs one: a turn takes three.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<MmapMut>> = const { RefCell::new(Vec::new()) };
}

/// Gives the thread's spare memory back to the kernel.
pub fn release() {
    SPARE.take();
}

/// [`SIZE`] bytes, lent until this is dropped. What they are is left from others.
pub struct Region(Option<MmapMut>);

impl Region {
    /// Takes one of the thread's, or a new one.
    ///
    /// # Panics
    /// When the kernel has no memory.
    #[must_use]
    pub fn take() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self(Some(spare.unwrap_or_else(|| MmapMut::map_anon(SIZE).expect("the kernel has memory"))))
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(memory) = self.0.take() {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < KEPT {
                    spare.push(memory);
                }
            });
            lending::came_back();
        }
    }
}

/// Bytes, first in, first out. Without any it has no memory.
#[derive(Default)]
pub struct Buffer {
    memory: Memory,
    start: usize,
    end: usize,
}

#[derive(Default)]
enum Memory {
    #[default]
    None,
    Lent(Region),
    /// Exactly as much as there are bytes.
    Own(Vec<u8>),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Lent(region) => region,
            Self::Own(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::None => &mut [],
            Self::Lent(region) => region,
            Self::Own(bytes) => bytes,
        }
    }
}

impl Buffer {
    /// These bytes of a region.
    #[must_use]
    pub fn part(region: Region, part: Range<usize>) -> Self {
        let mut buffer = Self { memory: Memory::Lent(region), start: part.start, end: part.end };
        buffer.give_back_if_empty();
        buffer
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// How much memory they take.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.memory.bytes().len()
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[self.start..self.end]
    }

    /// Where further bytes go, `most` at most.
    pub fn room(&mut self, most: usize) -> &mut [u8] {
        if let Memory::None = self.memory {
            self.memory = Memory::Lent(Region::take());
        }
        let rest = &mut self.memory.bytes_mut()[self.end..];
        let most = most.min(rest.len());
        &mut rest[..most]
    }

    /// Says that so many bytes were put there.
    pub fn fill(&mut self, count: usize) {
        self.end += count;
        self.give_back_if_empty();
    }

    /// Appends bytes; gives whether there was room.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let room = self.room(bytes.len());
        if room.len() < bytes.len() {
            return false;
        }
        room.copy_from_slice(bytes);
        self.end += bytes.len();
        true
    }

    /// Takes out the first bytes.
    pub fn skip(&mut self, count: usize) {
        self.start += count;
        self.give_back_if_empty();
    }

    /// Takes no more memory than the bytes do, for a connection that has to wait.
    pub fn shrink(&mut self) {
        if let Memory::Lent(_) = self.memory {
            *self = self.bytes().to_vec().into();
        }
    }

    fn give_back_if_empty(&mut self) {
        if self.start == self.end {
            *self = Self::default();
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { start: 0, end: bytes.len(), memory: Memory::Own(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn spare() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn first_in_first_out() {
        let mut buffer = Buffer::default();
        assert!(buffer.push(b"abc"));
        buffer.room(2).copy_from_slice(b"de");
        buffer.fill(2);
        buffer.skip(1);
        assert_eq!((buffer.bytes(), buffer.len(), buffer.taken()), (&b"bcde"[..], 4, SIZE));
        assert!(!buffer.push(&[0; SIZE]), "more went in than there is room for");
        buffer.shrink();
        assert_eq!((buffer.bytes(), buffer.taken()), (&b"bcde"[..], 4));
        assert!(!buffer.push(b"f"));
        buffer.skip(4);
        assert_eq!(buffer.taken(), 0);
    }

    #[test]
    fn a_region_becomes_a_buffer_without_a_copy() {
        let mut region = Region::take();
        region[..4].copy_from_slice(b"abcd");
        let address = region.as_ptr();
        let buffer = Buffer::part(region, 1..3);
        assert_eq!((buffer.bytes(), buffer.bytes().as_ptr()), (&b"bc"[..], address.wrapping_add(1)));
        assert_eq!(Buffer::part(Region::take(), 3..3).taken(), 0);
    }

    #[test]
    fn an_empty_buffer_goes_back_to_the_thread() {
        release();
        let mut buffer = Buffer::default();
        buffer.room(1);
        buffer.fill(0);
        assert_eq!(spare(), 1);
        assert!(buffer.push(b"a"));
        assert_eq!(spare(), 0);
        buffer.shrink();
        assert_eq!(spare(), 1);
    }

    #[test]
    fn a_thread_keeps_a_few_until_it_is_told_not_to() {
        drop([(); KEPT + 1].map(|()| Region::take()));
        assert_eq!(spare(), KEPT);
        release();
        assert_eq!(spare(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_late_is_not_kept_for_ever() {
        let mut ended = pin!(lending::ended());
        let lent = Region::take();
        assert!(timeout(LONG, ended.as_mut()).await.is_err(), "it is still lent");
        drop(lent);
        timeout(LONG, ended).await.expect("its time is over");
    }
}
