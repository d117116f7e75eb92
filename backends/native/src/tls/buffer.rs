//! Bytes between OpenSSL and the socket, in a buffer that the thread lends while
//! there are any.

use std::cell::RefCell;

use crate::memory::MOST;

/// A little more than a turn of a flow takes: a record adds 22 bytes to 16 KiB of
/// an application in TLS 1.3, and some more in 1.2.
pub const SIZE: usize = MOST + MOST / 64;
/// A thread keeps so many for the next who needs one.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Frees the buffers of the thread.
pub fn release() {
    SPARE.take();
}

/// Bytes, first in, first out.
#[derive(Default)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Where further bytes go, `most` at most.
    pub fn room(&mut self, most: usize) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE]);
        }
        let rest = &mut self.memory[self.end..];
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
        if self.memory.len() == SIZE {
            let bytes = self.bytes().to_vec();
            give_back(std::mem::replace(&mut self.memory, bytes));
            (self.start, self.end) = (0, self.memory.len());
        }
    }

    fn give_back_if_empty(&mut self) {
        if self.start == self.end {
            give_back(std::mem::take(&mut self.memory));
            (self.start, self.end) = (0, 0);
        }
    }
}

fn give_back(memory: Vec<u8>) {
    if memory.len() == SIZE {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(memory);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let mut buffer = Buffer::default();
        assert!(buffer.push(b"abc"));
        buffer.room(2).copy_from_slice(b"de");
        buffer.fill(2);
        buffer.skip(1);
        assert_eq!((buffer.bytes(), buffer.len()), (&b"bcde"[..], 4));
        assert!(!buffer.push(&[0; SIZE]), "more went in than there is room for");
        buffer.shrink();
        assert_eq!((buffer.bytes(), buffer.memory.len()), (&b"bcde"[..], 4));
        assert!(!buffer.push(b"f"));
        buffer.skip(4);
        assert!(buffer.memory.is_empty());
    }

    #[test]
    fn an_empty_buffer_goes_back_to_the_thread() {
        release();
        let mut buffer = Buffer::default();
        buffer.room(1);
        buffer.fill(0);
        assert_eq!(SPARE.with_borrow(Vec::len), 1);
        assert!(buffer.push(b"a"));
        assert_eq!(SPARE.with_borrow(Vec::len), 0);
        buffer.shrink();
        assert_eq!(SPARE.with_borrow(Vec::len), 1);
    }
}
