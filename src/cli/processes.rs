//! How the processes of a session are told.

use scistream_proto::gateway::Process;
use serde_json::{Value, json};

use super::sessions::age;
use super::top::bytes;

pub(super) fn process_json(process: &Process) -> Value {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "backend": process.backend, "version": known(&process.version),
        "pid": (process.pid > 0).then_some(process.pid),
        "started_ms": (process.started_ms > 0).then_some(process.started_ms),
        "ready_after_ms": process.ready_after_ms, "restarts": process.restarts,
        "last_end": known(&process.last_end),
        "cpu_ms": process.cpu_ms, "memory_bytes": process.memory_bytes,
    })
}

/// One line.
pub(super) fn process_line(process: &Process) -> String {
    let mut parts = vec![format!("{} {}", process.backend, process.version).trim_end().to_owned()];
    parts.push(if process.pid > 0 { format!("pid {}", process.pid) } else { "down".into() });
    if process.started_ms > 0 {
        parts.push(format!("up {}", age(process.started_ms)));
    }
    if let Some(length) = process.ready_after_ms {
        parts.push(format!("listened after {length} ms"));
    }
    if let Some(length) = process.cpu_ms {
        parts.push(format!("CPU {}.{:02} s", length / 1000, length % 1000 / 10));
    }
    if let Some(memory) = process.memory_bytes.filter(|_| process.pid > 0) {
        parts.push(bytes(memory));
    }
    let mut line = parts.join(", ");
    let times = match process.restarts {
        0 => String::new(),
        1 => "; started again once".into(),
        times => format!("; started again {times} times"),
    };
    line.push_str(&times);
    if !process.last_end.is_empty() {
        line.push_str(&format!("; the one before {}", process.last_end));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_and_no_more() {
        let adopted = Process { backend: "nginx".into(), pid: 7, ..Process::default() };
        assert_eq!(process_line(&adopted), "nginx, pid 7");
        let down = Process {
            backend: "haproxy".into(),
            version: "2.6.12".into(),
            restarts: 2,
            last_end: "was ended by SIGKILL; it said: x".into(),
            cpu_ms: Some(1239),
            memory_bytes: Some(0),
            ..Process::default()
        };
        let line =
            "haproxy 2.6.12, down, CPU 1.23 s; started again 2 times; the one before was ended by SIGKILL; it said: x";
        assert_eq!(process_line(&down), line);
        assert_eq!(process_json(&down)["pid"], Value::Null);
        assert_eq!(process_json(&adopted)["version"], Value::Null);
    }
}
