//! The ops and checks of a command, as the document spells them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Sha256;
use crate::json::Value;
use crate::reason::Verdict;
use crate::schema::{Fields, fault, quote};

/// The ops' names in documents and results.
pub const OP_NAMES: [&str; 8] =
    ["noop", "writeFile", "moveFile", "deleteFile", "replaceText", "insertText", "applyDiff", "applyPatch"];
/// The ops whose files stand in the text of a patch.
const PATCH_NAMES: [&str; 2] = ["applyDiff", "applyPatch"];
/// The checks' names in documents and results.
pub const CHECK_NAMES: [&str; 5] = ["exists", "absent", "sha256", "json", "run"];

/// Which ops a command may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// All but `applyDiff` and `applyPatch`.
    Ops,
    /// Only `applyDiff` and `applyPatch`.
    Unified,
    /// All.
    Hybrid,
}

impl PatchType {
    /// Reads the contract's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ops" => Some(Self::Ops),
            "unified" => Some(Self::Unified),
            "hybrid" => Some(Self::Hybrid),
            _ => None,
        }
    }

    /// The contract's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ops => "ops",
            Self::Unified => "unified",
            Self::Hybrid => "hybrid",
        }
    }
}

/// What an author allows a command to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create or change files.
    WriteFile,
    /// Move files.
    MoveFile,
    /// Delete files.
    DeleteFile,
}

impl Action {
    /// Reads the contract's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "writeFile" => Some(Self::WriteFile),
            "moveFile" => Some(Self::MoveFile),
            "deleteFile" => Some(Self::DeleteFile),
            _ => None,
        }
    }

    /// The contract's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteFile => "writeFile",
            Self::MoveFile => "moveFile",
            Self::DeleteFile => "deleteFile",
        }
    }
}

/// How a `writeFile` spells its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The string's UTF-8 bytes.
    Utf8,
    /// Standard base64 with padding.
    Base64,
}

/// The two modes that git keeps for a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileMode {
    /// `0644`.
    Regular,
    /// `0755`.
    Executable,
}

impl FileMode {
    /// The permission bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Regular => 0o644,
            Self::Executable => 0o755,
        }
    }

    /// The mode as git writes it in a diff: `100644`.
    #[must_use]
    pub const fn git(self) -> &'static str {
        match self {
            Self::Regular => "100644",
            Self::Executable => "100755",
        }
    }
}

/// What must be true of a file before anything changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It is there, with this content.
    Sha256(Sha256),
    /// Nothing is there.
    Absent,
}

/// How often a text must occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Exactly so often.
    Exactly(u64),
    /// At least once.
    All,
}

/// What must be true of the files of a patch before anything changes: path and precondition, in the order of the paths.
pub type Expectations = Vec<(String, Expect)>;

/// One step of a mutation. Paths are text as the document spells them.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Nothing.
    Noop,
    /// Creates a file, or replaces its content.
    WriteFile {
        /// The file.
        path: String,
        /// The decoded content.
        content: Vec<u8>,
        /// How the document spelled it.
        encoding: Encoding,
        /// The mode; `None` keeps an existing file's, and is `0644` for a new one.
        mode: Option<FileMode>,
        /// Precondition on `path`.
        expect: Option<Expect>,
    },
    /// Moves a file.
    MoveFile {
        /// From here,
        from: String,
        /// to there.
        to: String,
        /// Whether a file at `to` may be replaced.
        overwrite: bool,
        /// Precondition on `from`.
        expect: Option<Expect>,
    },
    /// Deletes a file.
    DeleteFile {
        /// The file.
        path: String,
        /// Precondition on `path`.
        expect: Option<Expect>,
    },
    /// Replaces each occurrence of a text.
    ReplaceText {
        /// The file.
        path: String,
        /// What to find; not empty.
        search: String,
        /// What to put in its place.
        replace: String,
        /// How often `search` must occur.
        count: Times,
        /// The line on which the one that is meant begins, from 1; then others may occur.
        line: Option<u64>,
        /// Precondition on `path`.
        expect: Option<Expect>,
    },
    /// Inserts lines after a line.
    InsertText {
        /// The file.
        path: String,
        /// The line after which, from 1; 0 is the file's start.
        line: u64,
        /// What to insert.
        text: String,
        /// The text of that line, without what ends it.
        anchor: Option<String>,
        /// Precondition on `path`.
        expect: Option<Expect>,
    },
    /// Applies a unified diff of any number of files.
    ApplyDiff {
        /// The diff's text.
        diff: String,
        /// Preconditions on its files.
        expect: Expectations,
    },
    /// Applies a patch from `*** Begin Patch` to `*** End Patch`, of any number of files.
    ApplyPatch {
        /// The patch's text.
        patch: String,
        /// Preconditions on its files.
        expect: Expectations,
    },
}

impl Op {
    /// The op's name in documents and results.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::WriteFile { .. } => "writeFile",
            Self::MoveFile { .. } => "moveFile",
            Self::DeleteFile { .. } => "deleteFile",
            Self::ReplaceText { .. } => "replaceText",
            Self::InsertText { .. } => "insertText",
            Self::ApplyDiff { .. } => "applyDiff",
            Self::ApplyPatch { .. } => "applyPatch",
        }
    }

    /// What `allowedActions` must name for this op; `None` is always allowed. What a patch needs stands in the patch,
    /// and policy finds it there.
    #[must_use]
    pub const fn action(&self) -> Option<Action> {
        match self {
            Self::Noop | Self::ApplyDiff { .. } | Self::ApplyPatch { .. } => None,
            Self::WriteFile { .. } | Self::ReplaceText { .. } | Self::InsertText { .. } => Some(Action::WriteFile),
            Self::MoveFile { .. } => Some(Action::MoveFile),
            Self::DeleteFile { .. } => Some(Action::DeleteFile),
        }
    }

    pub(super) fn read(pointer: &str, value: &Value, patch_type: PatchType) -> Result<Self, Verdict> {
        let fields = Fields::of(pointer.to_owned(), value)?;
        let name = fields.string("op")?;
        let is_diff = PATCH_NAMES.contains(&name);
        let misfit = match patch_type {
            PatchType::Ops if is_diff => {
                Some("patchType \"ops\" allows every op but applyDiff and applyPatch; use \"unified\" or \"hybrid\"")
            }
            PatchType::Unified if !is_diff => {
                Some("patchType \"unified\" allows only applyDiff and applyPatch; use \"ops\" or \"hybrid\"")
            }
            _ => None,
        };
        if !OP_NAMES.contains(&name) {
            let known = OP_NAMES.join(", ");
            return Err(fault(&fields.at("op"), format!("must be one of {known}, found {}", quote(name))));
        }
        if let Some(misfit) = misfit {
            return Err(fault(&fields.at("op"), misfit));
        }
        match name {
            "noop" => fields.only(&["op"]).map(|()| Self::Noop),
            "writeFile" => write_file(&fields),
            "moveFile" => move_file(&fields),
            "deleteFile" => {
                fields.only(&["op", "path", "expect"])?;
                Ok(Self::DeleteFile { path: fields.string("path")?.to_owned(), expect: expect(&fields)? })
            }
            "replaceText" => replace_text(&fields),
            "insertText" => insert_text(&fields),
            "applyPatch" => {
                fields.only(&["op", "patch", "expect"])?;
                Ok(Self::ApplyPatch { patch: fields.string("patch")?.to_owned(), expect: expectations(&fields)? })
            }
            _ => {
                fields.only(&["op", "diff", "expect"])?;
                Ok(Self::ApplyDiff { diff: fields.string("diff")?.to_owned(), expect: expectations(&fields)? })
            }
        }
    }
}

fn write_file(fields: &Fields<'_>) -> Result<Op, Verdict> {
    fields.only(&["op", "path", "content", "encoding", "mode", "expect"])?;
    let encoding = match fields.optional_string("encoding")? {
        None | Some("utf-8") => Encoding::Utf8,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            return Err(fault(&fields.at("encoding"), format!("must be utf-8 or base64, found {}", quote(other))));
        }
    };
    let text = fields.string("content")?;
    let content = match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Base64 => STANDARD
            .decode(text)
            .map_err(|error| fault(&fields.at("content"), format!("is no standard base64 with padding: {error}")))?,
    };
    let mode = match fields.optional_string("mode")? {
        None => None,
        Some("0644") => Some(FileMode::Regular),
        Some("0755") => Some(FileMode::Executable),
        Some(other) => {
            return Err(fault(&fields.at("mode"), format!("must be \"0644\" or \"0755\", found {}", quote(other))));
        }
    };
    Ok(Op::WriteFile { path: fields.string("path")?.to_owned(), content, encoding, mode, expect: expect(fields)? })
}

fn move_file(fields: &Fields<'_>) -> Result<Op, Verdict> {
    fields.only(&["op", "from", "to", "overwrite", "expect"])?;
    Ok(Op::MoveFile {
        from: fields.string("from")?.to_owned(),
        to: fields.string("to")?.to_owned(),
        overwrite: fields.flag("overwrite")?,
        expect: expect(fields)?,
    })
}

fn replace_text(fields: &Fields<'_>) -> Result<Op, Verdict> {
    fields.only(&["op", "path", "search", "replace", "count", "line", "expect"])?;
    let search = fields.string("search")?.to_owned();
    if search.is_empty() {
        return Err(fault(&fields.at("search"), "must not be empty"));
    }
    let count = match fields.get("count") {
        Some(Value::String(text)) if text == "all" => Times::All,
        Some(Value::String(text)) => {
            return Err(fault(&fields.at("count"), format!("must be a number or \"all\", found {}", quote(text))));
        }
        _ => Times::Exactly(fields.optional_whole("count", 1)?.unwrap_or(1)),
    };
    let line = fields.optional_whole("line", 1)?;
    if line.is_some() && count != Times::Exactly(1) {
        return Err(fault(&fields.at("line"), "names the one place that is meant, so that count must be 1"));
    }
    Ok(Op::ReplaceText {
        path: fields.string("path")?.to_owned(),
        search,
        replace: fields.string("replace")?.to_owned(),
        count,
        line,
        expect: expect(fields)?,
    })
}

fn insert_text(fields: &Fields<'_>) -> Result<Op, Verdict> {
    fields.only(&["op", "path", "line", "text", "anchor", "expect"])?;
    let line = fields.whole("line", 0)?;
    let anchor = fields.optional_string("anchor")?.map(str::to_owned);
    let expect = expect(fields)?;
    if anchor.is_none() && !matches!(expect, Some(Expect::Sha256(_))) {
        let what = "anchor (the text of that line) or expect.sha256 must say that the line is the right one";
        return Err(fault(&fields.at("line"), what));
    }
    if anchor.is_some() && line == 0 {
        return Err(fault(&fields.at("anchor"), "line 0 is the file's start and has no text; use expect.sha256"));
    }
    if anchor.as_deref().is_some_and(|text| text.contains('\n')) {
        return Err(fault(&fields.at("anchor"), "must be one line, without its newline"));
    }
    let (path, text) = (fields.string("path")?.to_owned(), fields.string("text")?.to_owned());
    Ok(Op::InsertText { path, line, text, anchor, expect })
}

fn expect(fields: &Fields<'_>) -> Result<Option<Expect>, Verdict> {
    fields.get("expect").map(|value| expectation(fields.at("expect"), value)).transpose()
}

fn expectation(pointer: String, value: &Value) -> Result<Expect, Verdict> {
    let expect = Fields::of(pointer.clone(), value)?;
    expect.only(&["sha256", "absent"])?;
    match (expect.get("sha256"), expect.get("absent")) {
        (Some(_), None) => hex(&expect, "sha256").map(Expect::Sha256),
        (None, Some(Value::Bool(true))) => Ok(Expect::Absent),
        _ => Err(fault(&pointer, "must be {\"sha256\": hex} or {\"absent\": true}")),
    }
}

/// Preconditions by path.
fn expectations(fields: &Fields<'_>) -> Result<Expectations, Verdict> {
    let Some(value) = fields.get("expect") else { return Ok(Vec::new()) };
    let pointer = fields.at("expect");
    let Value::Object(object) = value else {
        return Err(fault(&pointer, "must be an object: {\"path\": {\"sha256\": hex} or {\"absent\": true}}"));
    };
    let paths = Fields::new(pointer, object);
    object.iter().map(|(path, value)| Ok((path.clone(), expectation(paths.at(path), value)?))).collect()
}

fn hex(fields: &Fields<'_>, key: &str) -> Result<Sha256, Verdict> {
    let text = fields.string(key)?;
    Sha256::from_hex(text)
        .ok_or_else(|| fault(&fields.at(key), format!("must be 64 hex digits, found {}", quote(text))))
}

/// Something that must hold after the mutation. Paths are text as the document spells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A regular file is there.
    Exists {
        /// The file.
        path: String,
    },
    /// Nothing is there.
    Absent {
        /// The place.
        path: String,
    },
    /// A file has this content.
    Sha256 {
        /// The file.
        path: String,
        /// Its hash.
        equals: Sha256,
    },
    /// A file parses as JSON.
    Json {
        /// The file.
        path: String,
    },
    /// A program that the bridge's operator configured ends well. The document names it and nothing more.
    Run {
        /// The configuration's name for it.
        name: String,
    },
}

impl Check {
    /// The check's name in documents and results.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "exists",
            Self::Absent { .. } => "absent",
            Self::Sha256 { .. } => "sha256",
            Self::Json { .. } => "json",
            Self::Run { .. } => "run",
        }
    }

    pub(super) fn read(pointer: &str, value: &Value) -> Result<Self, Verdict> {
        let fields = Fields::of(pointer.to_owned(), value)?;
        let path = || fields.string("path").map(str::to_owned);
        match fields.string("check")? {
            "exists" => fields.only(&["check", "path"]).and_then(|()| Ok(Self::Exists { path: path()? })),
            "absent" => fields.only(&["check", "path"]).and_then(|()| Ok(Self::Absent { path: path()? })),
            "json" => fields.only(&["check", "path"]).and_then(|()| Ok(Self::Json { path: path()? })),
            "sha256" => {
                fields.only(&["check", "path", "equals"])?;
                Ok(Self::Sha256 { path: path()?, equals: hex(&fields, "equals")? })
            }
            "run" => {
                fields.only(&["check", "name"])?;
                Ok(Self::Run { name: fields.string("name")?.to_owned() })
            }
            other => Err(fault(
                &fields.at("check"),
                format!("must be one of exists, absent, sha256, json, run, found {}", quote(other)),
            )),
        }
    }
}
