//! What a process holds, as the kernel counts it.

use std::fs;

use super::eventually;
use super::program::Program;

/// Descriptors and threads, of which nothing may be left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    pub descriptors: usize,
    pub threads: usize,
}

impl Holdings {
    pub fn of(program: &Program) -> Self {
        let count = |what| fs::read_dir(format!("/proc/{}/{what}", program.id())).expect("a running program").count();
        Self { descriptors: count("fd"), threads: count("task") }
    }

    /// Waits until a program holds no more than this.
    pub fn is_all_that_is_left(self, program: &Program) {
        let mut last = self;
        eventually(&format!("the program holds no more than {self:?}"), || {
            last = Self::of(program);
            last.descriptors <= self.descriptors && last.threads <= self.threads
        });
    }
}

/// Bytes of a process that are in memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All of them.
    pub resident: u64,
    /// Those that are its own alone: what it allocated, for the most part.
    pub private: u64,
    /// The most that was ever resident, or since `forget_peak`.
    pub peak: u64,
}

impl Memory {
    pub fn of(program: &Program) -> Self {
        let status = read(program, "status");
        Self {
            resident: kilobytes(&status, "VmRSS:"),
            private: kilobytes(&read(program, "smaps_rollup"), "Private_Dirty:"),
            peak: kilobytes(&status, "VmHWM:"),
        }
    }

    /// Measures `peak` anew from here on.
    pub fn forget_peak(program: &Program) {
        fs::write(format!("/proc/{}/clear_refs", program.id()), "5").expect("our own program");
    }
}

fn read(program: &Program, what: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{what}", program.id())).expect("a running program")
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    number.unwrap_or_else(|| panic!("{line}")) * 1024
}
