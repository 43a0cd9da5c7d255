//! A broker that a test may break.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::installation::brokers;

static NEXT: AtomicU32 = AtomicU32::new(0);

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
        let broker = Self { data, port: quiet_port(), controller: quiet_port() };
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

/// A free port below those that the system gives to connections: whoever keeps trying to reach a broker that is away would get the
/// broker's own port some day, and talk to itself.
fn quiet_port() -> u16 {
    let ports = std::iter::repeat_with(|| {
        let number = process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        20_000 + u16::try_from(number % 10_000).expect("small")
    });
    ports.take(10_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port")
}
