//! The providers that know callers: whether they are within reach, and of our time.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Finding;
use crate::causes::causes;
use crate::http::HttpClient;
use crate::issuer::{self, Answered};

const ABOUT: &str = "provider";
const CLOCK: &str = "clock";
/// Tokens are good for minutes; a second is the resolution of an answer's date.
const APART: Duration = Duration::from_secs(5);

/// Asks a provider for what it says of itself.
pub(super) async fn look_at(name: &str, issuer: &str, ca_file: Option<&Path>) -> Vec<Finding> {
    let http = match HttpClient::new(ca_file) {
        Ok(http) => http,
        Err(e) => return vec![Finding::bad(ABOUT, format!("{name}: failed to {}", causes(&e)), "look at its ca_file")],
    };
    match issuer::metadata_with_date(issuer, &http).await {
        Ok(Answered { date, .. }) => {
            let mut found = vec![Finding::good(ABOUT, format!("{name}: {issuer} answers"))];
            found.extend(date.map(|date| clock(name, date, SystemTime::now())));
            found
        }
        Err(e) => {
            let remedy = "new sessions are refused while it does not answer; look at the address, at the gateway's way \
                          out (curl -v), and at its name servers";
            vec![Finding::bad(ABOUT, format!("{name}: failed to {}", causes(&e)), remedy)]
        }
    }
}

fn clock(name: &str, theirs: SystemTime, ours: SystemTime) -> Finding {
    let (apart, how) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart <= APART {
        return Finding::good(CLOCK, format!("it goes with {name}'s"));
    }
    let said = format!("it is {} s {how} {name}'s", apart.as_secs());
    let remedy = "tokens seem to have ended, or not begun; have chrony or systemd-timesyncd set it (timedatectl)";
    Finding::bad(CLOCK, said, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn some_seconds_do_not_matter() {
        let now = SystemTime::now();
        assert_eq!(clock("x", now - Duration::from_secs(2), now).verdict, Verdict::Good);
        let behind = clock("x", now + Duration::from_secs(90), now);
        assert_eq!((behind.verdict, behind.said.as_str()), (Verdict::Bad, "it is 90 s behind x's"));
    }
}
