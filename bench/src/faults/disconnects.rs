//! A storm of disconnects: sockets are dropped at random and come back to the other node, while nodes are killed, connections cut in the
//! middle of what they carry, and commits held up.

use std::{sync::Arc, time::Duration};

use bench::{cluster::Cluster, proxy::Link};
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait as _,
};
use tokio::time::sleep;

use crate::{Failure, actors::Stage};

/// Clients that drop their sockets while something else happens.
const ABORTS: usize = 25;
/// How long each thing takes, at least.
const LASTS: Duration = Duration::from_millis(1500);
/// The time that an order to cut takes to reach every connection that carries something.
const CUT_FOR: Duration = Duration::from_millis(400);
/// Less than a statement waits for a lock (2 s), and longer: then it is rolled back and tried again.
const HELD_FOR: [Duration; 2] = [Duration::from_millis(1200), Duration::from_millis(2500)];

/// What else happens while sockets are dropped, one after the other.
#[derive(Clone, Copy, Debug)]
enum Blow {
    KillApi,
    HoldLanes,
    CutClients,
    StopDomain,
}

const BLOWS: [Blow; 4] = [Blow::KillApi, Blow::HoldLanes, Blow::CutClients, Blow::StopDomain];

/// All of them in turn.
pub async fn disconnects(
    cycle: usize,
    down: Duration,
    cluster: &mut Cluster,
    stage: &Arc<Stage>,
) -> Result<(), Failure> {
    let lasts = LASTS.max(down);
    for (number, blow) in BLOWS.into_iter().enumerate() {
        let dropped = drop_sockets(stage, cycle * BLOWS.len() + number, lasts);
        let ((), struck) = tokio::join!(dropped, strike(blow, cycle, lasts, cluster));
        struck?;
    }
    Ok(())
}

async fn drop_sockets(stage: &Stage, turn: usize, lasts: Duration) {
    for abort in 0..ABORTS {
        // A multiplicative hash: the same in every run.
        let chance = ((turn * ABORTS + abort) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        let user = usize::try_from(chance).unwrap_or(0) % stage.users.len();
        stage.cut(user);
        sleep(lasts / u32::try_from(ABORTS).unwrap_or(1)).await;
    }
}

/// Each node in its turn.
async fn strike(blow: Blow, turn: usize, lasts: Duration, cluster: &mut Cluster) -> Result<(), Failure> {
    match blow {
        Blow::KillApi => {
            let nodes = cluster.of_role("api");
            let node = nodes[turn % nodes.len()];
            cluster.kill(node)?;
            sleep(lasts).await;
            cluster.begin(node)?;
            cluster.ready(node).await?;
        }
        Blow::HoldLanes => {
            let connection = Database::connect(cluster.database()).await?;
            hold_lanes(&connection, turn, HELD_FOR[turn % HELD_FOR.len()]).await?;
            connection.close().await?;
        }
        Blow::CutClients => {
            let proxies = cluster.links_to("api");
            let proxy = &proxies[turn % proxies.len()];
            proxy.set(Link::Cut);
            sleep(CUT_FOR).await;
            proxy.set(Link::Sound);
        }
        Blow::StopDomain => {
            let nodes = cluster.of_role("domain");
            let node = nodes[turn % nodes.len()];
            cluster.signal(node, "-STOP")?;
            sleep(lasts).await;
            cluster.signal(node, "-CONT")?;
        }
    }
    Ok(())
}

/// Half of the lanes are locked, so that what is on its way in them is committed late, and after what came later in the others.
async fn hold_lanes(connection: &DatabaseConnection, turn: usize, held: Duration) -> Result<(), Failure> {
    let transaction = connection.begin().await?;
    let sql = format!("SELECT id FROM log_lane WHERE id % 2 = {} ORDER BY id FOR UPDATE", turn % 2);
    transaction.query_all_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    sleep(held).await;
    transaction.rollback().await?;
    Ok(())
}
