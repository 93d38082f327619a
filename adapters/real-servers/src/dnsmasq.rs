//! dnsmasq, which answers for the domain `test` alone.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::{RealServer, find};

/// A DNS server. What it is as a process, the [`RealServer`] in it says.
#[derive(Debug)]
pub struct Dnsmasq(RealServer);

/// Starts a DNS server with the lines of a hosts file, such as `10.0.0.1 db.test`, and those of a configuration file,
/// such as `srv-host=_db._tcp.test,db.test,5432,10,1`. All TTLs are 1 s. A name of the domain `test` that is in neither
/// does not exist. `None`, with a printed reason, if it is not installed.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn dnsmasq(hosts: &str, config: &str) -> Option<Dnsmasq> {
    let program = find("dnsmasq")?;
    let (hosts, config) = (hosts.to_owned(), config.to_owned());
    Some(Dnsmasq(RealServer::start("dnsmasq", move |folder, port| {
        for (file, text) in [("hosts", &hosts), ("config", &config)] {
            // Started again, it has what was set last.
            if !folder.join(file).exists() {
                write(folder, file, text);
            }
        }
        let mut command = Command::new(&program);
        command.args(["--no-daemon", "--no-resolv", "--no-hosts", "--local=/test/", "--local-ttl=1", "--pid-file="]);
        // As root it would change to a user who cannot read the folder.
        command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=root"]);
        command.arg(format!("--port={port}"));
        for (option, file) in [("addn-hosts", "hosts"), ("conf-file", "config")] {
            command.arg(format!("--{option}={}", folder.join(file).display()));
        }
        command
    })))
}

impl Dnsmasq {
    /// Replaces the lines of the hosts file. Answers in flight may still be the old ones.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    pub fn set_hosts(&self, hosts: &str) {
        write(self.folder(), "hosts", hosts);
        self.signal(Signal::HUP);
    }

    /// Replaces the lines of the configuration file, and starts it again.
    ///
    /// # Panics
    ///
    /// As [`RealServer::start`].
    pub fn set_config(&mut self, config: &str) {
        write(self.folder(), "config", config);
        self.kill();
        self.start_again();
    }
}

fn write(folder: &Path, file: &str, text: &str) {
    fs::write(folder.join(file), format!("{text}\n")).expect("a file for dnsmasq");
}

impl Deref for Dnsmasq {
    type Target = RealServer;

    fn deref(&self) -> &RealServer {
        &self.0
    }
}

impl DerefMut for Dnsmasq {
    fn deref_mut(&mut self) -> &mut RealServer {
        &mut self.0
    }
}
