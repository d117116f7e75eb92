//! TLS in the kernel, in a virtual machine whose kernel has it: the same tests as
//! without it, and that it really is the kernel who makes and opens the records.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::path::PathBuf;

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::tls_peer::{self, Offer, TLS12, TLS13, read_to_close_notify};
use crate::support::virtual_machine::VirtualMachine;
use crate::support::{KERNEL_TLS, bytes, connect, digest, free_address};

/// Those of the other tests that hold what matters to a stream.
const OTHERS: &str = "half_close::through_a_tunnel half_close::a_tls reset:: --skip stunnel";

#[test]
fn in_a_virtual_machine() {
    boot(VirtualMachine::with(&programs()));
}

/// With an OpenSSL that has the kernel receive TLS 1.3 too: 3.2 and later.
#[test]
fn in_a_virtual_machine_with_a_newer_openssl() {
    boot(VirtualMachine::with_newer_libraries(&programs()));
}

fn programs() -> [PathBuf; 2] {
    [env!("CARGO_BIN_EXE_s2ds").into(), std::env::current_exe().expect("this program")]
}

fn boot(machine: VirtualMachine) {
    let [_, tests] = programs();
    let tests = tests.display();
    let said = machine.run(&format!(
        "export {KERNEL_TLS}=on\n\
         {tests} --test-threads 1 --nocapture --exact --ignored kernel_tls::inside && echo kernel-tls: alone passed\n\
         {tests} --test-threads 1 {OTHERS} && echo kernel-tls: others passed"
    ));
    for verdict in ["kernel-tls: alone passed", "kernel-tls: others passed"] {
        assert!(said.iter().any(|line| line == verdict), "the machine did not say {verdict:?}");
    }
}

/// A suite of TLS 1.2 whose keys OpenSSL gives the kernel both ways, whatever its version.
const BOTH_WAYS: Offer = Offer { suites: "DHE-PSK-AES128-GCM-SHA256", ..TLS12 };

/// How often the kernel did this, as it counts it (Documentation/networking/tls.rst).
fn counted(what: &str) -> u64 {
    let counters = std::fs::read_to_string("/proc/net/tls_stat").expect("a kernel with TLS");
    let line = counters.lines().find_map(|line| line.strip_prefix(what)).expect("such a counter");
    line.trim().parse().expect("a number")
}

/// Whether OpenSSL gives the kernel the keys of TLS 1.3 both ways.
fn receives_tls13() -> bool {
    openssl::version::number() >= 0x3020_0000
}

#[test]
#[ignore = "runs in the virtual machines that the tests above boot"]
fn inside() {
    two_ends_exchange_bytes();
    a_peer_with_tls12_is_served_both_ways_by_the_kernel();
    a_stream_cut_short_is_told_from_one_that_ended();
    what_a_server_says_besides_is_not_taken_for_bytes();
    it_is_taken_unasked_where_both_ways_are_the_kernels();
    assert_eq!(counted("TlsDecryptError"), 0);
}

fn two_ends_exchange_bytes() {
    let (configs, application) = ((Config::new(""), Config::new("")), Application::echo());
    let (accept, middle) = (free_address(), free_address());
    let prod = configs.0.write(&[listener(middle, application.address, "accept_wire = \"psk\"")]);
    let cons = configs.1.write(&[listener(accept, middle, "target_wire = \"psk\"")]);
    let (prod, cons) = (Program::s2ds(&prod), Program::s2ds(&cons));
    let before = (counted("TlsTxSw"), counted("TlsRxSw"));
    let received = if receives_tls13() { 2 } else { 0 };
    let sent = bytes(12 << 20, 1);
    assert_eq!(digest(&exchange(connect(accept), sent.clone())), digest(&sent));
    for line in [prod.wait_for("source_wire=\"TLSv1.3"), cons.wait_for("target_wire=\"TLSv1.3")] {
        println!("{line}");
        assert!(line.contains("TLS_AES_128_GCM_SHA256, kernel sends"), "{line}");
    }
    assert_eq!((counted("TlsTxSw"), counted("TlsRxSw")), (before.0 + 2, before.1 + received));
    for line in [prod.wait_for("connection closed"), cons.wait_for("connection closed")] {
        assert!(line.contains("both sides finished"), "{line}");
    }
}

fn a_peer_with_tls12_is_served_both_ways_by_the_kernel() {
    let (application, config, accept) = (Application::echo(), Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "accept_wire = \"psk\"")]));
    let before = counted("TlsRxSw");
    let mut client = tls_peer::client(BOTH_WAYS, connect(accept)).expect("handshake");
    // Each piece comes back before the next is sent: more than fits would block both.
    let mut sent = 0;
    for (length, seed) in [1, 100, 16 << 10, 200_000, 3, 64 << 10].into_iter().cycle().zip(0..60) {
        let piece = bytes(length, seed);
        let mut answer = vec![0; length];
        client.write_all(&piece).expect("send");
        client.read_exact(&mut answer).expect("receive");
        assert_eq!(digest(&answer), digest(&piece), "piece {seed} of {length} bytes");
        sent += length;
    }
    client.shutdown().expect("close_notify");
    assert_eq!(read_to_close_notify(&mut client).expect("close_notify"), b"");
    let line = s2ds.wait_for("DHE-PSK-AES128-GCM-SHA256, kernel sends and receives");
    println!("{line}");
    let line = s2ds.wait_for("both sides finished");
    assert!(line.contains(&format!("sent_to_target={sent} sent_to_source={sent}")), "{line}");
    assert_eq!(counted("TlsRxSw"), before + 1);
}

fn a_stream_cut_short_is_told_from_one_that_ended() {
    for offer in [TLS13, BOTH_WAYS] {
        let (application, accepted) = Application::manual();
        let (config, accept) = (Config::new(""), free_address());
        let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "accept_wire = \"psk\"")]));
        let mut client = tls_peer::client(offer, connect(accept)).expect("handshake");
        client.write_all(b"half of it").expect("send");
        let mut server = accepted.next();
        server.read_exact(&mut [0; 10]).expect("receive");
        client.get_ref().shutdown(Shutdown::Write).expect("an end without a close_notify");
        let error = server.read(&mut [0]).expect_err("an end of file, or bytes, where a reset was due");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        s2ds.wait_for("source broke: cut off without a close_notify");
    }
}

/// OpenSSL's servers, stunnel among them, follow their handshake with two tickets.
fn what_a_server_says_besides_is_not_taken_for_bytes() {
    let application = Application::new(|stream| {
        let mut stream = tls_peer::server(TLS13, stream).expect("handshake");
        let mut piece = [0; 4];
        while stream.read_exact(&mut piece).is_ok() {
            stream.write_all(&piece).expect("send");
        }
    });
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "target_wire = \"psk\"")]));
    let mut client = connect(accept);
    for _ in 0..3 {
        client.write_all(b"ping").expect("send");
        let mut answer = [0; 4];
        client.read_exact(&mut answer).expect("receive");
        assert_eq!(&answer, b"ping");
    }
    s2ds.wait_for(if receives_tls13() { "kernel sends and receives" } else { "kernel sends" });
}

fn it_is_taken_unasked_where_both_ways_are_the_kernels() {
    let unasked = if receives_tls13() { ", kernel sends and receives\"" } else { "\"" };
    for (setting, does) in [("", unasked), ("kernel_tls = \"off\"", "\"")] {
        let (config, application, accept) = (Config::new(""), Application::echo(), free_address());
        let path = config.write(&[listener(accept, application.address, "accept_wire = \"psk\"")]);
        let on = std::fs::read_to_string(&path).expect("the configuration");
        std::fs::write(&path, on.replace("kernel_tls = \"on\"", setting)).expect("write");
        let s2ds = Program::s2ds(&path);
        // It has tried with itself by now.
        let before = counted("TlsTxSw");
        let mut client = tls_peer::client(TLS13, connect(accept)).expect("handshake");
        client.write_all(b"ping").expect("send");
        client.read_exact(&mut [0; 4]).expect("receive");
        let line = s2ds.wait_for("connection open");
        assert!(line.contains(&format!("TLS_AES_128_GCM_SHA256{does}")), "{setting}: {line}");
        assert_eq!(counted("TlsTxSw") > before, does != "\"", "{setting}");
    }
}
