//! B1: one conversation of 500 on sockets, one event at a time; the greatest rate that holds; and graphql-ws on Node beside it.

use crate::{
    database::Bench,
    delivery::{AWAY, Room, SUBSCRIBERS, Side},
    measure::Round,
    report::{Report, Target, median},
};

/// Messages a second, and how many a round.
const RATE: u32 = 100;
const MESSAGES: usize = 300;
/// Node cannot keep up with as many.
const RATE_OF_NODE: u32 = 20;
const MESSAGES_TO_NODE: usize = 60;
/// Before those that count.
const WARM_UP: usize = 60;
const GREATEST_P99_MILLIS: u128 = 100;
/// From one step to the next, in percent.
const STEP: u32 = 12;
/// How long a step of the search lasts, in tenths of a second.
const STEP_TENTHS: u32 = 12;

const BARE: &str = "bare loopback sends of the same bytes, 100/s to 500";
const PRODUCT: &str = "deliveries, 100 messages/s to 500";
const NODE: &str = "Node graphql-ws, 20/s to 500";

pub async fn b1(bench: &Bench, rounds: usize) -> Report {
    let mut report = Report::new(
        "b1",
        "One conversation, 500 subscribed members, 19 fields, one event at a time, an open loop; servers on one core, clients on the other",
    );
    report.compare_server_cpu();
    let room = Room::open(bench).await;
    let (mut bare, mut product, mut node) = (room.bare(1).await, room.product(0).await, room.node().await);
    let mut away = room.away(bench).await;
    for side in [&mut bare, &mut product, &mut away] {
        side.run(WARM_UP, Some(RATE), 1).await.expect("all receive");
    }
    node.run(WARM_UP, Some(RATE_OF_NODE), 1).await.expect("all receive");
    let executed = room.fleet.metric("confab_executions_total").await;
    let mut pairs = Vec::new();
    for round in 0..rounds {
        let raw = bare.run(MESSAGES, Some(RATE), 1).await.expect("all receive");
        let mine = product.run(MESSAGES, Some(RATE), 1).await.expect("all receive");
        let alone = away.run(MESSAGES, Some(RATE), 1).await.expect("all are acknowledged");
        let theirs = node.run(MESSAGES_TO_NODE, Some(RATE_OF_NODE), 1).await.expect("all receive");
        println!("round {round}: {mine:?}");
        pairs.push((raw.server_cpu_micros(), mine.server_cpu_micros(), alone.server_cpu_micros()));
        report.calibration(BARE, raw);
        report.measured(PRODUCT, mine);
        report.also(AWAY, alone);
        report.also(NODE, theirs);
    }
    let executed = room.fleet.metric("confab_executions_total").await - executed;
    let mut searches = [
        (&mut bare, Greatest::from(RATE), "greatest rate, bare sends"),
        (&mut product, Greatest::from(RATE), "greatest rate, deliveries"),
        (&mut node, Greatest::from(RATE_OF_NODE), "greatest rate, Node"),
    ];
    for _ in 0..rounds.min(3) {
        for (side, greatest, label) in &mut searches {
            if let Some(round) = greatest.find(side).await {
                report.also(label, round);
            }
        }
    }
    notes(&mut report, &pairs);
    report.note(format!("{executed:.0} executions for {} messages.", MESSAGES * rounds));
    report.note(format!(
        "A delivery is a frame of {} bytes with its text, Node's of {}.",
        room.text.len(),
        room.bytes_of_peer().await
    ));
    report.target(Target { reach: 2.0, dream: Some(1.2), p99_millis: None });
    room.fleet.stop().await;
    report
}

/// Of the server's CPU time for bare sends, for deliveries, and for a message that nobody gets.
fn notes(report: &mut Report, pairs: &[(f64, f64, f64)]) {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
    let subscribers = SUBSCRIBERS as f64;
    let without: Vec<f64> =
        pairs.iter().map(|(raw, mine, alone)| (mine - alone / subscribers) / raw).collect();
    let part = pairs.iter().map(|(_, mine, alone)| alone / subscribers / mine * 100.0);
    report.note(format!(
        "The ratio counts the whole server. The sends themselves, as they cost when nobody is subscribed, are {:.0} % of it; without them the ratio is **{:.2}**.",
        median(part),
        median(without.into_iter())
    ));
    report.note_times(PRODUCT, NODE);
    report.note("The greatest rates are those whose p99 stays below 100 ms, in steps of 12 %.".to_owned());
}

/// The greatest rate at which the 99th percentile is still below the mark.
struct Greatest {
    from: u32,
}

impl Greatest {
    fn from(rate: u32) -> Self {
        Self { from: rate }
    }

    /// Step by step; the next search begins a little below what this one finds.
    async fn find(&mut self, side: &mut Side) -> Option<Round> {
        let (mut rate, mut best) = (self.from, None);
        loop {
            let messages = usize::try_from(rate * STEP_TENTHS / 10).unwrap_or(1);
            match side.run(messages, Some(rate), 1).await {
                Some(round) if round.p99.as_millis() < GREATEST_P99_MILLIS => best = Some(round),
                _ => return best,
            }
            self.from = rate * (100 - STEP) / 100;
            rate += (rate * STEP / 100).max(1);
        }
    }
}
