//! Pseudorandom streams of any length that cost nothing to make: each chunk of a
//! stream is a window of one table, at a place that its number decides.
//!
//! Sending is handing out slices of the table, checking is comparing with them,
//! so a debug build is as fast at it as memory is. Bytes that are lost, doubled or
//! swapped do not fit their windows any more, whatever their number.

use std::io::IoSlice;
use std::sync::LazyLock;

use super::bytes;

/// A prime, so that no buffer's size divides it.
const CHUNK: u64 = 1_048_573;

static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(4 << 20, 7));

/// An endless stream, told from others by its seed.
#[derive(Clone, Copy)]
pub struct Pattern(pub u64);

impl Pattern {
    /// The bytes from there on, as far as they lie together.
    fn at(self, offset: u64) -> &'static [u8] {
        let (chunk, within) = (offset / CHUNK, usize::try_from(offset % CHUNK).expect("small"));
        let windows = TABLE.len() as u64 - CHUNK;
        let start = usize::try_from(Dice::new(self.0 ^ chunk.rotate_left(32)).next() % windows).expect("small");
        &TABLE[start + within..start + usize::try_from(CHUNK).expect("small")]
    }

    /// So many bytes from there on, ready for one call of the kernel.
    pub fn slices(self, mut offset: u64, mut length: usize) -> Vec<IoSlice<'static>> {
        let mut slices = Vec::new();
        while length > 0 {
            let slice = self.at(offset);
            let slice = &slice[..slice.len().min(length)];
            slices.push(IoSlice::new(slice));
            (offset, length) = (offset + slice.len() as u64, length - slice.len());
        }
        slices
    }

    /// Whether these are the bytes from there on; else what is wrong, and where.
    pub fn check(self, offset: u64, received: &[u8]) -> Result<(), String> {
        let mut checked = 0;
        while checked < received.len() {
            let here = offset + checked as u64;
            let expected = self.at(here);
            let length = expected.len().min(received.len() - checked);
            let (expected, part) = (&expected[..length], &received[checked..checked + length]);
            if expected != part {
                let right = expected.iter().zip(part).take_while(|(expected, received)| expected == received).count();
                let origin = self.find(here, &part[right..]);
                return Err(format!("the first wrong byte is number {}, {origin}", here + right as u64));
            }
            checked += length;
        }
        Ok(())
    }

    /// Says of which place in the stream bytes are that were received near there.
    fn find(self, near: u64, received: &[u8]) -> String {
        let needle = &received[..received.len().min(24)];
        let first = (near / CHUNK).saturating_sub(4);
        for chunk in first..=first + 8 {
            let window = self.at(chunk * CHUNK);
            if let Some(place) = window.windows(needle.len()).position(|bytes| bytes == needle) {
                return format!("where bytes {} and on arrived", chunk * CHUNK + place as u64);
            }
        }
        format!("where bytes of no place near arrived: {needle:02x?}")
    }
}

/// Decides what a test does, and decides the same with the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from the first to before the last.
    pub fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.next() % (end - least).max(1)
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.next() % choices.len() as u64).expect("small")]
    }
}

#[test]
fn what_went_wrong_is_told() {
    let stream = Pattern(3);
    let offset = 5 * CHUNK - 1000;
    let sent: Vec<u8> = stream.slices(offset, 5000).iter().flat_map(|slice| slice.to_vec()).collect();
    assert_eq!(sent.len(), 5000);
    stream.check(offset, &sent).expect("the same bytes");
    let told = |received: &[u8]| stream.check(offset, received).expect_err("wrong bytes were taken");
    let lost = [&sent[..1500], &sent[1600..]].concat();
    let place = offset + 1500;
    assert_eq!(
        told(&lost),
        format!("the first wrong byte is number {place}, where bytes {} and on arrived", place + 100)
    );
    let mut flipped = sent.clone();
    flipped[1500] ^= 1;
    assert!(told(&flipped).starts_with(&format!("the first wrong byte is number {place}, where bytes of no place")));
    Pattern(4).check(offset, &sent).expect_err("bytes of another stream were taken");
}
