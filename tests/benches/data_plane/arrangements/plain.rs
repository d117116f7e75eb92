//! One plain hop, near the consumer: what comes in goes out as it is.

use std::net::SocketAddr;
use std::path::Path;

use super::Splice;
use super::ground::Ground;
use super::program::{Program, Start};
use crate::failure::Result;

/// A program, and where it accepts.
type Hop = (Program, SocketAddr);

fn start(ground: &Ground, accept: SocketAddr, argv: &[&str]) -> Result<Hop> {
    let mut program = Program::start(Start {
        argv: argv.iter().map(ToString::to_string).collect(),
        place: ground.cons,
        folder: &ground.folder,
        name: "hop",
        inherited: Vec::new(),
        environment: Vec::new(),
    })?;
    program.listens_on(accept)?;
    Ok((program, accept))
}

/// s2ds with its defaults.
pub fn s2ds(ground: &Ground, path: &Path) -> Result<Hop> {
    let accept = ground.cons.free_address()?;
    let text = format!("[[listener]]\naccept = \"{accept}\"\ntarget = \"{}\"\n", ground.producer);
    let config = ground.write("s2ds.toml", &text)?;
    start(ground, accept, &[&path.to_string_lossy(), &config.to_string_lossy()])
}

/// HAProxy with its defaults, but for splicing.
pub fn haproxy(ground: &Ground, splice: Splice) -> Result<Hop> {
    let accept = ground.cons.free_address()?;
    let options = match splice {
        Splice::No => "",
        Splice::Forced => "    option splice-request\n    option splice-response\n",
    };
    let text = format!(
        "global\n    maxconn 4096\ndefaults\n    mode tcp\n    maxconn 4096\n{options}    timeout connect 10s\n    \
         timeout client 1h\n    timeout server 1h\nlisten hop\n    bind {accept}\n    server producer {}\n",
        ground.producer
    );
    let config = ground.write("haproxy.cfg", &text)?;
    start(ground, accept, &["haproxy", "-db", "-f", &config.to_string_lossy()])
}

/// nginx as our template sets it up, with a worker for each processor.
pub fn nginx(ground: &Ground) -> Result<Hop> {
    let accept = ground.cons.free_address()?;
    let modules = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"];
    let module = modules.iter().map(|folder| Path::new(folder).join("ngx_stream_module.so")).find(|path| path.exists());
    let load = module.map(|path| format!("load_module {};\n", path.display())).unwrap_or_default();
    let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
    let text = format!(
        "{load}{user}daemon off;\nworker_processes auto;\npid {}/nginx.pid;\nerror_log stderr notice;\n\
         events {{ worker_connections 8192; }}\nstream {{\n    access_log off;\n    tcp_nodelay on;\n    \
         proxy_buffer_size 64k;\n    server {{\n        listen {accept} backlog=4096;\n        proxy_pass {};\n    }}\n}}\n",
        ground.folder.display(),
        ground.producer
    );
    let config = ground.write("nginx.conf", &text)?;
    let prefix = ground.folder.to_string_lossy();
    start(ground, accept, &["nginx", "-p", &prefix, "-c", &config.to_string_lossy(), "-e", "stderr"])
}

/// socat with the buffer that suits it best, a process for each connection.
pub fn socat(ground: &Ground) -> Result<Hop> {
    let accept = ground.cons.free_address()?;
    let (from, to) = (
        format!("TCP-LISTEN:{},bind={},fork,reuseaddr,backlog=4096,nodelay", accept.port(), accept.ip()),
        format!("TCP:{},nodelay", ground.producer),
    );
    start(ground, accept, &["socat", "-b", "262144", &from, &to])
}
