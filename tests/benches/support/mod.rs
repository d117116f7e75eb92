//! What the benchmarks have in common.

pub mod machine;
pub mod plot;
pub mod run;
pub mod statistics;
