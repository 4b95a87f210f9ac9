//! `ghost-bridge completions`: prints what a shell needs to complete the command line.

use clap_complete::Shell;

use crate::exit::{Failure, print};

const TEACH: &str = "\
Examples:
  ghost-bridge completions bash > ~/.local/share/bash-completion/completions/ghost-bridge
  ghost-bridge completions zsh > ~/.zfunc/_ghost-bridge          (with ~/.zfunc in fpath)
  ghost-bridge completions fish > ~/.config/fish/completions/ghost-bridge.fish";

/// The command line of `completions`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = TEACH)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints them.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &Args, mut command: clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "ghost-bridge", &mut script);
    print(&String::from_utf8_lossy(&script))
}
