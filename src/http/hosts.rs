//! By which names the service is asked.
//!
//! A web page may have its own name lead to this machine and then read what answers, as if it were its own (DNS
//! rebinding). It cannot do so under a name that is not its own: so only the names of this machine to itself, and the
//! address that is listened at, are answered.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::dev::RequestHead;
use actix_web::http::Version;
use actix_web::http::header::HOST;

/// The names that are answered.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    listen: IpAddr,
}

impl Hosts {
    /// Those of a service that listens at `address`.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        Self { listen: address.ip() }
    }

    /// Whether a request is meant for this service, by every name that it gives.
    #[must_use]
    pub fn are_asked_for(&self, head: &RequestHead) -> bool {
        let mut names = head.headers().get_all(HOST).map(|value| value.to_str().unwrap_or_default());
        let named = match names.next() {
            Some(name) => self.answer_to(name) && names.next().is_none(),
            // Before version 1.1 there was no such header, and no browser speaks it.
            None => head.version < Version::HTTP_11,
        };
        named && head.uri.authority().is_none_or(|authority| self.answer_to(authority.as_str()))
    }

    /// Whether `host`, with or without a port, is one of the names.
    fn answer_to(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((ip, port)) if port.is_empty() || is_port(port) => {
                    return ip.parse::<Ipv6Addr>().is_ok_and(|ip| self.is_here(ip.into()));
                }
                _ => return false,
            },
            None => match host.find(':') {
                Some(at) if is_port(host.get(at..).unwrap_or_default()) => host.get(..at).unwrap_or_default(),
                Some(_) => return false,
                None => host,
            },
        };
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip| self.is_here(ip))
    }

    /// Whether it is an address of this machine to itself or the one that is listened at. A service that listens at all of
    /// its machine's has no one address; an address is no name that could lead elsewhere.
    fn is_here(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_loopback() || self.listen.is_unspecified() || ip == self.listen.to_canonical()
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answered(listen: &str, host: &str) -> bool {
        Hosts::of(listen.parse().unwrap()).answer_to(host)
    }

    #[test]
    fn loopback_names_and_the_configured_address_are_answered() {
        for host in [
            "localhost",
            "LocalHost:9464",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.8.9.10:9464",
            "[::1]",
            "[::1]:9464",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(answered("127.0.0.1:9464", host) && answered("10.0.0.1:9464", host), "{host}");
        }
        assert!(answered("10.0.0.1:9464", "10.0.0.1:9464") && answered("[fd00::1]:9464", "[fd00::1]"));
        for host in [
            "",
            "evil.example",
            "evil.example:9464",
            "10.0.0.2",
            "[fd00::2]",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:x",
            "[::1]x",
            "[::1",
            "::1",
            "user@localhost",
        ] {
            assert!(!answered("10.0.0.1:9464", host), "{host}");
        }
        assert!(answered("0.0.0.0:9464", "192.0.2.7:9464") && !answered("0.0.0.0:9464", "evil.example"));
    }
}
