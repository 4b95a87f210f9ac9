//! Takes variables out of the process's environment so that nothing of them stays behind.
//!
//! `remove_var` alone only unlinks a variable: the block that the kernel laid out at `execve` keeps its bytes, and
//! `/proc/<pid>/environ` goes on showing them. So the bytes are overwritten first. Unsafe code
//! is only here and in `manager::inherited`.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt as _;

unsafe extern "C" {
    /// The C library's environment: null, or a null-terminated array of `NAME=value` strings.
    static environ: *const *mut c_char;
}

/// Overwrites the values of the variables `names`, every occurrence, and removes them.
///
/// # Safety
/// No other thread may exist yet: the environment is read and written without any lock.
pub unsafe fn wipe(names: &[OsString]) {
    // SAFETY: the caller guarantees that nobody else touches the environment, so the array and its strings stay valid
    // and unchanged but for our own writes.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            wipe_entry(*entry, names);
            entry = entry.add(1);
        }
        for name in names {
            std::env::remove_var(name);
        }
    }
}

/// Zeroes the value of one `NAME=value` string if its name is in `names`.
///
/// # Safety
/// `entry` must point to a writable NUL-terminated string that nobody else uses meanwhile.
unsafe fn wipe_entry(entry: *mut c_char, names: &[OsString]) {
    // SAFETY: guaranteed by the caller; the borrow ends before the first write.
    let (length, start) = {
        let bytes = unsafe { CStr::from_ptr(entry) }.to_bytes();
        let value_at = |name: &OsString| {
            bytes.strip_prefix(name.as_bytes())?.first().filter(|b| **b == b'=').map(|_| name.len() + 1)
        };
        let Some(start) = names.iter().find_map(value_at) else { return };
        (bytes.len(), start)
    };
    for index in start..length {
        // SAFETY: `index` lies before the string's NUL. A volatile write is not optimised away although nobody reads it.
        unsafe { entry.add(index).write_volatile(0) };
    }
}
