#![allow(clippy::unwrap_used)]

use super::*;

fn variable(name: &str) -> Option<String> {
    let known = [("HOME", "/home/op"), ("TOOLS", "/srv/cloud/tools"), ("TOKEN", "ab/cd"), ("OWN", "/opt/own")];
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn fences() -> Fences {
    let (cloud, site) = (PathBuf::from("/srv/cloud"), PathBuf::from("/srv/site"));
    Fences { git_dirs: vec![cloud.join(".git")], targets: vec![cloud.clone(), site], cloud }
}

fn judged(lines: &[&str], hooks: bool) -> Result<(), String> {
    let listing: String =
        lines.iter().map(|line| format!("file:.git/config\0{}\0", line.replacen('=', "\n", 1))).collect();
    let settings = Settings::parse(listing.as_bytes(), Path::new("/srv/cloud"));
    judge(&settings, &fences(), hooks, &variable).map_err(|danger| format!("{}: {}", danger.what, danger.why))
}

#[test]
fn programs_where_others_write_are_refused_however_they_are_named() {
    let wrong = [
        "/srv/cloud/ask",
        "./ask",
        "tools/ask --now",
        "../cloud/ask",
        "/opt/../srv/site/ask",
        "~/../../srv/cloud/ask",
        "~other/ask",
        "!f() { /srv/cloud/ask; }; f",
        "!sh ask.sh",
        "!X=1 sh -e ask.sh",
        "!bash -c './ask'",
        "!bash -c 'sh ask'",
        "!python3 -m ask",
        "!python3.12 ask.py",
        "!pwsh ask.ps1",
        "ssh -F conf",
        "ssh -Fconf",
        "!. ask",
        "!$TOOLS/ask",
        "!${TOOLS}/ask",
        "!x=ask; $x",
        "!cat $1/ask",
        "!$(cat /srv/site/ask)",
        "!`tools/ask`",
        "ssh -F/srv/cloud/x",
        "ssh -o ProxyCommand='/srv/site/proxy %h'",
        "env /srv/cloud/ask",
    ];
    for value in wrong {
        for key in ["core.sshcommand", "credential.https://example.org.helper", "remote.x.uploadpack"] {
            let line = format!("{key}={value}");
            let said = judged(&[&line], false).unwrap_err();
            assert!(said.starts_with(&format!("{key} in /srv/cloud/.git/config: ")), "{line}: {said}");
        }
    }
}

#[test]
fn programs_that_lie_elsewhere_are_left_alone() {
    let right = [
        "store",
        "cache --timeout 3600",
        "store --file ~/.git-credentials",
        "!gh auth git-credential",
        "!/opt/bin/ask get \"$@\"",
        "!f() { echo username=x; echo \"password=$TOKEN\"; }; f",
        "!f() { test \"$1\" = get && echo password=${NOWHERE:-x}; }; f",
        "!$OWN/ask",
        "ssh -i ~/.ssh/id -o BatchMode=yes -p 22",
        "ssh -o ProxyCommand='nc -x proxy:1080 %h %p'",
        "!bash -c 'gh auth git-credential'",
        "!python3 /opt/ask.py",
        "!python3.12 /opt/ask.py",
        "ssh -F /etc/ssh/other -i key",
        "/srv/cloudy/ask",
        "/srv/site/.direnv/ask",
        "/srv/cloud/.git/ask",
        "/mnt/c/Program\\ Files/Git/mingw64/bin/git-credential-manager.exe",
        "!aws --endpoint https://example.org/srv/cloud credential-helper $@",
    ];
    for value in right {
        assert_eq!(judged(&[&format!("credential.helper={value}")], false), Ok(()), "{value}");
    }
}

#[test]
fn what_is_run_without_a_shell_may_have_spaces_in_its_path() {
    for key in ["core.askpass", "gpg.program", "gpg.ssh.program"] {
        for value in ["/opt/Visual Studio Code/ask pass.sh", "gpg2", "~/my bin/ask"] {
            assert_eq!(judged(&[&format!("{key}={value}")], false), Ok(()), "{key}={value}");
        }
        for value in ["/srv/cloud/ask", "./ask", "my bin/ask", "/opt/../srv/site/an ask"] {
            assert!(judged(&[&format!("{key}={value}")], false).is_err(), "{key}={value}");
        }
    }
    assert!(judged(&["credential.helper=/opt/a\\\\ ./ask"], false).is_err(), "two words to a shell");
}

#[test]
fn includes_hooks_and_addresses_have_to_lie_elsewhere() {
    for line in ["include.path=../team.gitconfig", "includeif.onbranch:x.path=/srv/site/config"] {
        assert!(judged(&[line], false).is_err(), "{line}");
    }
    assert_eq!(judged(&["include.path=more", "includeif.gitdir:x.path=~/.work"], false), Ok(()));
    assert_eq!(judged(&["core.hookspath=.husky"], false), Ok(()), "they do not run");
    assert!(judged(&["core.hookspath=.husky"], true).is_err());
    assert_eq!(judged(&["core.hookspath=.git/hooks", "core.hookspath=/opt/hooks"], true), Ok(()));
    for url in ["sub/r.git", "/srv/cloud/r.git", "file:///srv/cloud/r.git", "ext::sh -c ./x", "ext::/srv/site/x"] {
        assert!(judged(&[&format!("remote.origin.url={url}")], false).is_err(), "{url}");
    }
    for url in ["../r.git", "/srv/r.git", "git@host:srv/cloud", "https://host/x", "ssh://host/srv/cloud"] {
        assert_eq!(judged(&[&format!("remote.origin.url={url}")], false), Ok(()), "{url}");
    }
    let rewritten = ["remote.origin.url=c:r.git", "url./srv/clou.insteadof=c:", "url./srv/cloud/.pushinsteadof=c:"];
    assert!(judged(&rewritten, false).is_err());
}

#[test]
fn what_is_used_of_no_child_is_left_alone() {
    let unused = TABLE.iter().filter(|(_, rule)| *rule == Rule::Unused).map(|(key, _)| key.replace('*', "x"));
    for key in unused {
        assert_eq!(judged(&[&format!("{key}=./x")], false), Ok(()), "{key}");
    }
}

#[test]
fn variables_are_judged_as_settings_are() {
    let ask = |name: &'static str, value: &'static str| {
        let given = move |asked: &str| if asked == name { Some(value.to_owned()) } else { None };
        judge(&Settings::default(), &fences(), false, &given).map_err(|danger| danger.what)
    };
    for (name, value) in [
        ("GIT_SSH_COMMAND", "./ssh"),
        ("GIT_ASKPASS", "/srv/site/ask"),
        ("HOME", "/srv/cloud"),
        ("GIT_CONFIG_GLOBAL", "/srv/site/gitconfig"),
    ] {
        assert_eq!(ask(name, value), Err(format!("the variable {name}")));
    }
    assert_eq!(ask("GIT_ASKPASS", "/Applications/Visual Studio Code.app/Contents/askpass.sh"), Ok(()));
    assert_eq!((ask("HOME", "/srv/site"), ask("GIT_SSH", "/opt/ssh")), (Ok(()), Ok(())));
}
