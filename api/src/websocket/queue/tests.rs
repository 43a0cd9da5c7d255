//! The last look at an event before it is written, and when a writer is woken.

use std::sync::atomic::{AtomicI32, Ordering};

use domain::ConversationId;
use futures_util::FutureExt;

use super::{super::Outbound, *};

/// Hides what is older than its `rev`; 0 while it cannot tell.
struct Membership(Arc<AtomicI32>);

impl Watched for Membership {
    fn sight(&self, about: About) -> Sight {
        match self.0.load(Ordering::Relaxed) {
            0 => Sight::Unknown(Box::pin(pending())),
            removed if about.rev < removed => Sight::Hidden,
            _ => Sight::Shown,
        }
    }
}

/// A queue with one subscription, whose events of these revisions wait in it.
fn queue(revs: &[i32]) -> (Queue, Arc<str>) {
    let queue = Queue::new(16, 4096);
    let id: Arc<str> = "1".into();
    queue.open(&id, None, None);
    for rev in revs {
        let about = Some(About { conversation: ConversationId::group(7), rev: *rev });
        let payload = Payload::Ready(format!("{{\"rev\":{rev}}}").into());
        queue.push(Slot::Next { id: id.clone(), payload, about }).expect("room");
    }
    (queue, id)
}

fn watch(queue: &Queue, id: &Arc<str>, removed: i32) -> Arc<AtomicI32> {
    let removed = Arc::new(AtomicI32::new(removed));
    queue.attach(id, Box::new(Membership(removed.clone())));
    removed
}

/// What a writer takes, or why it takes nothing.
fn taken(queue: &Queue) -> String {
    let mut messages = Vec::new();
    let front = queue.take(&mut messages);
    if let [first, ..] = &messages[..] {
        return messages[1..].iter().fold(first.to_string(), |all, next| format!("{all} {next}"));
    }
    match front {
        Front::More => "more",
        Front::Unsure(_) => "unsure",
        Front::Empty => "empty",
        Front::Closing(_) => "closing",
        Front::Pending | Front::Failed(_) | Front::Lost => "not made",
    }
    .to_owned()
}

#[test]
fn what_was_queued_before_a_removal_is_not_written_after_it() {
    let (queue, id) = queue(&[4, 5, 6]);
    watch(&queue, &id, 6);
    assert!(taken(&queue).contains("\"rev\":6"));
    assert_eq!(taken(&queue), "empty");
    assert_eq!(queue.state().bytes, 0);
}

#[test]
fn an_event_waits_until_it_can_be_told_whether_it_may_be_shown() {
    let (queue, id) = queue(&[4]);
    assert_eq!(taken(&queue), "unsure", "nobody watches yet");
    let removed = watch(&queue, &id, 0);
    assert!(queue.changed.notified().now_or_never().is_some(), "the writer is told to look again");
    assert_eq!(taken(&queue), "unsure");
    removed.store(1, Ordering::Relaxed);
    assert!(taken(&queue).contains("\"rev\":4"));
}

#[test]
fn a_queue_that_is_to_close_waits_for_no_event() {
    let (queue, id) = queue(&[4]);
    watch(&queue, &id, 0);
    queue.close_when_empty(SLOW_READER);
    assert_eq!(taken(&queue), "closing");
}

#[test]
fn who_places_wakes_the_writer_only_to_make_room() {
    let (queue, id) = queue(&[]);
    let woken = || queue.changed.notified().now_or_never().is_some();
    let slot = || Slot::Next { id: id.clone(), payload: Payload::Ready("{}".into()), about: None };
    for _ in 0..2 {
        assert_eq!(queue.place_paced([slot()], 2, 4096).now_or_never(), Some(Ok(())));
        assert!(!woken(), "what comes right behind may go with it");
    }
    let mut third = Box::pin(queue.place_paced([slot()], 2, 4096));
    assert_eq!((&mut third).now_or_never(), None, "there is no room");
    assert!(woken());
    assert_eq!(taken(&queue).matches("\"next\"").count(), 2);
    assert_eq!((&mut third).now_or_never(), Some(Ok(())));
}

#[test]
fn an_answer_that_takes_all_room_keeps_its_end() {
    for (messages_max, bytes_max) in [(1, 4096), (16, 8)] {
        let queue = Arc::new(Queue::new(messages_max, bytes_max));
        let id: Arc<str> = "1".into();
        queue.open(&id, None, None);
        let outbound = Outbound { queue: queue.clone() };
        let answer: Utf8Bytes = "{\"data\":{\"node\":null}}".into();
        assert_eq!(outbound.answer(&id, answer, ()).now_or_never(), Some(()));
        let all = taken(&queue);
        assert!(all.contains("\"next\"") && all.ends_with("\"complete\"}"), "{all}");
    }
}
