//! A broker that a test may break.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{installation::brokers, server::free_port};

/// A Kafka of its own.
pub struct Broker {
    data: PathBuf,
    port: u16,
    controller: u16,
}

impl Broker {
    /// `None`, loudly, where the tests have no Kafka: then none is installed either.
    pub fn start(data: PathBuf) -> Option<Self> {
        brokers()?;
        let broker = Self { data, port: free_port(), controller: free_port() };
        assert!(broker.service("up"), "a broker starts");
        Some(broker)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn service(&self, verb: &str) -> bool {
        let mut command = Command::new("scripts/services");
        command.args([verb, "kafka"]).env("SERVICES_DIR", &self.data).stdout(Stdio::null());
        command.env("KAFKA_PORT", self.port.to_string());
        command.env("KAFKA_CONTROLLER_PORT", self.controller.to_string());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.service("kill");
    }
}
