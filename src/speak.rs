//! Text to standard output. The one place that writes there, so that a reader who left
//! (`darner status | head -0`) ends the program quietly instead of with a panic.

use std::io::Write as _;

/// Writes a line that matters less than what goes on: nobody may be reading.
pub(crate) fn mention(line: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    // A node serves on when the terminal it was started from is gone.
    let _ = writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush());
}

/// Writes a line that is what was asked for.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}
