#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;

/// A folder with a CLOUD, another folder, and a place for the file.
struct Place {
    _guard: tempfile::TempDir,
    cloud: PathBuf,
    top: PathBuf,
}

fn place() -> Place {
    let guard = tempfile::tempdir().unwrap();
    let top = guard.path().canonicalize().unwrap();
    let cloud = top.join("cloud");
    for folder in ["cloud/.git/hooks", "cloud/meta/journal", "site"] {
        std::fs::create_dir_all(top.join(folder)).unwrap();
    }
    Place { _guard: guard, cloud, top }
}

fn load(place: &Place, text: &str) -> Result<Config, ConfigError> {
    let file = place.top.join("bridge.toml");
    std::fs::write(&file, text).unwrap();
    Settings::load(Some(&file))?.resolve(&place.cloud)
}

#[test]
fn the_defaults_are_the_contracts() {
    let place = place();
    for config in [load(&place, "").unwrap(), Settings::load(None).unwrap().resolve(&place.cloud).unwrap()] {
        let main = &config.targets[MAIN_TARGET];
        assert_eq!((&main.root, main.allow_delete, main.deny.len()), (&place.cloud, false, 0));
        assert_eq!(
            main.limits,
            Limits { max_files_changed: 100, max_runtime_ms: 600_000, max_bytes_written: 16 << 20 }
        );
        assert_eq!(config.ingest.settle_ms, 500);
        assert_eq!(config.publish.max_pushes_per_minute, None);
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
        assert!(!config.http.chosen);
    }
}

#[test]
fn every_key_is_read() {
    let place = place();
    let text = r#"
        cloud = "cloud"
        [targets.MAIN]
        allow_delete = true
        [targets.Site-1]
        root = "site"
        deny = ["secrets/**"]
        limits = { max_files_changed = 1, max_runtime_ms = 2, max_bytes_written = 3 }
        [checks.build]
        argv = ["true", "-x"]
        max_runtime_ms = 4
        sandbox = "best-effort"
        writable = ["target", ".cache/x/"]
        readable = ["/srv/toolchain"]
        [ingest]
        settle_ms = 0
        rescan_secs = 6
        clock_skew_secs = 7
        max_lifetime_secs = 8
        max_command_bytes = 2048
        unauthenticated_per_hour = 10
        checkout = "commands"
        [publish]
        remote = "up/stream"
        fetch_secs = 9
        attempts = 10
        max_pushes_per_minute = 0
        window = 11
        log_kib = 12
        author_name = "A B"
        author_email = "a@b"
        [http]
        listen = "0.0.0.0:0"
        allow_remote = true
        [supervision]
        max_restarts = 13
        within_secs = 14
    "#;
    let config = load(&place, text).unwrap();
    assert!(config.targets[MAIN_TARGET].allow_delete);
    let site = &config.targets["Site-1"];
    assert_eq!((&site.root, &site.deny[0]), (&place.top.join("site"), &"secrets/**".to_owned()));
    assert_eq!(site.limits, Limits { max_files_changed: 1, max_runtime_ms: 2, max_bytes_written: 3 });
    let build = CheckConfig {
        argv: vec!["true".into(), "-x".into()],
        max_runtime_ms: 4,
        sandbox: Requirement::BestEffort,
        writable: vec!["target".into(), ".cache/x/".into()],
        readable: vec!["/srv/toolchain".into()],
    };
    assert_eq!(config.checks["build"], build);
    let ingest = Ingest {
        settle_ms: 0,
        rescan_secs: 6,
        clock_skew_secs: 7,
        max_lifetime_secs: 8,
        max_command_bytes: 2048,
        unauthenticated_per_hour: 10,
        checkout: Checkout::Commands,
    };
    assert_eq!(config.ingest, ingest);
    assert_eq!((config.publish.remote.as_deref(), config.publish.max_pushes_per_minute), (Some("up/stream"), Some(0)));
    assert_eq!((config.publish.fetch_secs, config.publish.attempts), (9, 10));
    assert_eq!((config.publish.window, config.publish.log_kib), (11, 12));
    assert_eq!((config.publish.author_name.as_str(), config.publish.author_email.as_str()), ("A B", "a@b"));
    assert_eq!(config.http, Http { listen: "0.0.0.0:0".parse().unwrap(), chosen: true, allow_remote: true });
    assert_eq!(config.supervision, Supervision { max_restarts: 13, within_secs: 14 });
    let file = place.top.join("bridge.toml");
    assert_eq!(Settings::load(Some(&file)).unwrap().cloud(), Some(place.cloud.clone()));
}

/// Each bad file, the key that its line must name, and the words of the remedy.
const BAD: &[(&str, &str, &str)] = &[
    ("[publish", "at line 1, column 9, invalid table header", "correct that line"),
    ("cloud = 5", "cloud: found", "a path in double quotes"),
    ("cloud = \"\"", "cloud: found", "top of the git work tree"),
    ("cloud_name = \"\"", "cloud_name: found", "which CLOUD this is"),
    ("cloud_name = 5", "cloud_name: found", "which CLOUD this is"),
    ("colud = \"x\"", "colud: unknown key", "cloud, cloud_name, targets, checks"),
    ("[publsh]\nremote = \"x\"", "publsh: unknown key", "publish"),
    ("publish = 3", "publish: found", "a table"),
    ("[publish]\nfecth_secs = 3", "publish.fecth_secs: unknown key", "fetch_secs"),
    ("[publish]\nfetch_secs = \"five\"", "publish.fetch_secs: found string \"five\"", "a whole number from 1 to 3600"),
    ("[publish]\nfetch_secs = 0", "publish.fetch_secs: found 0", "from 1 to 3600"),
    ("[publish]\nfetch_secs = -1", "publish.fetch_secs: found", "from 1 to 3600"),
    ("[publish]\nfetch_secs = 1.5", "publish.fetch_secs: found", "from 1 to 3600"),
    ("[publish]\nremote = \"--upload-pack=x\"", "publish.remote: found", "name of a git remote"),
    ("[publish]\nremote = \"\"", "publish.remote: found", "name of a git remote"),
    ("[publish]\nauthor_name = \"a<b\"", "publish.author_name", "without < >"),
    ("[publish]\nauthor_email = \"a b\"", "publish.author_email", "without < > or blanks"),
    ("[publish]\nmax_pushes_per_minute = 99999", "publish.max_pushes_per_minute: found 99999", "from 0 to 6000"),
    ("[ingest]\ncheckout = \"none\"", "ingest.checkout: found \"none\"", "\"allowed\" or \"commands\""),
    ("[ingest]\nmax_command_bytes = 524289", "ingest.max_command_bytes", "to 524288"),
    ("[http]\nlisten = \"9464\"", "http.listen", "127.0.0.1:9464"),
    ("[http]\nlisten = \"0.0.0.0:9464\"", "http.listen", "http.allow_remote"),
    ("[http]\nallow_remote = \"yes\"", "http.allow_remote", "true or false"),
    ("[supervision]\nmax_restarts = 4294967296", "supervision.max_restarts", "from 0 to 1000"),
    ("[targets.MAIN]\nlimits.max_files_changed = 0", "targets.MAIN.limits.max_files_changed", "from 1"),
    ("[targets.MAIN]\nlimits.max_files = 1", "targets.MAIN.limits.max_files: unknown", "max_files_changed"),
    ("[targets.MAIN]\nroot = \"site\"", "targets.MAIN.root", "CLOUD itself"),
    ("[targets.A]\nallow_delete = true", "targets.A.root: required key is missing", "an existing folder"),
    ("[targets.A]\nroot = \"nowhere\"", "targets.A.root", "an existing folder"),
    ("[targets.A]\nroot = \"bridge.toml\"", "targets.A.root", "an existing folder"),
    ("[targets.A]\nroot = \".\"", "targets.A.root", "does not contain CLOUD"),
    ("[targets.A]\nroot = \"cloud/.git/hooks\"", "targets.A.root", "outside CLOUD's .git"),
    ("[targets.A]\nroot = \"cloud/meta/journal\"", "targets.A.root", "a folder outside commands, meta"),
    ("[targets.A]\nroot = \"site\"\ndeny = [\"\"]", "targets.A.deny", "a list of globs"),
    ("[targets.A]\nroot = \"site\"\ndeny = \"x\"", "targets.A.deny", "a list of globs"),
    ("[targets.\"-A\"]\nroot = \"site\"", "targets.-A", "starts with a letter or digit"),
    ("[targets.\"a b\"]\nroot = \"site\"", "targets.a b", "a name of 1 to 64"),
    ("[checks.b]\nmax_runtime_ms = 1", "checks.b.argv: required key is missing", "the program first"),
    ("[checks.b]\nargv = []", "checks.b.argv: found an empty list", "the program first"),
    ("[checks.b]\nargv = [1]", "checks.b.argv", "the program first"),
    ("[checks.b]\nargv = [\"x\"]\nsandbox = \"none\"", "checks.b.sandbox: found \"none\"", "\"best-effort\""),
    ("[checks.b]\nargv = [\"x\"]\nsandbox = true", "checks.b.sandbox: found", "\"required\""),
    ("[checks.b]\nargv = [\"x\"]\nwritable = [\"\"]", "checks.b.writable: found \"\"", "beneath the target's root"),
    ("[checks.b]\nargv = [\"x\"]\nwritable = [\".\"]", "checks.b.writable", "relative"),
    ("[checks.b]\nargv = [\"x\"]\nwritable = [\"/tmp\"]", "checks.b.writable", "relative"),
    ("[checks.b]\nargv = [\"x\"]\nwritable = [\"a/../b\"]", "checks.b.writable", "without . and .."),
    ("[checks.b]\nargv = [\"x\"]\nwritable = [\"sub/.GIT/x\"]", "checks.b.writable", "not .git"),
    ("[checks.b]\nargv = [\"x\"]\nwritable = [\"ok\", \"Results/x\"]", "found \"Results/x\"", "the bridge's own"),
    ("[checks.b]\nargv = [\"x\"]\nreadable = [\"/\"]", "checks.b.readable", "other than /"),
    ("[checks.b]\nargv = [\"x\"]\nreadable = [\"srv/x\"]", "checks.b.readable", "absolute folders"),
    ("[checks.b]\nargv = [\"x\"]\nreadable = [\"/srv/../root\"]", "checks.b.readable", "absolute folders"),
];

#[test]
fn each_bad_file_is_one_line_with_file_key_and_remedy() {
    let place = place();
    for (text, key, remedy) in BAD {
        let line = load(&place, text).expect_err(text).to_string();
        assert!(line.contains("bridge.toml") && line.contains(key) && line.contains(remedy), "{text:?} gave: {line}");
        assert!(!line.contains(['\n', '|']), "{line}");
    }
}

fn load_env(place: &Place, text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = place.top.join("bridge.toml");
    std::fs::write(&file, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load_with(Some(&file), variables)?.resolve(&place.cloud)
}

#[test]
fn a_variable_overrides_one_key_and_others_are_not_mistaken() {
    let place = place();
    let site = place.top.join("site").to_string_lossy().into_owned();
    let variables = [
        ("GHOST_BRIDGE__PUBLISH__FETCH_SECS", "7"),
        ("GHOST_BRIDGE__TARGETS__MAIN__ALLOW_DELETE", "true"),
        ("GHOST_BRIDGE__TARGETS__MyApp__ROOT", site.as_str()),
        ("GHOST_BRIDGE__TARGETS__MyApp__DENY", "[\"a\", \"b/**\"]"),
        ("GHOST_BRIDGE__HTTP__LISTEN", "127.0.0.1:0"),
        ("GHOST_BRIDGE_CONFIG", "elsewhere"),
        ("GHOST_BRIDGE_CORPORA", "elsewhere"),
    ];
    let config = load_env(&place, "[publish]\nfetch_secs = 3\nattempts = 4", &variables).unwrap();
    assert_eq!((config.publish.fetch_secs, config.publish.attempts), (7, 4));
    assert!(config.targets[MAIN_TARGET].allow_delete);
    assert_eq!(config.targets["MyApp"].root, place.top.join("site"));
    assert_eq!(config.targets["MyApp"].deny, ["a", "b/**"]);
    assert_eq!(config.http.listen.port(), 0);
}

#[test]
fn an_error_names_the_variable_that_made_it_or_the_file_that_did() {
    let place = place();
    let cases = [
        (
            "",
            ("GHOST_BRIDGE__PUBLISH__FETCH_SECS", "soon"),
            "variable GHOST_BRIDGE__PUBLISH__FETCH_SECS: publish.fetch_secs",
        ),
        (
            "",
            ("GHOST_BRIDGE__PUBLISH__FETCH_SECS", "0"),
            "variable GHOST_BRIDGE__PUBLISH__FETCH_SECS: publish.fetch_secs",
        ),
        (
            "[publish]\nattempts = 2",
            ("GHOST_BRIDGE__PUBLISH__FECTH_SECS", "1"),
            "variable GHOST_BRIDGE__PUBLISH__FECTH_SECS: publish.fecth_secs: unknown",
        ),
        (
            "[publish]\nfecth_secs = 2",
            ("GHOST_BRIDGE__PUBLISH__FETCH_SECS", "1"),
            "bridge.toml: publish.fecth_secs: unknown",
        ),
        (
            "",
            ("GHOST_BRIDGE__TARGETS__X__ALLOW_DELETE", "true"),
            "variable GHOST_BRIDGE__TARGETS__X__ALLOW_DELETE: targets.X.root",
        ),
        ("[targets.X]\nallow_delete = 1", ("GHOST_BRIDGE__CLOUD", "x"), "bridge.toml: targets.X.allow_delete"),
        ("", ("GHOST_BRIDGE__PUBLISH", "x"), "variable GHOST_BRIDGE__PUBLISH: publish"),
        ("", ("GHOST_BRIDGE__", "x"), "variable GHOST_BRIDGE__"),
    ];
    for (text, variable, wanted) in cases {
        let line = load_env(&place, text, &[variable]).expect_err(wanted).to_string();
        assert!(line.contains(wanted), "{variable:?} gave: {line}");
    }
}

#[test]
fn the_example_configuration_says_the_defaults() {
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/bridge.toml")).unwrap();
    let place = place();
    assert_eq!(load(&place, &example).unwrap(), load(&place, "").unwrap());
}

#[test]
fn a_file_that_is_none_is_said_so() {
    let place = place();
    for (path, words) in [("nowhere.toml", "No such file"), ("site", "no regular file")] {
        let line = Settings::load(Some(&place.top.join(path))).unwrap_err().to_string();
        assert!(line.contains(path) && line.contains(words) && line.contains("--config"), "{line}");
    }
}

#[test]
fn a_file_inside_cloud_is_refused_however_it_is_reached() {
    use std::os::unix::fs::symlink;
    let place = place();
    std::fs::write(place.cloud.join("bridge.toml"), "").unwrap();
    std::fs::write(place.top.join("site/real.toml"), "").unwrap();
    symlink("cloud/bridge.toml", place.top.join("to-inside.toml")).unwrap();
    symlink("../site/real.toml", place.cloud.join("to-outside.toml")).unwrap();
    symlink("cloud/to-outside.toml", place.top.join("through.toml")).unwrap();
    symlink("../site", place.cloud.join("folder")).unwrap();
    for path in [
        "cloud/bridge.toml",
        "to-inside.toml",
        "cloud/to-outside.toml",
        "through.toml",
        "cloud/folder/real.toml",
        "site/../cloud/bridge.toml",
    ] {
        let file = place.top.join(path);
        let error = Settings::load(Some(&file)).unwrap().resolve(&place.cloud).unwrap_err();
        assert!(matches!(error, ConfigError::InsideCloud { .. }), "{path}: {error}");
    }
    assert!(Settings::load(Some(&place.top.join("site/real.toml"))).unwrap().resolve(&place.cloud).is_ok());
}

fn with(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Settings::load_with(None, variables.iter().map(own).collect::<Vec<_>>().into_iter())
}

#[test]
fn a_variable_that_misses_a_key_is_an_error_that_names_the_right_spelling() {
    for (wrong, right) in [
        ("GHOST_BRIDGE_PUBLISH__FETCH_SECS", "GHOST_BRIDGE__PUBLISH__FETCH_SECS"),
        ("GHOST_BRIDGE_PUBLISH_FETCH_SECS", "GHOST_BRIDGE__PUBLISH__FETCH_SECS"),
        ("GHOST_BRIDGE_publish__fetch_secs", "GHOST_BRIDGE__PUBLISH__FETCH_SECS"),
        ("GHOST_BRIDGE_HTTP_LISTEN", "GHOST_BRIDGE__HTTP__LISTEN"),
        ("GHOST_BRIDGE_CLOUD", "GHOST_BRIDGE__CLOUD"),
        ("GHOST_BRIDGE_TARGETS__My_App__ALLOW_DELETE", "GHOST_BRIDGE__TARGETS__My_App__ALLOW_DELETE"),
        ("GHOST_BRIDGE_TARGETS_MAIN_LIMITS_MAX_RUNTIME_MS", "GHOST_BRIDGE__TARGETS__MAIN__LIMITS__MAX_RUNTIME_MS"),
        ("GHOST_BRIDGE_PUBLISH__FETSCH", "call it like GHOST_BRIDGE__PUBLISH__FETCH_SECS"),
    ] {
        let line = with(&[(wrong, "1")]).unwrap_err().to_string();
        assert!(line.contains(wrong) && line.contains(right), "{line}");
        assert!(with(&[(wrong, "")]).unwrap().notes().is_empty(), "an empty one is not set");
    }
    let notes = with(&[("GHOST_BRIDGE_PUBLISHER", "x"), ("GHOST_BRIDGE_HOME", "y"), ("OTHER", "z")]).unwrap();
    assert_eq!(notes.notes().len(), 1);
    assert!(notes.notes()[0].contains("GHOST_BRIDGE_PUBLISHER is unknown"), "{:?}", notes.notes());
}

#[test]
fn where_overrides_are_listed_no_other_counts() {
    let (fetch, attempts) = ("GHOST_BRIDGE__PUBLISH__FETCH_SECS", "GHOST_BRIDGE__PUBLISH__ATTEMPTS");
    let set = [(fetch, "7"), (attempts, "8")];
    let both = with(&set).unwrap();
    assert_eq!((both.publish().fetch_secs, both.publish().attempts), (7, 8));
    let listed = |names: &str| with(&[set[0], set[1], ("GHOST_BRIDGE_OVERRIDES", names)]).unwrap();
    let one = listed(attempts);
    assert_eq!((one.publish().fetch_secs, one.publish().attempts), (5, 8));
    assert!(one.notes().len() == 1 && one.notes()[0].contains(fetch), "{:?}", one.notes());
    let none = listed("none");
    assert_eq!((none.publish().fetch_secs, none.publish().attempts, none.notes().len()), (5, 6, 2));
    let all = listed(&format!("{attempts} {fetch}"));
    assert_eq!((all.publish().fetch_secs, all.publish().attempts, all.notes().len()), (7, 8, 0));
}
