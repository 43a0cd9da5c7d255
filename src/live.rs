//! Settings that are read again while the process runs: every few seconds, and at once on SIGHUP.
//!
//! The whole file is read and checked as at the start. One that is bad changes nothing, and is told of once. Of a good one the settings
//! that the table marks as live take effect; others that differ are named, because they need a restart.

use std::{io, path::PathBuf, time::Duration};

use domain::Switches;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::settings::{Problem, Settings};

/// How often the file is read.
const RELOAD_PERIOD: Duration = Duration::from_secs(5);

impl From<&Settings> for Switches {
    fn from(settings: &Settings) -> Self {
        Self { presence: settings.presence_enabled, typing: settings.typing_enabled }
    }
}

pub struct Live {
    file: Option<PathBuf>,
    known: Settings,
    switches: watch::Sender<Switches>,
    hangup: Signal,
    /// What was told of the file as it is.
    told: Vec<String>,
}

impl Live {
    /// `known` is what was read from `file` at the start.
    pub fn new(file: Option<PathBuf>, known: &Settings) -> io::Result<Self> {
        let (known, switches) = (known.clone(), watch::Sender::new(known.into()));
        Ok(Self { file, known, switches, hangup: signal(SignalKind::hangup())?, told: Vec::new() })
    }

    pub fn switches(&self) -> watch::Receiver<Switches> {
        self.switches.subscribe()
    }

    /// Reads again and again, without end.
    pub async fn follow(mut self) {
        let mut period = interval(RELOAD_PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // It has just been read.
        period.reset();
        loop {
            tokio::select! {
                _ = period.tick() => {}
                _ = self.hangup.recv() => {}
            }
            let file = self.file.clone();
            // Reading files blocks.
            let read = tokio::task::spawn_blocking(move || Settings::load(file.as_deref())).await;
            if let Ok(read) = read {
                self.take(read);
            }
        }
    }

    fn take(&mut self, read: Result<Settings, Vec<Problem>>) {
        match read {
            Ok(settings) => {
                let needs_restart = self.known.differences(&settings, false);
                self.tell_once(needs_restart.into_iter().map(|key| {
                    format!("{key} has changed in the settings, which takes effect at the next start")
                }));
                let now = Switches::from(&settings);
                let changed =
                    self.switches.send_if_modified(|switches| std::mem::replace(switches, now) != now);
                if changed {
                    tracing::info!(
                        presence = now.presence,
                        typing = now.typing,
                        "live settings have changed"
                    );
                }
            }
            Err(problems) => {
                let told = problems.iter().map(|problem| format!("{problem}; the settings stay as they are"));
                self.tell_once(told);
            }
        }
    }

    fn tell_once(&mut self, what: impl Iterator<Item = String>) {
        let what: Vec<String> = what.collect();
        for text in what.iter().filter(|text| !self.told.contains(text)) {
            tracing::warn!("configuration: {text}");
        }
        self.told = what;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_live_is_taken_and_a_bad_file_changes_nothing() {
        let begun = Settings::for_test(&[]);
        let mut live = Live::new(None, &begun).expect("signals");
        let switches = live.switches();
        assert_eq!(*switches.borrow(), Switches { presence: true, typing: true });
        live.take(Ok(Settings::for_test(&[("presence_enabled", "off"), ("ids_max", "7")])));
        assert_eq!(*switches.borrow(), Switches { presence: false, typing: true });
        assert_eq!(live.told.len(), 1, "{:?}", live.told);
        assert!(live.told[0].starts_with("ids_max "), "{:?}", live.told);
        let problem = Problem { key: "typing_enabled".to_owned(), text: "expected on or off".to_owned() };
        live.take(Err(vec![problem]));
        assert_eq!(*switches.borrow(), Switches { presence: false, typing: true });
        live.take(Ok(begun));
        assert_eq!(*switches.borrow(), Switches::default());
        assert!(live.told.is_empty());
    }
}
