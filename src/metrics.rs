//! Metrics for Prometheus.

use std::{error::Error, time::Duration};

use domain::measure::{self, Kind, Metric};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// Upper bounds of latencies in seconds: a millisecond to the longest deadline.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// How often what was recorded is taken together, whether anybody asks or not.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Begins to record. Once a process.
pub fn install() -> Result<PrometheusHandle, Box<dyn Error + Send + Sync>> {
    let mut builder = PrometheusBuilder::new();
    for Metric { name, kind, .. } in measure::ALL {
        if *kind == Kind::Latency {
            builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), &BUCKETS)?;
        }
    }
    let handle = builder.install_recorder()?;
    measure::describe();
    Ok(handle)
}

pub async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = interval(UPKEEP_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        handle.run_upkeep();
    }
}
