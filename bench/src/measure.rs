//! Clocks: wall time, CPU time of this process and of the database server, latencies.

use std::{fs, time::Duration};

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// What one round of one side took.
#[derive(Clone, Debug)]
pub struct Round {
    pub operations: usize,
    pub elapsed: Duration,
    pub cpu: Duration,
    pub server_cpu: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

impl Round {
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
        let operations = self.operations as f64;
        operations / self.elapsed.as_secs_f64()
    }

    pub fn cpu_micros(&self) -> f64 {
        self.per_operation(self.cpu)
    }

    pub fn server_cpu_micros(&self) -> f64 {
        self.per_operation(self.server_cpu)
    }

    fn per_operation(&self, cpu: Duration) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
        let operations = self.operations as f64;
        cpu.as_secs_f64() * 1e6 / operations
    }
}

pub struct Stopwatch {
    started: Instant,
    cpu: Duration,
    server_cpu: Duration,
    servers: Servers,
}

/// Whose CPU time stands beside this process's own.
#[derive(Clone, Debug)]
pub enum Servers {
    /// All of this name, or none.
    Named(Option<&'static str>),
    Processes(Vec<u32>),
    All(Vec<Self>),
}

impl From<Option<&'static str>> for Servers {
    fn from(name: Option<&'static str>) -> Self {
        Self::Named(name)
    }
}

impl Servers {
    /// The processes that there are now, which is quicker to ask again.
    pub fn of_now(&self) -> Self {
        match self {
            Self::Named(name) => Self::Processes(name.map(processes_named).unwrap_or_default()),
            Self::Processes(ids) => Self::Processes(ids.clone()),
            Self::All(all) => Self::All(all.iter().map(Self::of_now).collect()),
        }
    }
}

impl Stopwatch {
    /// How many cores the servers have used in the mean.
    pub fn cores_of_servers(&self) -> f64 {
        let used = server_cpu(&self.servers).saturating_sub(self.server_cpu);
        used.as_secs_f64() / self.started.elapsed().as_secs_f64()
    }

    pub fn start(servers: impl Into<Servers>) -> Self {
        let servers = servers.into();
        Self { started: Instant::now(), cpu: cpu_of("self"), server_cpu: server_cpu(&servers), servers }
    }

    /// As [`Stopwatch::stop`] for latencies in microseconds, which are put in order after the clocks have stopped.
    pub fn stop_with(self, operations: usize, latencies: impl IntoIterator<Item = u64>) -> Round {
        let round = self.stop(operations, &histogram());
        let mut sorted = histogram();
        latencies.into_iter().for_each(|micros| sorted.saturating_record(micros));
        let at = |quantile| Duration::from_micros(sorted.value_at_quantile(quantile));
        Round { p50: at(0.5), p99: at(0.99), ..round }
    }

    pub fn stop(self, operations: usize, latencies: &Histogram<u64>) -> Round {
        Round {
            operations,
            elapsed: self.started.elapsed(),
            cpu: cpu_of("self").saturating_sub(self.cpu),
            server_cpu: server_cpu(&self.servers).saturating_sub(self.server_cpu),
            p50: Duration::from_micros(latencies.value_at_quantile(0.5)),
            p99: Duration::from_micros(latencies.value_at_quantile(0.99)),
        }
    }
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 3).expect("a minute in microseconds, to three digits")
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// User and system time, in clock ticks of 10 ms on Linux.
fn cpu_of(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn server_cpu(servers: &Servers) -> Duration {
    match servers.of_now() {
        Servers::Processes(ids) => ids.iter().map(|id| cpu_of(&id.to_string())).sum(),
        Servers::All(all) => all.iter().map(server_cpu).sum(),
        Servers::Named(_) => Duration::ZERO,
    }
}

fn processes_named(name: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id: &u32| {
            fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .collect()
}
