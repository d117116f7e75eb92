//! Reads the configuration again while the gateway runs, and says what of it counts.
//!
//! Some settings are of things that are made once: where the gateway listens, and where
//! its files are. They stay as they are until the next start; everything else of a file
//! that is good as a whole comes into force at once. [`table`] says which is which.

use super::{Config, Faults, Settings};

/// Where the settings in force are from.
#[derive(Debug, Clone)]
pub struct Source {
    flags: Settings,
    in_force: Settings,
}

/// A configuration that can come into force.
#[derive(Debug)]
pub struct Reloaded {
    /// Where it is from.
    pub source: Source,
    /// What it says, but for what needs a restart.
    pub config: Config,
    /// What is not as it was.
    pub changes: Vec<Change>,
}

/// A setting that is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The setting, as the file has it.
    pub setting: &'static str,
    /// From when on it counts.
    pub counts: Counts,
}

/// From when on a changed setting counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// At once, for sessions that run as well.
    Now,
    /// For sessions that are asked for from now on; those that run keep what they have.
    NextSession,
    /// When the gateway is started again.
    NextStart,
}

macro_rules! table {
    ($($setting:ident: $counts:ident,)*) => {
        /// What is said now, with what needs a restart as it is in force.
        fn merge(in_force: &Settings, said: Settings) -> (Settings, Vec<Change>) {
            // Without `..`: a setting that is missing here does not compile.
            let Settings { $($setting),* } = said;
            let mut changes = Vec::new();
            $(
                let $setting = match in_force.$setting == $setting {
                    true => $setting,
                    false => {
                        let counts = Counts::$counts;
                        changes.push(Change { setting: stringify!($setting).trim_start_matches("r#"), counts });
                        if counts == Counts::NextStart { in_force.$setting.clone() } else { $setting }
                    }
                };
            )*
            (Settings { $($setting),* }, changes)
        }
    };
}

table! {
    config: Now,
    listener_ip: NextStart,
    port: NextStart,
    listen: NextStart,
    wan_ip: NextStart,
    lan_ip: NextStart,
    wan_sources: Now,
    lan_sources: Now,
    advertise_ip: Now,
    port_range: NextStart,
    backend: NextSession,
    terminator: NextSession,
    protection: NextSession,
    sandbox: NextSession,
    session_units: NextSession,
    firewall: NextSession,
    state_dir: NextStart,
    site_dir: NextSession,
    server_crt: Now,
    server_key: Now,
    ssl: NextStart,
    insecure: Now,
    client_ca: Now,
    allow: Now,
    provider: Now,
    site_networks: Now,
    audit_log: NextStart,
    weak_keys: Now,
    max_calls: Now,
    max_calls_from_address: Now,
    max_bad_tokens: Now,
    max_waiting: Now,
    no_auth: Now,
    hello_timeout: NextSession,
    update_timeout: NextSession,
    max_sessions: Now,
    max_listeners: NextSession,
    enforce_rate: Now,
    max_bandwidth: Now,
    gateway_bandwidth: NextStart,
    memory_mib: NextSession,
    tcp: NextSession,
    max_connections: NextSession,
    least_free_memory: Now,
    drain_grace: NextSession,
    max_lifetime: Now,
    max_idle: NextSession,
    keep_sessions_on_exit: Now,
    r#type: NextSession,
    client_id: Now,
    client_secret_file: Now,
    client_secret: Now,
}

impl Source {
    /// Reads the file that the flags name, if any, and checks everything.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn load(flags: Settings) -> Result<(Self, Config), Faults> {
        let (in_force, faults) = Settings::gathered(flags.clone());
        let config = Config::check(in_force.clone(), faults)?;
        Ok((Self { flags, in_force }, config))
    }

    /// Reads it all again. What is said must be good by itself, as for a start, and also
    /// beside what stays as it is until then.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn reload(&self) -> Result<Reloaded, Faults> {
        let (said, faults) = Settings::gathered(self.flags.clone());
        Config::check(said.clone(), faults)?;
        let (in_force, changes) = merge(&self.in_force, said);
        let config = Config::check(in_force.clone(), vec![])?;
        Ok(Reloaded { source: Self { flags: self.flags.clone(), in_force }, config, changes })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_needs_a_restart_stays_and_the_rest_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s2cs.toml");
        let write = |text: &str| fs::write(&path, format!("ssl = false\n{text}")).expect("written");
        write("port_range = \"6000-6010\"\nmax_sessions = 5\n");
        let flags = Settings { config: Some(path.clone()), ..Settings::default() };
        let (source, config) = Source::load(flags).expect("good");
        assert_eq!((config.port_range, config.engine.max_sessions), (6000..=6010, 5));

        write("port_range = \"7000-7010\"\nmax_sessions = 6\nmemory_mib = 64\n");
        let Reloaded { source, config, mut changes } = source.reload().expect("good");
        assert_eq!((config.port_range, config.engine.max_sessions), (6000..=6010, 6));
        changes.sort_by_key(|change| change.setting);
        let change = |setting, counts| Change { setting, counts };
        assert_eq!(
            changes,
            [
                change("max_sessions", Counts::Now),
                change("memory_mib", Counts::NextSession),
                change("port_range", Counts::NextStart),
            ]
        );
        let again = source.reload().expect("good");
        assert_eq!(again.changes, [change("port_range", Counts::NextStart)], "it is not forgotten");

        write("port_range = \"7000-7010\"\nmax_sessions = 0\nnonsense = 1\n");
        assert_eq!(source.reload().expect_err("bad").0.len(), 2);
    }
}
