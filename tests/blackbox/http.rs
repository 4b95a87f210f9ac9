//! Who is answered over HTTP, and that nobody holds up the others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::harness::http::request_with;
use crate::harness::{Bridge, Cloud, PATIENCE, poll};

#[test]
fn only_this_machines_own_names_are_answered() {
    let cloud = Cloud::alone();
    let bridge = Bridge::start(&cloud);
    let address = bridge.address();
    let port = address.port();
    let asked = |line: &str, host: &str| request_with(address, &format!("GET {line} HTTP/1.1\r\nHost: {host}"));
    for path in ["/metrics", "/healthz", "/readyz", "/status", "/elsewhere"] {
        for host in ["evil.example", &format!("evil.example:{port}"), "10.0.0.1", "localhost.evil.example", ""] {
            let answer = asked(path, host);
            assert_eq!(answer.status, 421, "{path} for {host:?}: {}", answer.body);
            assert!(!answer.body.contains(cloud.root().to_str().unwrap()));
        }
    }
    for host in ["localhost", &format!("LOCALHOST:{port}"), "127.0.0.1", &format!("127.1.2.3:{port}"), "[::1]:80"] {
        assert_eq!(asked("/healthz", host).status, 200, "{host}");
    }
    assert_eq!(asked("http://evil.example/healthz", "localhost").status, 421, "the target names another");
    let two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example";
    assert!(matches!(request_with(address, two).status, 400 | 421));
    assert_eq!(request_with(address, "GET /healthz HTTP/1.0").status, 200, "a probe that speaks 1.0 names nothing");
    assert!(matches!(request_with(address, "GET /healthz HTTP/1.1").status, 400 | 421));
    bridge.stop();
}

/// Connections that have sent the beginning of a head.
fn slow(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: loc").unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    (0..count).map(open).collect()
}

/// Whether the bridge has said or done anything on it.
fn is_open(mut stream: &TcpStream) -> bool {
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn has_ended(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn heads_that_come_slowly_hold_up_nobody() {
    let cloud = Cloud::alone();
    let bridge = Bridge::start(&cloud);
    let address = bridge.address();
    // A machine that stands still for as long as a head may take proves nothing, so it may be tried again.
    let at_once = poll(PATIENCE, || {
        let waiting = slow(address, 40);
        bridge.get("/healthz").status == 200 && waiting.iter().all(is_open)
    });
    assert!(at_once, "the probe was answered only after slow ones had run out of time");

    // Many more than there is room for: the oldest go, a probe gets through, and the last have their time.
    let waiting = slow(address, 300);
    assert_eq!(bridge.get("/healthz").status, 200);
    assert!(poll(PATIENCE, || waiting[..200].iter().all(has_ended)), "the oldest make room");
    assert!(poll(PATIENCE, || waiting.iter().all(has_ended)), "a head has its time, and no more");
    assert_eq!(bridge.get("/status").status, 200);
    bridge.stop();
}
