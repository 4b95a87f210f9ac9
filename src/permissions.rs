//! What new files allow whom.

use rustix::fs::Mode;
use rustix::process::umask;

/// Sees to it that nothing which this process or its children make can be written by others, or by the group: whoever
/// can write to CLOUD or its `.git` could change the record. What the umask takes away already stays taken away. A
/// repository that git is to share with a group (`core.sharedRepository`) is git's business, which sets modes by hand.
///
/// To be called while there is one thread: a umask can only be read by setting it.
pub fn withhold_writing() {
    let others = Mode::WGRP | Mode::WOTH;
    let before = umask(others);
    umask(before | others);
}
