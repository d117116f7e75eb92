//! Runs the real `s2ds` on loopback, against applications, strangers and
//! stunnel.

mod addresses;
mod command_line;
mod forwarding;
mod half_close;
mod inherited;
mod limits;
mod protection;
mod proxy_protocol;
mod reload;
mod reset;
mod shutdown;
mod strangers;
mod stunnel;
mod support;
