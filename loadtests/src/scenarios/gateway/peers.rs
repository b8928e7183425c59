//! Other people's proxies, configured to do the same: one worker, streaming, connections to the upstream kept open.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::affinity::Core;
use crate::process::Process;

/// A proxy to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// haproxy, as Debian packages it
    Haproxy,
    /// nginx, as Debian packages it
    Nginx,
    /// No peer
    None,
}

impl Peer {
    /// Its name in series and on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::None => "none",
        }
    }

    /// Starts it in front of `upstream`, with its files in `directory`.
    ///
    /// # Errors
    /// It is not installed (the message says how to install or leave it out), or it could not be started.
    pub fn start(self, upstream: SocketAddr, directory: &Path, core: Core) -> anyhow::Result<(Process, SocketAddr)> {
        let program = self.find()?;
        let addr = free_address()?;
        let path = directory.join(format!("{}.conf", self.name()));
        let mut command = Command::new(program);
        match self {
            Self::Haproxy => {
                std::fs::write(&path, haproxy_config(addr, upstream))?;
                // In the foreground, one process.
                command.arg("-db").arg("-f").arg(&path);
            }
            Self::Nginx => {
                std::fs::write(&path, nginx_config(addr, upstream, directory))?;
                command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(&path);
            }
            Self::None => bail!("`none` is no proxy"),
        }
        Ok((Process::start(self.name(), command, Some(core))?, addr))
    }

    fn find(self) -> anyhow::Result<std::path::PathBuf> {
        let search = std::env::var_os("PATH").unwrap_or_default();
        // Debian puts servers where only root's PATH leads.
        let places = std::env::split_paths(&search).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let found = places.map(|place| place.join(self.name())).find(|path| path.is_file());
        found.with_context(|| {
            format!(
                "{name} is not installed: `apt-get install haproxy nginx`, or leave it out with --peers",
                name = self.name()
            )
        })
    }
}

/// A port that was free a moment ago: these servers cannot tell which one they were given.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn haproxy_config(addr: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n\
         frontend in\n  bind {addr}\n  default_backend out\n\
         backend out\n  server upstream {upstream}\n"
    )
}

fn nginx_config(addr: SocketAddr, upstream: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  client_max_body_size 0;\n  keepalive_requests 1000000000;\n\
         \x20 client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;\n\
         \x20 uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
         \x20 upstream echo {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen {addr};\n    location / {{\n      proxy_pass http://echo;\n      proxy_http_version 1.1;\n\
         \x20     proxy_set_header Connection \"\";\n      proxy_request_buffering off;\n      proxy_buffering off;\n    }}\n  }}\n}}\n"
    )
}
