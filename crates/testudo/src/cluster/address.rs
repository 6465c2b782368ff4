//! `host:port`, as people write it.

use std::fmt;

/// A host name or address, and a port that is not 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Whether it is this machine's own, whatever the network.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The address of `host` and `port`.
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The address of a socket.
    pub(crate) fn of(socket: std::net::SocketAddr) -> Self {
        let host = match socket.ip() {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self::new(host, socket.port())
    }

    /// Reads `host:port`; an IPv6 address stands in brackets. The error is the rest of a sentence that begins with
    /// what was read.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':');
        let (host, port) = parts.ok_or("has no port; write host:port")?;
        let port: u16 = port
            .parse()
            .map_err(|_| format!("has the port `{port}`, which is no number from 1 to 65535"))?;
        if port == 0 {
            return Err("has the port 0, where nobody finds it; choose one".into());
        }
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_fine = match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                !host.is_empty() && host.len() <= 253 && host.chars().all(letter)
            }
        };
        if is_fine {
            Ok(Self::new(host, port))
        } else {
            Err(format!("has the host `{host}`, which is no name and no address"))
        }
    }

    /// The host, in brackets if it is an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_kinds_are_read_back() {
        for text in ["127.0.0.1:2379", "a-b.example:1", "[::1]:65535", "replica_0:7000"] {
            assert_eq!(Address::read(text).map(|it| it.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_wrong() {
        for (text, what) in [
            ("localhost", "has no port"),
            ("localhost:", "no number"),
            ("localhost:65536", "no number"),
            ("localhost:-1", "no number"),
            ("localhost:0", "the port 0"),
            (":2379", "the host"),
            ("::1:2379", "the host"),
            ("[::1:2379", "the host"),
            ("[localhost]:2379", "the host"),
            ("a\"b:1", "the host"),
            ("a b:1", "the host"),
        ] {
            let error = Address::read(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
