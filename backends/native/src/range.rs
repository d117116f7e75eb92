//! What a number of the configuration may be.

/// Reports a value that is out of its range.
pub fn within(what: &str, value: u64, least: u64, most: u64, faults: &mut Vec<String>) {
    if !(least..=most).contains(&value) {
        faults.push(format!("{what}: is {value}, has to be {least} to {most}"));
    }
}
