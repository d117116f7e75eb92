//! The certificate of a control channel: whom it is for, and until when.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::{X509, X509Ref};

use super::Finding;
use crate::causes::causes;
use crate::config::TlsFiles;
use crate::tls;

const ABOUT: &str = "certificate";
/// Renewal is due before that.
const SOON: i32 = 30;

/// Whether the files are a pair, for whom the certificate is, and until when; `names` are
/// what users may reach the gateway by.
pub(super) fn look_at_files(files: &TlsFiles, names: &[String]) -> Vec<Finding> {
    if let Err(e) = tls::server(files) {
        let remedy = "s2cs cert --host NAME --ip IP --force makes a new pair; or name another with server_crt and \
                      server_key";
        return vec![Finding::bad(ABOUT, format!("the gateway cannot use it: failed to {}", causes(&e)), remedy)];
    }
    let mut found = Vec::new();
    let read = fs::read(&files.certificate).map_err(|e| e.to_string());
    match read.and_then(|pem| X509::from_pem(&pem).map_err(|e| e.to_string())) {
        Ok(certificate) => {
            found.push(end(&certificate, "renew it, and systemctl reload s2cs"));
            found.extend(for_whom(&certificate, names));
        }
        Err(e) => found.push(Finding::bad(ABOUT, format!("{}: {e}", files.certificate.display()), "look at the file")),
    }
    found.extend(readers(&files.key));
    found
}

/// Until when it is good.
pub(super) fn end(certificate: &X509Ref, remedy: &str) -> Finding {
    match days_left(certificate.not_after()) {
        Ok(days) if days < 0 => Finding::bad(ABOUT, format!("it has ended {} days ago", -days), remedy),
        Ok(days) if days < SOON => Finding::note(ABOUT, format!("it ends in {days} days"), remedy),
        Ok(days) => Finding::good(ABOUT, format!("it is good for {days} days more")),
        Err(e) => Finding::bad(ABOUT, format!("its end cannot be read: {e}"), remedy),
    }
}

fn days_left(end: &Asn1TimeRef) -> Result<i32, ErrorStack> {
    let left = Asn1Time::days_from_now(0)?.diff(end)?;
    // Some hours of the last day are a day; some hours ago, one ago.
    Ok(if left.days == 0 && left.secs < 0 { -1 } else { left.days })
}

/// Whether it is for any of these names.
fn for_whom(certificate: &X509Ref, names: &[String]) -> Option<Finding> {
    let alternative = certificate.subject_alt_names()?;
    let told = alternative.iter().filter_map(|name| match (name.dnsname(), name.ipaddress()) {
        (Some(dns), _) => Some(dns.to_ascii_lowercase()),
        (None, Some(ip)) => address(ip),
        (None, None) => None,
    });
    let told: Vec<String> = told.collect();
    let fits = |name: &String| {
        let name = name.to_ascii_lowercase();
        told.iter().any(|told| *told == name || is_wildcard_of(told, &name))
    };
    let (met, missed): (Vec<_>, Vec<_>) = names.iter().partition(|name| fits(name));
    let list = told.join(", ");
    if met.is_empty() {
        let said = format!("it is for {list}, and for none of {}", names.join(", "));
        let remedy = "users refuse it unless they reach the gateway by a name in it: make one with \
                      s2cs cert --host NAME --ip IP, or get one from your authority";
        return Some(Finding::bad(ABOUT, said, remedy));
    }
    let said = format!("it is for {list}");
    if missed.is_empty() {
        return Some(Finding::good(ABOUT, said));
    }
    let missed: Vec<&str> = missed.into_iter().map(String::as_str).collect();
    let remedy = format!("users who reach the gateway by {} refuse it; tell them a name in it", missed.join(" or "));
    Some(Finding::note(ABOUT, said, remedy))
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|ip| std::net::IpAddr::from(ip).to_string()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|ip| std::net::IpAddr::from(ip).to_string()),
    }
}

/// RFC 6125 section 6.4.3: a star stands for one label, the first.
fn is_wildcard_of(told: &str, name: &str) -> bool {
    let rest = told.strip_prefix("*.");
    rest.is_some_and(|rest| name.split_once('.').is_some_and(|(_, domain)| domain == rest))
}

/// Whether others may read the key.
fn readers(key: &Path) -> Option<Finding> {
    let mode = fs::metadata(key).ok()?.permissions().mode();
    let shown = key.display();
    (mode & 0o007 != 0).then(|| {
        Finding::bad(ABOUT, format!("{shown}, the private key, can be read by others"), format!("chmod 600 {shown}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::session::Host;

    fn pair(folder: &Path, hosts: &[&str], days: u32) -> TlsFiles {
        let hosts: Vec<Host> = hosts.iter().map(|host| host.parse().expect("a host")).collect();
        let made = tls::self_signed(&hosts, days).expect("made");
        let files = TlsFiles { certificate: folder.join("a.crt"), key: folder.join("a.key"), client_ca: None };
        fs::write(&files.certificate, made.certificate).expect("written");
        fs::write(&files.key, made.key).expect("written");
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).expect("ours");
        files
    }

    fn verdicts(files: &TlsFiles, names: &[&str]) -> Vec<Verdict> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        look_at_files(files, &names).into_iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn names_and_the_end_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = pair(folder.path(), &["gw.example.org", "192.0.2.1"], 100);
        assert_eq!(verdicts(&good, &["GW.example.org", "192.0.2.1"]), [Verdict::Good; 2]);
        assert_eq!(verdicts(&good, &["gw.example.org", "10.0.0.1"]), [Verdict::Good, Verdict::Note]);
        assert_eq!(verdicts(&good, &["10.0.0.1"]), [Verdict::Good, Verdict::Bad]);
        let short = pair(folder.path(), &["gw.example.org"], 7);
        assert_eq!(verdicts(&short, &["gw.example.org"]), [Verdict::Note, Verdict::Good]);
        fs::set_permissions(&short.key, fs::Permissions::from_mode(0o644)).expect("ours");
        assert_eq!(verdicts(&short, &["gw.example.org"]).last(), Some(&Verdict::Bad));
        fs::write(&short.key, "no key").expect("written");
        assert_eq!(verdicts(&short, &["gw.example.org"]), [Verdict::Bad]);
    }

    #[test]
    fn a_star_is_one_label() {
        assert!(is_wildcard_of("*.example.org", "gw.example.org"));
        assert!(
            !is_wildcard_of("*.example.org", "a.gw.example.org") && !is_wildcard_of("*.example.org", "example.org")
        );
    }
}
