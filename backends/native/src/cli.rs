//! The command line, and what becomes of errors: a line and an exit status.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tokio::runtime;

use crate::error::Error;
use crate::listener::Inherited;
use crate::service::Service;
use crate::{log, server};

const HELP: &str = r#"CONFIGURATION (an example):
  protection = "confidentiality"  # the floor of every "psk" side:
                                  #   confidentiality: nobody else reads or alters
                                  #   integrity: also TLS 1.2 without encryption
                                  #   none: also plain bytes, from and to anyone
  kernel_tls = "auto"             # who makes and opens the records of TLS 1.2 and 1.3:
                                  #   auto: the kernel, when it and OpenSSL can do both
                                  #     (TLS 1.3: OpenSSL 3.2) and it knows the processor's
                                  #     AES; else OpenSSL
                                  #   on: the kernel, be it one direction only
                                  #   off: OpenSSL
                                  #   OpenSSL's anyhow: unix sockets, and targets with the
                                  #     floor none
  threads = 2                     # default: one a processor, 16 at most; read at start only
  connect_timeout_ms = 10000      # this and the next three: the defaults
  handshake_timeout_ms = 10000
  drain_seconds = 10              # open connections get this long after SIGTERM
  max_connections = 4096          # above it new ones wait in the backlog
  bandwidth = 12500000            # bytes a second, of all connections and both ways
                                  #   together; default: no limit
  memory_mib = 256                # what bytes that wait may take together, of all
                                  #   connections; each may have 16 KiB a direction waiting

  [tcp]                           # for every TCP socket; the defaults, but for the last three
  nodelay = true                  # small messages leave at once
  keepalive_seconds = 60          # silent peers are asked after so long; 0: never
  send_buffer = 4194304           # bytes, cut down to net.core.wmem_max and rmem_max;
  receive_buffer = 4194304        #   default: the kernel grows them with the path
  congestion = "bbr"              # default: the system's, but "reno" in place of "bbr"
                                  #   where both ends are on this host

  [psk]                           # needed when any side is "psk"
  identity = "client1"            # the identity that we name as a client
  file = "/run/x/psk"             # lines of identity:hexkey, mode 0600, 16 to 64 bytes;
                                  # a client of ours may name any identity in it

  [[listener]]                    # as many as there are
  name = "0"                      # for log lines; default: its number
  accept = "192.0.2.1:5100"       # IP:PORT, [IPv6]:PORT or /path/of/a/unix/socket
  accept_wire = "psk"             # plain (default) or psk: we are the TLS server
  accept_proxy_protocol = false   # a PROXY header comes first, from this host
  target = "10.0.0.9:5300"        # in the same forms
  target_wire = "plain"           # plain or psk: we are the TLS client
  target_proxy_protocol = "none"  # none, v1 or v2: sent first, with the real source
  sources = ["198.51.100.0/24"]   # who may connect; default: everyone

With the floor "none" a source that sends no TLS handshake within 300 ms is plain;
a target that does not answer ours with TLS is connected to again, plain, and sees
one stray TLS ClientHello. [::]:PORT listens on IPv6 only.

SIGNALS: SIGHUP reads the configuration and the keys again, and says "s2ds: reloaded"
or "s2ds: reload refused: REASON"; open connections go on. SIGTERM closes the
listeners and drains; a second SIGTERM, or SIGINT, ends at once.
SOCKETS: listening sockets handed over in systemd's way (LISTEN_FDS) are used by the
listeners with their addresses.
EXIT STATUS: 0 ended by a signal, 78 a bad configuration, 71 the system refused."#;

/// The SciStream data server: forwards connections, with TLS-PSK on either side
#[derive(Parser)]
#[command(name = "s2ds", version, after_long_help = HELP, term_width = 100)]
struct Arguments {
    /// Check the configuration and the keys, listen on nothing, and exit
    #[arg(long)]
    check: bool,
    /// The configuration file (see --help for an example)
    config: PathBuf,
}

/// The command line, for those who describe it.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    let inherited = Inherited::from_environment();
    let arguments = Arguments::parse();
    log::start();
    let (outcome, failed_to) = if arguments.check {
        (check(&arguments.config), "configuration refused")
    } else {
        (serve(&arguments.config, inherited), "cannot start")
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::say(&format!("{failed_to}: {}", error.chain()));
            ExitCode::from(error.exit_code())
        }
    };
    log::flush();
    code
}

fn check(config: &Path) -> Result<(), Error> {
    Service::load(config).map(|_| println!("s2ds: configuration ok"))
}

fn serve(config: &Path, inherited: Inherited) -> Result<(), Error> {
    let service = Service::load(config)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::StartRuntime)?;
    runtime.block_on(server::run(config, service, inherited))
}
