//! B2: the sockets of B1 at ten times as many messages, so that several wait for each socket and go together.

use crate::{
    database::Bench,
    delivery::{AWAY, Room, SUBSCRIBERS, Side},
    measure::Round,
    report::{Report, Target, median},
};

/// Messages a second, and what is tried where a rate does not hold, in this order.
const RATES: [u32; 6] = [1000, 850, 700, 600, 500, 400];
/// How long a round lasts, in tenths of a second.
const ROUND_TENTHS: u32 = 20;
/// Messages of the bare limit, and frames that go together there.
const BARE_MESSAGES: usize = 2400;
const FRAMES_A_SEND: usize = 8;
/// Node gets as many at once, and as many a second as it keeps up with.
const AT_ONCE: usize = 16;
const RATE_OF_NODE: u32 = 16;
const MESSAGES_TO_NODE: usize = 48;
const P99_MILLIS: f64 = 60.0;

const BARE: &str = "bare loopback sends, 8 frames a send, as fast as it goes";
const PRODUCT: &str = "deliveries at the greatest rate that holds";
const NODE: &str = "Node graphql-ws, 16 events at once";

pub async fn b2(bench: &Bench, rounds: usize) -> Report {
    let mut report = Report::new(
        "b2",
        "One conversation, 500 subscribed members, 19 fields, up to 1,000 messages/s, an open loop; servers on one core, clients on the other",
    );
    report.compare_server_cpu();
    let room = Room::open(bench).await;
    let (mut bare, mut node) = (room.bare(FRAMES_A_SEND).await, room.node().await);
    let mut product = room.product(0).await;
    let mut away = room.away(bench).await;
    let mut tried = vec![Vec::new(); RATES.len()];
    let (mut begin_at, mut shares, mut without) = (0, Vec::new(), Vec::new());
    for round in 0..rounds {
        let raw = bare.run(BARE_MESSAGES, None, FRAMES_A_SEND).await.expect("all receive");
        // What was too much once is not tried again.
        let mine = loop {
            let run = at(&mut product, RATES[begin_at]).await;
            if let Some(run) = &run {
                tried[begin_at].push(run.p99.as_secs_f64() * 1e3);
            }
            match run {
                Some(run) if run.p99.as_secs_f64() * 1e3 <= P99_MILLIS || begin_at + 1 == RATES.len() => {
                    break run;
                }
                _ => begin_at += 1,
            }
            // Sockets for which too much waited were closed.
            drop(product);
            product = room.product(0).await;
        };
        let alone = at(&mut away, RATES[begin_at]).await.expect("all are acknowledged");
        let theirs = node.run(MESSAGES_TO_NODE, Some(RATE_OF_NODE), AT_ONCE).await.expect("all receive");
        println!("round {round}, {} messages/s: {mine:?}; {raw:?}", RATES[begin_at]);
        shares.push(raw.server_cpu_micros() / mine.server_cpu_micros() * 100.0);
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
        let delivery = mine.server_cpu_micros() - alone.server_cpu_micros() / SUBSCRIBERS as f64;
        without.push(theirs.server_cpu_micros() / delivery);
        report.calibration(BARE, raw);
        report.measured(PRODUCT, mine);
        report.also(AWAY, alone);
        report.also(NODE, theirs);
    }
    report.note(format!(
        "A core that sends does {:.0} % of the deliveries that it does of bare frames, 8 a send (reach 35, dream 60).",
        median(shares.into_iter())
    ));
    for (rate, p99s) in RATES.iter().zip(&tried).filter(|(_, p99s)| !p99s.is_empty()) {
        let p99s: Vec<String> = p99s.iter().map(|p99| format!("{p99:.0}")).collect();
        report.note(format!(
            "{rate} messages/s, {} deliveries/s: p99 {} ms.",
            usize::try_from(*rate).unwrap_or(0) * SUBSCRIBERS,
            p99s.join(", ")
        ));
    }
    report.note_times(PRODUCT, NODE);
    report.note(format!(
        "Node commits nothing. Without the sends, as they cost when nobody is subscribed: {:.1} × less CPU (reach 35).",
        median(without.into_iter())
    ));
    report.target(Target { reach: 2.86, dream: Some(1.67), p99_millis: Some((60.0, 20.0)) });
    room.fleet.stop().await;
    report
}

async fn at(side: &mut Side, rate: u32) -> Option<Round> {
    side.run(usize::try_from(rate * ROUND_TENTHS / 10).unwrap_or(1), Some(rate), 1).await
}
