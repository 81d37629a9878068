//! `s3gpu completions` and `s3gpu man`: what a shell and `man` want to know of the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::{Error, Result};
use crate::files::write_atomic;

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell; put the output where that shell looks, e.g. ~/.local/share/bash-completion/completions/s3gpu
    shell: Shell,
}

#[derive(Args)]
pub(super) struct ManArgs {
    /// Folder for the pages, one for each command
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "s3gpu", &mut text);
    say!("{}", String::from_utf8_lossy(&text).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs, command: Command) -> Result<ExitCode> {
    std::fs::create_dir_all(&args.out).map_err(Error::io(&args.out, "create"))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let count = pages(&command, &args.out, "s3gpu")?;
    say!("{count} pages in {}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command and those of its commands; returns how many.
fn pages(command: &Command, out: &Path, name: &str) -> Result<usize> {
    let path = out.join(format!("{name}.1"));
    let page = Man::new(command.clone().display_name(name.to_string()));
    write_atomic(&path, |file| page.render(&mut &mut *file))?;
    let mut count = 1;
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        count += pages(sub, out, &format!("{name}-{}", sub.get_name()))?;
    }
    Ok(count)
}
