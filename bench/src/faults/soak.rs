//! A long run without faults: clients come and go, send, read and ask, and what processes hold is looked at every few seconds. After
//! the first part, in which caches fill and pools open, it must not grow.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bench::cluster::{Cluster, Resources};
use tokio::time::{Instant, sleep};

use crate::{
    actors::Stage,
    journal::{Growth, Moment},
    report::Tally,
};

const SAMPLED_EVERY: Duration = Duration::from_secs(5);
/// A client drops its socket this often; others ask for their list of conversations as often.
const CUT_EVERY: Duration = Duration::from_millis(500);
/// The part of the run whose samples do not count.
const WARM_UP: f64 = 0.4;

pub async fn soak(cluster: &Cluster, stage: &Arc<Stage>, lasts: Duration) -> Vec<Tally> {
    let mut samples: Vec<Vec<(Moment, Resources)>> = vec![Vec::new(); cluster.nodes.len()];
    let (begun, from) = (Instant::now(), stage.now());
    let mut last = Instant::now();
    let mut turn: usize = 0;
    while begun.elapsed() < lasts {
        stage.cut(turn * 7 % stage.users.len());
        if stage.api.overview(turn, &stage.users[turn % stage.users.len()].token).await {
            stage.overviews.fetch_add(1, Ordering::Relaxed);
        }
        if last.elapsed() >= SAMPLED_EVERY {
            last = Instant::now();
            for (node, samples) in samples.iter_mut().enumerate() {
                samples.extend(cluster.resources(node).map(|held| (stage.now(), held)));
            }
        }
        turn += 1;
        sleep(CUT_EVERY).await;
    }
    let warm = from + lasts.mul_f64(WARM_UP);
    for (node, samples) in samples.iter().enumerate() {
        let process = format!("{} {}", cluster.nodes[node].role, cluster.nodes[node].port);
        stage.journal().growths.extend(Growth::of(process, samples, warm));
    }
    Vec::new()
}
