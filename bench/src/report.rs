//! Tables, JSON, a picture, and the page of last results.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::measure::Round;

/// What the ratio is held against.
pub struct Target {
    pub reach: f64,
    /// `None` where it is held against another line; see [`Report::dream_against`].
    pub dream: Option<f64>,
    /// Bounds on the 99th percentile: to reach, to dream of.
    pub p99_millis: Option<(f64, f64)>,
}

struct Series {
    label: String,
    rounds: Vec<Round>,
}

pub struct Report {
    name: &'static str,
    title: &'static str,
    calibration: Option<Series>,
    measured: Option<Series>,
    others: Vec<Series>,
    target: Option<Target>,
    notes: Vec<String>,
    compared: Compared,
}

/// What the ratio is of; for all but rates smaller is better.
#[derive(Clone, Copy)]
enum Compared {
    Rates,
    Latencies,
    ServerCpu,
    Elapsed,
}

impl Report {
    pub fn new(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            calibration: None,
            measured: None,
            others: Vec::new(),
            target: None,
            notes: Vec::new(),
            compared: Compared::Rates,
        }
    }

    pub fn calibration(&mut self, label: &str, round: Round) {
        add(self.calibration.get_or_insert_with(|| Series::new(label)), round);
    }

    pub fn measured(&mut self, label: &str, round: Round) {
        add(self.measured.get_or_insert_with(|| Series::new(label)), round);
    }

    /// Another line for comparison.
    pub fn also(&mut self, label: &str, round: Round) {
        match self.others.iter_mut().find(|series| series.label == label) {
            Some(series) => add(series, round),
            None => self.others.push(Series { label: label.to_owned(), rounds: vec![round] }),
        }
    }

    pub fn target(&mut self, target: Target) {
        self.target = Some(target);
    }

    /// The ratio is of 99th percentiles.
    pub fn compare_latency(&mut self) {
        self.compared = Compared::Latencies;
    }

    /// The ratio is of what an operation takes of the servers' CPU.
    pub fn compare_server_cpu(&mut self) {
        self.compared = Compared::ServerCpu;
    }

    /// The ratio is of the time that a round took.
    pub fn compare_elapsed(&mut self) {
        self.compared = Compared::Elapsed;
    }

    /// Another ratio of 99th percentiles, as a note.
    pub fn note_ratio(&mut self, name: &str, measured: &str, calibration: &str) {
        let find = |label: &str| self.others.iter().find(|series| series.label == label);
        let (Some(mine), Some(raw)) = (find(measured), find(calibration)) else { return };
        let ratio = median(
            mine.rounds.iter().zip(&raw.rounds).map(|(a, b)| a.p99.as_secs_f64() / b.p99.as_secs_f64()),
        );
        self.note(format!("{name}: ratio {ratio:.2}."));
    }

    /// The ratio of rates to another line, which is what the dream is held against.
    pub fn dream_against(&mut self, label: &str, dream: f64) {
        let other = self.others.iter().find(|series| series.label == label);
        let (Some(measured), Some(other)) = (&self.measured, other) else { return };
        let ratio =
            median(measured.rounds.iter().zip(&other.rounds).map(|(mine, raw)| mine.rate() / raw.rate()));
        self.note(format!("**Ratio {ratio:.2}** to {label} (dream {dream})."));
    }

    /// Another ratio of rates, as a note.
    pub fn note_rates(&mut self, measured: &str, calibration: &str) {
        if let Some(ratio) = self.ratio_of(measured, calibration, |mine, raw| mine.rate() / raw.rate()) {
            self.note(format!("{measured}: ratio {ratio:.2}."));
        }
    }

    /// How many times as many operations, and how many times less CPU of the servers for each.
    pub fn note_times(&mut self, measured: &str, other: &str) {
        let rates = self.ratio_of(measured, other, |mine, theirs| mine.rate() / theirs.rate());
        let cpu = |mine: &Round, theirs: &Round| theirs.server_cpu_micros() / mine.server_cpu_micros();
        if let (Some(rates), Some(cpu)) = (rates, self.ratio_of(measured, other, cpu)) {
            self.note(format!("{measured} against {other}: {rates:.1} × the rate, {cpu:.1} × less CPU."));
        }
    }

    fn ratio_of(&self, measured: &str, other: &str, ratio: impl Fn(&Round, &Round) -> f64) -> Option<f64> {
        let find = |label: &str| self.lines().find(|series| series.label == label);
        let (mine, theirs) = (find(measured)?, find(other)?);
        Some(median(mine.rounds.iter().zip(&theirs.rounds).map(|(mine, theirs)| ratio(mine, theirs))))
    }

    /// How much less CPU the servers of the calibration take for an operation: what the ratio of rates would be if clients cost nothing.
    pub fn note_server_cpu(&mut self) {
        let (Some(measured), Some(calibration)) = (&self.measured, &self.calibration) else { return };
        let both = measured.rounds.iter().zip(&calibration.rounds);
        let ratio = median(both.map(|(mine, raw)| raw.server_cpu_micros() / mine.server_cpu_micros()));
        self.note(format!("By the servers' CPU time alone the ratio is {ratio:.2}."));
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The median over the rounds of measured to calibration.
    fn ratio(&self) -> f64 {
        let (Some(measured), Some(calibration)) = (&self.measured, &self.calibration) else { return 0.0 };
        let value = |round: &Round| match self.compared {
            Compared::Rates => round.rate(),
            Compared::Latencies => round.p99.as_secs_f64(),
            Compared::ServerCpu => round.server_cpu_micros(),
            Compared::Elapsed => round.elapsed.as_secs_f64(),
        };
        median(measured.rounds.iter().zip(&calibration.rounds).map(|(mine, raw)| value(mine) / value(raw)))
    }

    fn lines(&self) -> impl Iterator<Item = &Series> {
        self.calibration.iter().chain(&self.others).chain(&self.measured)
    }

    fn table(&self) -> String {
        let mut text = String::from(
            "| | ops/s | CPU µs/op | server CPU µs/op | p50 ms | p99 ms |\n|---|---|---|---|---|---|\n",
        );
        for series in self.lines() {
            let of = |value: fn(&Round) -> f64| median(series.rounds.iter().map(value));
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.1} | {:.1} | {:.2} | {:.2} |",
                series.label,
                of(Round::rate),
                of(Round::cpu_micros),
                of(Round::server_cpu_micros),
                of(|round| round.p50.as_secs_f64() * 1e3),
                of(|round| round.p99.as_secs_f64() * 1e3),
            );
        }
        let _ = write!(text, "\n**Ratio {:.2}**", self.ratio());
        if let Some(target) = &self.target {
            // Where only the latency counts, the ratio says how near the machine's own bound it is.
            if target.reach > 0.0 {
                let _ = write!(text, " (reach {}", target.reach);
                if let Some(dream) = target.dream {
                    let _ = write!(text, ", dream {dream}");
                }
                text.push(')');
            }
            if let Some((reach, dream)) = target.p99_millis {
                let _ = write!(text, "; p99 to reach {reach} ms, to dream of {dream} ms");
            }
        }
        text.push_str(".\n");
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    pub fn print(&self) {
        println!("\n{}: {}\n\n{}", self.name.to_uppercase(), self.title, self.table());
    }

    pub fn save(&self) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&folder).expect("a folder for results");
        let json = serde_json::to_string_pretty(&self.json()).expect("JSON");
        fs::write(folder.join(format!("{}.json", self.name)), json + "\n").expect("writes");
        fs::write(folder.join(format!("{}.svg", self.name)), self.svg()).expect("writes");
        self.save_section();
    }

    fn json(&self) -> Value {
        let series = |series: &Series| {
            let rounds = series.rounds.iter().map(|round| {
                json!({
                    "operations": round.operations,
                    "seconds": round.elapsed.as_secs_f64(),
                    "cpuMicrosPerOperation": round.cpu_micros(),
                    "serverCpuMicrosPerOperation": round.server_cpu_micros(),
                    "p50Millis": round.p50.as_secs_f64() * 1e3,
                    "p99Millis": round.p99.as_secs_f64() * 1e3,
                })
            });
            json!({ "label": series.label, "rounds": rounds.collect::<Vec<_>>() })
        };
        json!({
            "name": self.name,
            "title": self.title,
            "ratio": self.ratio(),
            "series": self.lines().map(series).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// A bar a line, as long as its rate.
    fn svg(&self) -> String {
        let rates: Vec<(&str, f64)> = self
            .lines()
            .map(|series| (series.label.as_str(), median(series.rounds.iter().map(Round::rate))))
            .collect();
        let longest = rates.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
        let height = 30 + rates.len() * 40;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<text x=\"8\" y=\"18\">{}</text>\n",
            self.title.replace('&', "&amp;").replace('<', "&lt;")
        );
        for (index, (label, rate)) in rates.iter().enumerate() {
            let y = 30 + index * 40;
            let width = rate / longest * 600.0;
            let _ = writeln!(
                svg,
                "<rect x=\"8\" y=\"{y}\" width=\"{width:.0}\" height=\"14\" fill=\"#4a7ebb\"/>\
                 <text x=\"8\" y=\"{}\">{label}: {rate:.0}/s</text>",
                y + 28
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Replaces this benchmark's section of the page.
    fn save_section(&self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
        let heading = format!("## {}", self.name.to_uppercase());
        let page = fs::read_to_string(&path).unwrap_or_else(|_| "# Last results\n".to_owned());
        let mut sections: Vec<String> =
            page.split("\n## ").skip(1).map(|section| format!("## {}", section.trim_end())).collect();
        sections.retain(|section| section.lines().next() != Some(heading.as_str()));
        sections.push(format!("{heading}\n{}\n\n{}\n\n{}", self.title, origin(), self.table().trim_end()));
        sections.sort();
        let intro = page.split("\n## ").next().unwrap_or_default().trim_end();
        fs::write(path, format!("{intro}\n\n{}\n", sections.join("\n\n"))).expect("writes");
    }
}

impl Series {
    fn new(label: &str) -> Self {
        Self { label: label.to_owned(), rounds: Vec::new() }
    }
}

fn add(series: &mut Series, round: Round) {
    series.rounds.push(round);
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Date, machine and commit.
fn origin() -> String {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} cores ({model}), commit {}",
        run("date", &["+%F"]),
        run("git", &["rev-parse", "--short", "HEAD"])
    )
}
