//! `MariaDB`'s general log, switched on for a moment, as an answer to which statements the servers make. It needs the root of a server that
//! `scripts/services` has started.

use std::{fs, io, path::PathBuf, process::Command};

use crate::fleet::services;

pub struct GeneralLog {
    socket: PathBuf,
    file: PathBuf,
}

/// Statements executed while it was on.
pub struct Counted {
    pub all: u32,
    /// That read rows of messages.
    pub of_messages: u32,
}

impl GeneralLog {
    pub fn start() -> io::Result<Self> {
        let folder = services().join("mariadb");
        let log = Self { socket: folder.join("s.sock"), file: folder.join("general.log") };
        let file = log.file.display();
        log.ask(&format!("SET GLOBAL log_output = 'FILE', general_log_file = '{file}', general_log = ON"))?;
        Ok(log)
    }

    pub fn stop(self) -> io::Result<Counted> {
        self.ask("SET GLOBAL general_log = OFF")?;
        let text = String::from_utf8_lossy(&fs::read(&self.file)?).into_owned();
        fs::remove_file(&self.file)?;
        let mut counted = Counted { all: 0, of_messages: 0 };
        for statement in text.lines().filter_map(|line| {
            // A prepared statement is executed, another one is a query.
            line.split_once("Execute\t").or_else(|| line.split_once("Query\t"))
        }) {
            counted.all += 1;
            let read = statement.1.starts_with("SELECT") && statement.1.contains(" FROM message ");
            counted.of_messages += u32::from(read);
        }
        Ok(counted)
    }

    fn ask(&self, sql: &str) -> io::Result<()> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-uroot", "-e", sql]).arg("-S").arg(&self.socket);
        let output = command.output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    }
}
