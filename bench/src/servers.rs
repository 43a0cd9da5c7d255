//! Servers that a benchmark starts beside itself: processes that say their port on their first line.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::{database::Bench, measure::Servers};

pub struct ServerProcess {
    child: Child,
    pub port: u16,
}

impl ServerProcess {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let out = child.stdout.take().expect("piped");
        let first = BufReader::new(out).lines().next().expect("a line").expect("text");
        let port = first.trim().parse().unwrap_or_else(|_| panic!("no port: {first}"));
        Self { child, port }
    }

    /// It and the processes it has started.
    pub fn ids(&self) -> Vec<u32> {
        let own = self.child.id();
        let tasks = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(tasks.split_whitespace().filter_map(|id| id.parse().ok())).collect()
    }

    pub fn processes(&self) -> Servers {
        Servers::Processes(self.ids())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The edges of the product with a mutation that does nothing; on these cores, or on all.
pub fn no_op(bench: &Bench, cores: Option<&str>) -> ServerProcess {
    let mut command = calibration(cores);
    command.arg("no-op").arg("--database").arg(&bench.url).arg("--keys").arg(bench.keys());
    ServerProcess::start(&mut command)
}

/// A route of axum.
pub fn plain(cores: Option<&str>) -> ServerProcess {
    ServerProcess::start(calibration(cores).arg("plain"))
}

/// Sockets that get the same bytes, so many frames in one send.
pub fn bare(cores: Option<&str>, frames_a_send: usize) -> ServerProcess {
    let mut command = calibration(cores);
    ServerProcess::start(command.args(["bare", "--frames-a-send", &frames_a_send.to_string()]))
}

fn calibration(cores: Option<&str>) -> Command {
    let program = std::env::current_exe().expect("this program").with_file_name("calibration");
    assert!(program.exists(), "{} is not there: build the whole workspace", program.display());
    on_cores(cores, program)
}

pub fn on_cores(cores: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    let Some(cores) = cores else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", cores]).arg(program);
    command
}

/// This process and all its threads, from now on.
pub fn stay_on(cores: &str) {
    let id = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", cores, &id])
        .stdout(Stdio::null())
        .status()
        .expect("taskset");
    assert!(status.success(), "taskset: {status}");
}
