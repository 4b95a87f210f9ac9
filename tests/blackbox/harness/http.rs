//! What the running service says over HTTP, read by code of the tests' own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::{Bridge, PATIENCE};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Bridge<'_> {
    /// Where it says that it listens.
    pub fn address(&self) -> SocketAddr {
        let marker = "http -> http://";
        self.wait_for("the address of the HTTP endpoint", || self.log().contains(marker));
        let log = self.log();
        let address = log.split(marker).nth(1).unwrap().split_whitespace().next().unwrap();
        address.parse().unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        request(self.address(), &format!("GET {path}"))
    }

    /// The value of a series, named as it is printed: `ghost_bridge_commands_total{outcome="ok",reason="none"}`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics");
        assert_eq!(page.status, 200, "{}", page.body);
        let value = page.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }
}

/// One request on a connection of its own; `line` is the method and the path.
pub fn request(address: SocketAddr, line: &str) -> Answer {
    request_with(address, &format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close"))
}

/// The same with a head of the test's own, without its end.
pub fn request_with(address: SocketAddr, head: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{head}\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (top, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{head}: {text:?}"));
    let mut lines = top.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}
