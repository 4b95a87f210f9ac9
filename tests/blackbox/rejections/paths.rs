//! Paths that no command may name, in ops and in checks.

use serde_json::json;

use super::Case;
use crate::harness::{Cloud, Doc};

/// Paths that lead out of the root, or could.
const LEXICAL_ESCAPES: [&str; 10] = [
    "../x.txt",
    "/etc/x.txt",
    "docs/../../x.txt",
    "docs/../x.txt",
    "docs//x.txt",
    "./x.txt",
    "docs/./x.txt",
    "docs/",
    "",
    "..",
];

/// Paths through a link, whether it leads out or not.
const LINKS: [&str; 4] = ["link-out/x.txt", "link-out/secret.txt", "link-in/x.txt", "leaf-link"];

/// Paths inside the root that are nobody's to touch.
const DENIED: [&str; 42] = [
    ".git/config",
    ".GIT/config",
    ".gitattributes",
    ".github/workflows/x.yml",
    "docs/.hidden",
    "docs/.git/x",
    "commands/x.json",
    "Commands/x.json",
    "meta/retries.json",
    "META/x",
    "results/x.json",
    "diffs/x.patch",
    "archive/x.json",
    "dead_letter/x.json",
    "logs/bridge.log",
    "commands",
    "docs\\x.txt",
    "C:/x.txt",
    "docs/a*.txt",
    "docs/a?.txt",
    "docs/a\"b",
    "docs/a<b",
    "docs/a>b",
    "docs/a|b",
    "docs/CON",
    "docs/nul.txt",
    "docs/com1.log",
    "docs/GITHUB~1",
    "docs/x.",
    "docs/x ",
    "docs/ x",
    "-rf/x",
    "~root/x",
    "docs/a\u{7}b",
    "docs/a\u{200b}b",
    "docs/a\u{202e}b",
    "docs/a\u{a0}b",
    "docs/\u{fb01}le.txt",
    "docs/e\u{301}.txt",
    "docs/A.TXT",
    "DOCS/x.txt",
    "bare/x.txt",
];

pub fn cases(cloud: &Cloud) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |reason, stage, document: Doc| {
        let id = format!("path-{:03}", cases.len());
        cases.push(Case { name: id.clone(), ..Case::signed(cloud, reason, stage, &document.with("id", json!(id))) });
    };
    let write = |path: &str| Doc::write("x", path, "x");
    LEXICAL_ESCAPES.iter().for_each(|path| add("path_escape", "policy", write(path)));
    let long_component = format!("docs/{}", "x".repeat(256));
    let long_path = ["d"; 2100].join("/");
    for path in DENIED.iter().copied().chain([long_component.as_str(), long_path.as_str()]) {
        // Whether a name has a twin, or a folder is a repository, only the tree can tell.
        let stage = if ["docs/A.TXT", "DOCS/x.txt", "bare/x.txt"].contains(&path) { "dry_run" } else { "policy" };
        add("path_denied", stage, write(path));
    }
    LINKS.iter().for_each(|path| add("path_escape", "dry_run", write(path)));

    let moving = |from: &str, to: &str| Doc::new("x", json!([{ "op": "moveFile", "from": from, "to": to }]));
    add("path_escape", "policy", moving("docs/a.txt", "../x.txt"));
    add("path_escape", "policy", moving("../outside/secret.txt", "docs/x.txt"));
    add("path_denied", "policy", moving(".gitignore", "docs/x.txt"));
    add("path_denied", "policy", moving("docs/a.txt", "commands/x.json"));
    add("path_escape", "dry_run", moving("leaf-link", "docs/x.txt"));
    add("path_escape", "dry_run", moving("link-out/secret.txt", "docs/x.txt"));
    let reading = json!([{ "op": "replaceText", "path": "link-out/secret.txt", "search": "outside", "replace": "x" }]);
    add("path_escape", "dry_run", Doc::new("x", reading));
    let constraints = json!({ "maxRuntimeMs": 10_000, "maxFilesChanged": 5 });
    let side = |document: Doc| document.on("SIDE").with("constraints", constraints.clone());
    add("path_denied", "policy", side(write("private/x.txt")));
    add("path_denied", "policy", side(write("PRIVATE/deep/x.txt")));
    add("path_denied", "policy", side(write("docs/x.lock")));
    add("path_escape", "policy", side(write("../cloud/README.md")));
    let deleting = |path: &str| Doc::new("x", json!([{ "op": "deleteFile", "path": path }]));
    add("path_denied", "policy", side(deleting("private/key.txt")));
    add("path_escape", "dry_run", side(deleting("leaf-link")));

    let diff = |text: &str| {
        let op = json!([{ "op": "applyDiff", "diff": text }]);
        Doc::new("x", op).with("patchType", json!("unified"))
    };
    let making = |name: &str| diff(&format!("--- /dev/null\n+++ {name}\n@@ -0,0 +1 @@\n+x\n"));
    let renaming = |to: &str| diff(&format!("diff --git a/docs/a.txt b/x\nrename from docs/a.txt\nrename to {to}\n"));
    add("path_escape", "policy", making("b/docs/../../x.txt"));
    add("path_escape", "policy", making("\"b/\\056\\056/x.txt\""));
    add("path_escape", "policy", renaming("/tmp/x.txt"));
    add("path_denied", "policy", making("\"b/\\056GIT/config\""));
    add("path_denied", "policy", renaming("commands/x.json"));
    add("path_denied", "policy", diff("diff --git a/docs/l b/docs/l\nnew file mode 120000\nindex 0000000..e69de29\n"));
    add("path_escape", "dry_run", making("b/link-out/x.txt"));
    add("path_escape", "dry_run", diff("diff --git a/leaf-link b/leaf-link\nold mode 100644\nnew mode 100755\n"));
    add("path_denied", "dry_run", making("b/headed/commondir"));

    let checking =
        |path: &str| write("docs/x.txt").with("validationPlan", json!([{ "check": "exists", "path": path }]));
    add("path_escape", "policy", checking("../outside/secret.txt"));
    add("path_denied", "policy", checking(".git/config"));
    add("path_denied", "policy", checking("meta/retries.json"));
    cases
}
