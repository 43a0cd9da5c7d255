//! After any storm of changes on two nodes, everything counts as a recount does.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    Caller, Chat, Content, ConversationId, Direction, Fact, Mentions, Message, PageRequest,
    port::Log as _,
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember, send_message::SendMessage,
        update_group::UpdateGroup,
    },
};
use futures_util::future::join_all;

use crate::{
    harness::{TestDatabase, group, key, random_number, text, title},
    on_every_database,
};

const ACTORS: usize = 6;
const STEPS: usize = 50;

/// A small generator: the seed is printed when a recount fails.
struct Dice(u64);

impl Dice {
    /// `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>).
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).expect("small")
    }
}

struct Stage {
    nodes: [Chat; 2],
    users: Vec<Caller>,
    conversations: Vec<ConversationId>,
}

impl Stage {
    /// Does what the dice say; answers what was acked, by key.
    async fn act(&self, actor: usize, seed: u64) -> BTreeMap<String, Message> {
        let mut dice = Dice(seed ^ actor as u64);
        let mut acked = BTreeMap::new();
        for step in 0..STEPS {
            let (here, there) = (&self.nodes[step % 2], &self.nodes[(step + 1) % 2]);
            let conversation = self.conversations[dice.roll(self.conversations.len())];
            // The owner stays, so that somebody can look at all of it.
            let user = &self.users[1 + dice.roll(self.users.len() - 1)];
            match dice.roll(10) {
                0 => {
                    let _ = here
                        .remove_member(&self.users[0], RemoveMember { conversation, user: user.user })
                        .await;
                }
                1 => {
                    let users = vec![user.user];
                    let _ = here.add_members(&self.users[0], AddMembers { conversation, users }).await;
                }
                2 => {
                    let name = Some(title(&format!("{actor} {step}")));
                    let _ =
                        here.update_group(&self.users[0], UpdateGroup { conversation, title: name }).await;
                }
                3 => {
                    let seq = i32::try_from(dice.roll(30)).expect("small");
                    let _ = here.mark_read(user, MarkRead { conversation, seq }).await;
                }
                _ => {
                    let name = format!("{actor}-{step}");
                    let command = SendMessage {
                        conversation,
                        client_key: key(&*name),
                        text: text(&name),
                        mentions: Mentions::default(),
                    };
                    let Ok(sent) = here.send_message(user, command.clone()).await else { continue };
                    if dice.roll(4) == 0 {
                        let again = there.send_message(user, command).await.expect("sent before");
                        assert_eq!((again.id, again.seq), (sent.id, sent.seq));
                    }
                    acked.insert(name, (*sent).clone());
                }
            }
        }
        acked
    }

    async fn history(&self, id: ConversationId) -> Vec<Message> {
        let mut all: Vec<Message> = Vec::new();
        loop {
            let after = all.last().map(|message| message.seq);
            let page =
                PageRequest::new((Some(100), after), (None, None), Direction::Forward).expect("a page");
            let page = self.nodes[0].history(&self.users[0], id, &page).await.expect("reads");
            if page.items.is_empty() {
                return all;
            }
            all.extend(page.items.iter().map(|message| (**message).clone()));
        }
    }
}

on_every_database! {
    async fn after_a_storm_on_two_nodes_everything_counts_as_a_recount_does(db: TestDatabase) {
        recount(&db).await;
    }
}

async fn recount(db: &TestDatabase) {
    let seed = random_number();
    let (nodes, users) = ([db.chat(), db.chat()], db.users(12).await);
    let mut conversations = Vec::new();
    for _ in 0..4 {
        conversations.push(group(&nodes[0], &users[0], &users[1..]).await);
    }
    let stage = Stage { nodes, users, conversations };
    let acked: BTreeMap<String, Message> =
        join_all((0..ACTORS).map(|actor| stage.act(actor, seed))).await.into_iter().flatten().collect();

    let mut facts: BTreeMap<ConversationId, Vec<Fact>> = BTreeMap::new();
    for lane in stage.nodes[0].layout().lanes() {
        let log = db.store.read(lane, 0, 100_000).await.expect("the log");
        let positions: Vec<i64> = log.iter().map(|entry| entry.pos).collect();
        assert_eq!(positions, (1..).take(log.len()).collect::<Vec<_>>(), "seed {seed}: lane {}", lane.0);
        for fact in log.into_iter().flat_map(|entry| entry.facts).map(|entry| entry.fact) {
            facts.entry(fact.conversation().expect("no sessions end here")).or_default().push(fact);
        }
    }
    let mut found = BTreeMap::new();
    for id in &stage.conversations {
        let history = stage.history(*id).await;
        let seqs: Vec<i32> = history.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (1..).take(seqs.len()).collect::<Vec<_>>(), "seed {seed}: no hole");
        let of_facts = &facts[id];
        let revs: Vec<i32> = of_facts.iter().map(Fact::rev).collect();
        // A removal or a joining shares its batch with a system message; each has a `rev` of its own.
        assert_eq!(
            revs,
            (1..).take(revs.len()).collect::<Vec<_>>(),
            "seed {seed}: every rev is told once, in order"
        );
        let told: BTreeSet<i32> = of_facts
            .iter()
            .filter_map(|fact| if let Fact::MessageSent { seq, .. } = fact { Some(*seq) } else { None })
            .collect();
        assert_eq!(told, seqs.iter().copied().collect(), "seed {seed}: every message is told");

        let is_text = |message: &&Message| matches!(message.content, Content::Text(_));
        for (index, message) in history.iter().enumerate() {
            let countable = history[..=index].iter().filter(is_text).count();
            assert_eq!(usize::try_from(message.countable), Ok(countable), "seed {seed}: seq {}", message.seq);
        }
        for user in &stage.users {
            let Some(view) = stage.nodes[1].conversations(user, &[*id]).await.expect("reads").remove(id)
            else {
                continue;
            };
            let head = &view.conversation;
            assert_eq!((Some(&head.last_seq), Some(&head.rev)), (seqs.last(), revs.last()), "seed {seed}");
            let after = history.iter().filter(|message| message.seq > view.viewer.read_seq);
            let unread = after.clone().filter(is_text).count();
            assert_eq!(usize::try_from(view.unread_count()), Ok(unread), "seed {seed}: {:?}", user.user);
            assert!(
                after.clone().all(|message| message.sender != Some(user.user)),
                "seed {seed}: one's own is read"
            );
        }
        found.extend(
            history
                .into_iter()
                .filter(|message| message.client_key.is_some())
                .map(|message| (message.id, message)),
        );
    }
    assert_eq!(found.len(), acked.len(), "seed {seed}: what was acked, and nothing else");
    for (name, message) in acked {
        assert_eq!(found.get(&message.id), Some(&message), "seed {seed}: {name}");
    }
}
