//! YAML, read by Python's library.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::program::PYTHON;

const READ: &str = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";

/// All documents of a stream.
pub fn read(text: &str) -> Vec<Value> {
    let mut command = Command::new(PYTHON);
    command.args(["-c", READ]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("Python runs");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let ended = child.wait_with_output().expect("our child");
    assert!(ended.status.success(), "{text}\n{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).expect("JSON")
}

/// A list of strings.
pub fn strings(value: &Value) -> Vec<&str> {
    let all = value.as_array().unwrap_or_else(|| panic!("{value} is no list"));
    all.iter().map(|one| one.as_str().unwrap_or_else(|| panic!("{one} is no string"))).collect()
}
