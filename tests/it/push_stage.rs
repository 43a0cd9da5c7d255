//! What pushes are tried on: the embedded default, or api and worker on MariaDB, Redis and Kafka.

use std::process::Command;

use crate::{
    installation::{Installation, Process},
    people::Site,
    providers::Providers,
    server::{confab, settings},
};

pub struct Stage {
    pub site: Site,
    pub providers: Providers,
    place: Place,
}

enum Place {
    Embedded { folder: tempfile::TempDir, more: Vec<(&'static str, String)>, server: Process },
    Cluster { installation: Installation, _api: Process, worker: Process },
}

impl Stage {
    pub async fn embedded() -> Self {
        Self::embedded_with(&[]).await
    }

    pub async fn embedded_with(more: &[(&'static str, &str)]) -> Self {
        let providers = Providers::start().await;
        let mut all = providers.settings();
        all.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let folder = tempfile::tempdir().expect("a folder");
        let server = begin(&folder, &all);
        let site = Site::new(&server.url);
        Self { site, providers, place: Place::Embedded { folder, more: all, server } }
    }

    /// `None`, loudly, without a MariaDB or a Kafka.
    pub async fn on_kafka() -> Option<Self> {
        let providers = Providers::start().await;
        let installation = Installation::on_kafka(providers.settings())?;
        let (api, worker) = (installation.start("api"), installation.start("worker"));
        let site = Site::new(&api.url);
        Some(Self { site, providers, place: Place::Cluster { installation, _api: api, worker } })
    }

    /// SIGKILL of the process that pushes, and another one in its place.
    pub fn replace_what_pushes(&mut self) {
        match &mut self.place {
            Place::Embedded { folder, more, server } => {
                server.kill();
                *server = begin(folder, more);
                self.site.moved_to(&server.url);
            }
            Place::Cluster { installation, worker, .. } => {
                worker.kill();
                *worker = installation.start("worker");
            }
        }
    }
}

fn begin(folder: &tempfile::TempDir, more: &[(&'static str, String)]) -> Process {
    let mut command: Command = confab();
    settings(&mut command, folder.path());
    command.envs(more.iter().map(|(name, value)| (name, value)));
    Process::start(command, &folder.path().join("serve.log"))
}
