//! Turns bytes into a verified command, or into the reason why not.
