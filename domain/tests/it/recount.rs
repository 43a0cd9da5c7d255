//! After any storm of changes on two nodes, and any steps of several devices, everything counts as a recount does.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    Caller, Chat, Content, ConversationId, Direction, ErrorCode, Fact, Mentions, Message, PageRequest,
    SessionId, UserId,
    port::Log as _,
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember, send_message::SendMessage,
        update_group::UpdateGroup,
    },
};
use futures_util::future::join_all;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::{runtime::Handle, task::block_in_place};

use crate::{
    harness::{TestDatabase, group, key, random_number, text, title},
    on_every_database,
};

const ACTORS: usize = 6;
const STEPS: usize = 50;
/// Runs of the property on each database; each is up to six rounds of up to eight steps that happen at once.
const CASES: u32 = 8;
const PEOPLE: usize = 5;
const GROUPS: usize = 3;

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
            match dice.roll(12) {
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
                4 => drop(here.leave_group(user, conversation).await),
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

    async fn whatever_devices_and_members_do_unread_is_what_sql_counts(db: TestDatabase) {
        let people = db.users(PEOPLE).await;
        let nodes = [db.chat(), db.chat()];
        let rounds = vec(vec(step(), 1..8), 1..6);
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
        let outcome = block_in_place(|| {
            runner.run(&rounds, |rounds| {
                Handle::current().block_on(Devices::set(&db, &nodes, &people)).play(&rounds)
            })
        });
        if let Err(TestError::Fail(why, rounds)) = outcome {
            panic!("{why}; the shortest that fails: {rounds:#?}");
        }
    }
}

/// What one person does, over one of their two devices.
#[derive(Clone, Copy, Debug)]
struct Step {
    person: usize,
    device: usize,
    group: usize,
    deed: Deed,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Send,
    /// So many per cent of what there is.
    Read(i32),
    Leave,
    /// By the owner, as is the next.
    Remove,
    Add,
}

fn step() -> impl Strategy<Value = Step> {
    let deed = prop_oneof![
        5 => Just(Deed::Send),
        3 => (0..=100).prop_map(Deed::Read),
        1 => Just(Deed::Leave),
        1 => Just(Deed::Remove),
        2 => Just(Deed::Add),
    ];
    (0..PEOPLE, 0..2_usize, 0..GROUPS, deed).prop_map(|(person, device, group, deed)| Step {
        person,
        device,
        group,
        deed,
    })
}

/// People with two devices, each of which speaks to a node of its own.
struct Devices<'a> {
    db: &'a TestDatabase,
    nodes: &'a [Chat; 2],
    people: &'a [Caller],
    groups: Vec<ConversationId>,
}

impl<'a> Devices<'a> {
    async fn set(db: &'a TestDatabase, nodes: &'a [Chat; 2], people: &'a [Caller]) -> Self {
        let mut groups = Vec::new();
        for _ in 0..GROUPS {
            groups.push(group(&nodes[0], &people[0], &people[1..]).await);
        }
        Self { db, nodes, people, groups }
    }

    fn play(&self, rounds: &[Vec<Step>]) -> Result<(), TestCaseError> {
        for round in rounds {
            let marked = Handle::current()
                .block_on(async { join_all(round.iter().map(|step| self.act(*step))).await });
            let marked: Vec<_> = marked.into_iter().flatten().collect();
            Handle::current().block_on(self.look(round, &marked))?;
        }
        Ok(())
    }

    /// A read position that was acked, if one was.
    async fn act(&self, Step { person, device, group, deed }: Step) -> Option<(usize, usize, i32)> {
        let node = &self.nodes[device];
        let (owner, id) = (&self.people[0], self.groups[group]);
        let me = self.people[person];
        let session = SessionId(me.session.0 + i64::try_from(device).expect("small"));
        let me = Caller { session, ..me };
        let done = match deed {
            Deed::Send => {
                let command = SendMessage {
                    conversation: id,
                    client_key: key(format!("{:x}", random_number())),
                    text: text("hello"),
                    mentions: Mentions::default(),
                };
                node.send_message(&me, command).await.map(drop)
            }
            Deed::Read(share) => {
                let seen = node.conversations(&me, &[id]).await.expect("reads").remove(&id)?;
                let seq = seen.conversation.last_seq * share / 100;
                let view = node.mark_read(&me, MarkRead { conversation: id, seq }).await;
                if let Ok(view) = &view {
                    assert!(view.viewer.read_seq >= seq, "{seq} was acked as {}", view.viewer.read_seq);
                    return Some((person, group, seq));
                }
                view.map(drop)
            }
            Deed::Leave => node.leave_group(&me, id).await,
            Deed::Remove => {
                node.remove_member(owner, RemoveMember { conversation: id, user: me.user }).await.map(drop)
            }
            Deed::Add => {
                node.add_members(owner, AddMembers { conversation: id, users: vec![me.user] }).await.map(drop)
            }
        };
        if let Err(error) = done {
            assert_ne!(error.code(), ErrorCode::Internal, "{error:?}");
        }
        None
    }

    /// Everybody's counts, on both nodes, are what SQL counts; and nobody has less read than they marked.
    async fn look(&self, round: &[Step], marked: &[(usize, usize, i32)]) -> Result<(), TestCaseError> {
        let counted = counted_by_sql(self.db).await;
        for (index, person) in self.people.iter().enumerate() {
            let mine = || counted.iter().filter(|((user, _), _)| *user == person.user);
            let total: i32 = mine().map(|(_, unread)| unread).sum();
            for node in self.nodes {
                let told = node.total_unread_count(person).await.expect("reads");
                prop_assert_eq!(told, total, "person {}", index);
                let views = node.conversations(person, &self.groups).await.expect("reads");
                for (id, view) in &views {
                    let unread = counted.get(&(person.user, *id)).copied().unwrap_or(0);
                    prop_assert_eq!(view.unread_count(), unread, "person {}", index);
                }
                for (_, group, seq) in marked.iter().filter(|(who, ..)| *who == index) {
                    let moves = |step: &&Step| {
                        (step.person, step.group) == (index, *group)
                            && matches!(step.deed, Deed::Leave | Deed::Remove | Deed::Add)
                    };
                    if round.iter().filter(moves).count() > 0 {
                        continue;
                    }
                    let read = views.get(&self.groups[*group]).map(|view| view.viewer.read_seq);
                    prop_assert!(read >= Some(*seq), "person {} marked {} and has {:?}", index, seq, read);
                }
            }
        }
        Ok(())
    }
}

/// What each member has not read in each conversation, by the messages alone; those with nothing unread are left out.
async fn counted_by_sql(db: &TestDatabase) -> BTreeMap<(UserId, ConversationId), i32> {
    // Who sends has read what came before.
    let sql = "SELECT m.user_id, m.conversation_id, COUNT(*) FROM member m JOIN message g \
        ON g.conversation_id = m.conversation_id AND g.seq > m.read_seq AND g.kind = 0 AND g.sender_id <> m.user_id \
        WHERE m.removed_rev IS NULL AND NOT EXISTS (SELECT 1 FROM message o \
        WHERE o.conversation_id = g.conversation_id AND o.sender_id = m.user_id AND o.seq > g.seq) \
        GROUP BY m.user_id, m.conversation_id";
    let connection = db.store.connection();
    let rows = connection.query_all_raw(Statement::from_string(connection.get_database_backend(), sql));
    let rows = rows.await.expect("counts").into_iter().map(|row| {
        let conversation: Vec<u8> = row.try_get_by_index(1).expect("a conversation");
        let conversation = ConversationId::from_bytes(conversation.try_into().expect("16 bytes"));
        let user = UserId(row.try_get_by_index(0).expect("a user"));
        let count: i64 = row.try_get_by_index(2).expect("a count");
        ((user, conversation.expect("an id")), i32::try_from(count).expect("small"))
    });
    rows.collect()
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
    let counted = counted_by_sql(db).await;
    for user in &stage.users {
        let total: i32 =
            counted.iter().filter(|((of, _), _)| *of == user.user).map(|(_, unread)| unread).sum();
        let told = stage.nodes[1].total_unread_count(user).await.expect("reads");
        assert_eq!(told, total, "seed {seed}: {:?}", user.user);
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
