//! What must hold of a program in the sandbox.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use executor::config::Requirement;
use executor::sandbox::{End, Facilities, Launcher, MAX_OUTPUT_BYTES};

use crate::VICTIM;
use crate::world::{World, granted, wait_for};

type Case = (&'static str, fn(Facilities));

pub const ALL: &[Case] = &[
    ("its_end_and_its_output_are_reported", its_end_and_its_output_are_reported),
    ("its_environment_is_three_variables", its_environment_is_three_variables),
    ("it_inherits_no_descriptor_and_reads_nothing", it_inherits_no_descriptor_and_reads_nothing),
    ("it_runs_in_the_folder_that_was_opened", it_runs_in_the_folder_that_was_opened),
    ("it_reads_and_writes_only_what_it_may", it_reads_and_writes_only_what_it_may),
    ("a_link_in_the_place_of_a_writable_folder_leads_nowhere", a_link_in_the_place_of_a_writable_folder_leads_nowhere),
    ("a_readable_folder_is_readable", a_readable_folder_is_readable),
    ("there_is_no_network", there_is_no_network),
    ("it_has_no_rights", it_has_no_rights),
    ("much_output_is_cut_and_never_blocks", much_output_is_cut_and_never_blocks),
    ("over_its_time_everything_dies", over_its_time_everything_dies),
    ("what_it_leaves_behind_dies", what_it_leaves_behind_dies),
    ("a_fork_bomb_is_bounded_and_dies", a_fork_bomb_is_bounded_and_dies),
    ("when_the_bridge_is_killed_everything_dies", when_the_bridge_is_killed_everything_dies),
    ("a_program_that_cannot_be_started_is_said_so", a_program_that_cannot_be_started_is_said_so),
    ("without_a_fence_it_is_not_run", without_a_fence_it_is_not_run),
    ("no_descriptor_and_no_child_is_left", no_descriptor_and_no_child_is_left),
];

fn its_end_and_its_output_are_reported(facilities: Facilities) {
    for (script, end) in [
        ("echo out; echo err >&2", End::Exited(0)),
        ("echo out; echo err >&2; exit 7", End::Exited(7)),
        ("echo out; echo err >&2; kill -TERM $$", End::Signalled(15)),
        ("echo out; echo err >&2; kill -KILL $$", End::Signalled(9)),
    ] {
        let report = World::new(facilities, script).run();
        assert_eq!(report.end, end, "{script}: {report:?}");
        assert_eq!((report.stdout.as_str(), report.stderr.lines().next()), ("out\n", Some("err")), "{script}");
        assert!(!report.truncated);
    }
}

fn its_environment_is_three_variables(facilities: Facilities) {
    let mut world = World::new(facilities, "");
    world.program.argv = vec!["env".to_owned()];
    let printed = world.prints();
    let mut names: Vec<&str> = printed.lines().map(|line| line.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH"], "{printed}");
    let path = std::env::var("PATH").unwrap();
    assert!(printed.lines().any(|line| line == format!("PATH={path}")), "{printed}");
    // Its home is empty, its own, and gone afterwards.
    let world = World::new(facilities, "echo $HOME; ls -A ~; echo x > ~/x; mkdir ~/y; stat -c %a ~");
    let printed = world.prints();
    let (home, rest) = printed.split_once('\n').unwrap();
    assert_eq!(rest, "700\n", "{printed}");
    assert!(!fs::exists(home).unwrap(), "{home} is still there");
}

fn it_inherits_no_descriptor_and_reads_nothing(facilities: Facilities) {
    let script = "import errno, os, sys\nfor n in range(3, 64):\n  try: os.fstat(n); print(n)\n  except OSError: pass\n\
                  print(len(sys.stdin.read()))";
    let mut world = World::new(facilities, "");
    world.program.argv = ["python3", "-c", script].map(str::to_owned).to_vec();
    // Whoever starts the bridge may leave a descriptor behind that is inherited.
    let file = fs::File::open(world.at("outside.txt")).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    assert_eq!(world.prints(), "0\n");
}

fn it_runs_in_the_folder_that_was_opened(facilities: Facilities) {
    let world = World::new(facilities, "cat docs/a.txt; echo x > out/x");
    let root = world.root();
    fs::rename(world.at("root"), world.at("moved")).unwrap();
    fs::create_dir_all(world.at("root/docs")).unwrap();
    fs::write(world.at("root/docs/a.txt"), "another\n").unwrap();
    let report = executor::sandbox::RunCheck::run(&world.launcher, &world.program, &root, world.limit);
    assert_eq!((report.end, report.stdout.as_str()), (End::Exited(0), "one\n"));
    assert!(world.at("moved/out/x").exists());
}

fn it_reads_and_writes_only_what_it_may(facilities: Facilities) {
    let world = World::new(facilities, "");
    let outside = world.at("outside.txt").display().to_string();
    let may = [
        "cat docs/a.txt",
        "echo x > out/x && mkdir -p out/y/z && mv out/x out/y/z/x && chmod 600 out/y/z/x && touch -d 2001-01-01 out/y/z/x",
        "echo x > ~/x && rm ~/x",
        "ls / > /dev/null || ls /usr > /dev/null",
        "head -c 9 /dev/zero > /dev/null && head -c 9 /dev/urandom > /dev/null",
        "cat /etc/passwd > /dev/null",
        "ln out/y/z/x out/hard",
    ];
    let outside_read = format!("cat {outside}");
    let outside_write = format!("echo x > {outside}.new");
    let mut may_not = vec![
        outside_read.as_str(),
        outside_write.as_str(),
        "cat ../outside.txt",
        "ls ..",
        "echo x > docs/a.txt",
        "echo x >> docs/a.txt",
        "echo x > docs/new",
        "rm docs/a.txt",
        "mv docs/a.txt out/",
        "mv out/hard docs/",
        "mkdir docs/x",
        "ln -s a.txt docs/l",
        "ln docs/a.txt docs/h",
        "truncate -s 0 docs/a.txt",
        "cat /proc/self/environ",
        "cat /proc/1/environ",
        "ls /proc",
        "cat /etc/shadow",
        "echo x > /tmp/x",
        "ls /tmp",
        "ls /root",
        "ls /home",
        "ls /run",
        "ls /dev",
        "mknod out/null c 1 3",
    ];
    if granted(facilities) {
        may_not.extend(["chmod 777 docs/a.txt", "touch -d 2001-01-01 docs/a.txt"]);
    }
    let mut script = String::new();
    for (verdict, commands) in [("may", &may[..]), ("may not", &may_not[..])] {
        for command in commands {
            script.push_str(&format!("if {{ {command}; }} >/dev/null; then v=may; else v='may not'; fi\n"));
            script.push_str(&format!("[ \"$v\" = '{verdict}' ] || echo \"$v: {}\"\n", command.replace('$', "\\$")));
        }
    }
    let world = World { program: World::new(facilities, &script).program, ..world };
    let report = world.run();
    assert_eq!((&report.end, report.stdout.as_str()), (&End::Exited(0), ""), "{}", report.stderr);
    assert_eq!(fs::read_to_string(world.at("root/docs/a.txt")).unwrap(), "one\n");
    assert_eq!(fs::read_dir(world.at("root/docs")).unwrap().count(), 1);
}

fn a_link_in_the_place_of_a_writable_folder_leads_nowhere(facilities: Facilities) {
    let mut world = World::new(facilities, "echo x > link/x; echo x > missing/x; mkdir missing; ls -d link docs out");
    std::os::unix::fs::symlink("docs", world.at("root/link")).unwrap();
    world.program.writable = vec!["link".to_owned(), "missing".to_owned(), "../root/docs".to_owned()];
    assert_eq!(world.prints(), "docs\nlink\nout\n");
    assert!(!world.at("root/docs/x").exists() && !world.at("root/missing").exists());
}

fn a_readable_folder_is_readable(facilities: Facilities) {
    let mut world = World::new(facilities, "");
    let tool = world.at("tools/bin/tool");
    fs::create_dir_all(tool.parent().unwrap()).unwrap();
    fs::write(&tool, "#!/bin/sh\necho tool\necho x > $(dirname $0)/x || echo unwritten\n").unwrap();
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.program.argv = vec![tool.display().to_string()];
    assert!(matches!(world.run().end, End::NotStarted(_)));
    world.program.readable = vec![world.at("tools"), world.at("not-there")];
    assert_eq!(world.prints(), "tool\nunwritten\n");
}

fn there_is_no_network(facilities: Facilities) {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let script = format!(
        "(echo x > /dev/tcp/127.0.0.1/{tcp_port}) && echo tcp; (echo x > /dev/udp/127.0.0.1/{udp_port}) && echo udp; \
         env python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"out/socket\")' && echo unix; true"
    );
    let world = World::new(facilities, &script);
    let unix = UnixListener::bind(world.at("root/out/socket")).unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    let report = world.run();
    assert_eq!((&report.end, report.stdout.as_str()), (&End::Exited(0), ""), "{report:?}");
    for who in ["/dev/tcp/127.0.0.1", "/dev/udp/127.0.0.1", "PermissionError"] {
        let line = report.stderr.lines().find(|line| line.contains(who)).unwrap_or_default();
        assert!(line.contains("Permission denied"), "{who}: {report:?}");
    }
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(udp.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(unix.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn it_has_no_rights(facilities: Facilities) {
    let (user, me) = (rustix::process::geteuid().as_raw(), std::process::id());
    let script = format!(
        "id -u; unshare -U true && echo unshared; setpriv --dump | grep -i 'capabilit\\|new_privs'; kill -0 {me} && \
         echo signalled; ulimit -c"
    );
    let world = World::new(facilities, &script);
    let report = world.run();
    let printed = report.stdout.as_str();
    assert_eq!(printed.lines().next(), Some(user.to_string().as_str()), "{report:?}");
    assert!(!printed.contains("signalled"), "{report:?}");
    assert!(!granted(facilities) || !printed.contains("unshared"), "{report:?}");
    assert!(printed.ends_with("\n0\n"), "{report:?}");
    if user == 0 {
        let script =
            "mount -t tmpfs x out && echo mounted; chown 1:1 out && echo owned; hostname x && echo named; true";
        assert_eq!(World::new(facilities, script).prints(), "");
    }
}

fn much_output_is_cut_and_never_blocks(facilities: Facilities) {
    let script =
        "head -c 10000000 /dev/zero | tr '\\0' a; head -c 10000000 /dev/zero | tr '\\0' b >&2; echo end > out/end";
    let world = World::new(facilities, script);
    let report = world.run();
    assert_eq!((&report.end, report.truncated), (&End::Exited(0), true));
    assert_eq!(report.stdout, "a".repeat(MAX_OUTPUT_BYTES));
    assert_eq!(report.stderr, "b".repeat(MAX_OUTPUT_BYTES));
    assert!(world.at("root/out/end").exists());
}

/// Starts, out of sight, what goes on for ever: in a session of its own, without a parent, holding the pipe.
const DAEMON: &str = "exec 9>out/pipe; (setsid bash -c '(while :; do echo beat >&9; sleep 0.05; done) & exit' &); ";

fn over_its_time_everything_dies(facilities: Facilities) {
    // It closes its outputs, ignores what can be ignored, and stays.
    let script = format!("{DAEMON} trap '' TERM INT HUP; exec >/dev/null 2>&1; while :; do sleep 1; done");
    let written = dies_over_its_time(facilities, &script, |written| !written.is_empty());
    assert!(written.starts_with(b"beat\n"), "{written:?}");
}

/// Runs what must be over its time, and dead then; with more and more time, until it has `begun`.
fn dies_over_its_time(facilities: Facilities, script: &str, begun: fn(&[u8]) -> bool) -> Vec<u8> {
    for seconds in [2, 8, 40] {
        let mut world = World::new(facilities, script);
        world.limit = Duration::from_secs(seconds);
        let mut pipe = world.pipe();
        let start = Instant::now();
        let report = world.run();
        assert_eq!(report.end, End::OverTime);
        assert!(start.elapsed() >= world.limit);
        let (written, alive) = pipe.read();
        assert!(!alive, "something is still alive");
        if begun(&written) {
            return written;
        }
    }
    panic!("it does not begin");
}

fn what_it_leaves_behind_dies(facilities: Facilities) {
    let world = World::new(facilities, &format!("{DAEMON} read -N 1 -t 30 < out/begun; echo done"));
    let mut pipe = world.pipe();
    // It ends only once the other has begun.
    let script = format!("{DAEMON} while [ ! -e out/begun ]; do sleep 0.01; done; echo done");
    let script = script.replace("echo beat >&9", "echo beat >&9; : > out/begun");
    let world = World { program: World::new(facilities, &script).program, ..world };
    assert_eq!(world.prints(), "done\n");
    let (written, alive) = pipe.read();
    assert!(!alive && written.starts_with(b"beat\n"), "{alive} {written:?}");
}

fn a_fork_bomb_is_bounded_and_dies(facilities: Facilities) {
    // Root is exempt from the limit, and without a namespace there is no other: what dies must be small then.
    let unbounded = rustix::process::geteuid().is_root() && !granted(facilities);
    let script = if unbounded {
        "exec 9>out/pipe; for n in {1..60}; do (setsid sleep 600 &); echo x >&9; done; sleep 600"
    } else {
        "exec 9>out/pipe; bomb() { echo x >&9; bomb & bomb & wait; }; bomb"
    };
    dies_over_its_time(facilities, script, |written| written.len() > 100);
}

/// Runs a check in the folder that is named, with these facilities, until it is killed.
pub fn victim(arguments: &[String]) -> ! {
    let namespaces = arguments[1] == "true";
    let world = World::new(Facilities { fence: true, namespaces }, &format!("{DAEMON} sleep 600"));
    let root = cap_std::fs::Dir::open_ambient_dir(&arguments[0], cap_std::ambient_authority()).unwrap();
    let report = executor::sandbox::RunCheck::run(&world.launcher, &world.program, &root, Duration::from_secs(600));
    panic!("it ended: {report:?}");
}

fn when_the_bridge_is_killed_everything_dies(facilities: Facilities) {
    let world = World::new(facilities, "");
    let mut pipe = world.pipe();
    let mut bridge = Command::new(std::env::current_exe().unwrap());
    bridge.arg(VICTIM).arg(world.at("root")).arg(facilities.namespaces.to_string());
    // A bridge that is killed leaves its temporary folder behind.
    let mut bridge = bridge.env("TMPDIR", world.dir.path()).stdin(Stdio::null()).spawn().unwrap();
    wait_for("the first beat", || !pipe.read().0.is_empty());
    bridge.kill().unwrap();
    bridge.wait().unwrap();
    wait_for("everything to be dead", || !pipe.read().1);
}

fn a_program_that_cannot_be_started_is_said_so(facilities: Facilities) {
    let mut world = World::new(facilities, "");
    for program in ["not-there", "./docs/a.txt", "/nowhere/at/all"] {
        world.program.argv = vec![program.to_owned()];
        let report = world.run();
        let End::NotStarted(why) = &report.end else { panic!("{program}: {report:?}") };
        assert!(why.contains("cannot be started") && !why.contains("nowhere"), "{why}");
    }
}

fn without_a_fence_it_is_not_run(facilities: Facilities) {
    let script = "echo ran; : > out/ran; env | wc -l";
    let mut world = World::new(facilities, script);
    world.launcher = Launcher::with(Facilities { fence: false, ..facilities });
    let report = world.run();
    let End::Refused(why) = &report.end else { panic!("{report:?}") };
    assert!(why.contains("Landlock") && why.contains("best-effort"), "{why}");
    assert!(!world.at("root/out/ran").exists());
    world.program.sandbox = Requirement::BestEffort;
    let report = world.run();
    assert_eq!(report.end, End::Exited(0), "{report:?}");
    assert!(report.stdout.starts_with("ran\n"), "{report:?}");
}

fn no_descriptor_and_no_child_is_left(facilities: Facilities) {
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let world = World::new(facilities, "exit 3");
    world.run();
    let before = count();
    for _ in 0..5 {
        assert_eq!(world.run().end, End::Exited(3));
    }
    assert_eq!(count(), before);
    let mut children = String::new();
    let file = fs::File::open(format!("/proc/self/task/{}/children", std::process::id()));
    if let Ok(mut file) = file {
        file.read_to_string(&mut children).unwrap();
    }
    assert_eq!(children, "");
}
