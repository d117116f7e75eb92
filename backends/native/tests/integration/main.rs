//! Runs the real `s2ds` on loopback, against applications, strangers and
//! stunnel.

mod addresses;
mod bandwidth;
mod command_line;
mod endurance;
mod forwarding;
mod half_close;
mod idle_memory;
mod inherited;
mod kernel_tls;
mod limits;
mod plans;
mod protection;
mod proxy_protocol;
mod reload;
mod reset;
mod shutdown;
mod strangers;
mod stuck_reader;
mod stunnel;
mod support;
mod without_pipes;
