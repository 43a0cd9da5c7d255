//! What a device makes of the events it gets: its conversations, without asking for any of it.
//!
//! As `docs/live.md` tells clients: by `seq` and `rev`, a repeat is passed over. What it has in the end must be what it would fetch.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The state of one device.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    pub me: String,
    pub conversations: BTreeMap<String, Folded>,
    /// Events that came again.
    pub repeats: u64,
    /// Events that came under the name of another, so that nobody could tell them from a repeat.
    pub confusions: Vec<String>,
}

/// A conversation as far as events tell of it.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// What each `rev` was.
    told: BTreeMap<i64, String>,
    /// The `rev` since which the viewer is in it without a break; zero from the beginning.
    pub since: i64,
    pub is_over: bool,
    /// By `seq`: the id, and whether somebody else wrote it.
    pub messages: BTreeMap<i64, (String, bool)>,
    /// The last read position that was told; zero for none.
    pub read_seq: i64,
    pub title: Option<String>,
    /// Nobody tells who else is in what the viewer comes back to.
    pub members: Option<BTreeSet<String>>,
}

impl Fold {
    /// Of somebody who is in these conversations, none of which has a message.
    pub fn of(me: &str, conversations: impl Iterator<Item = (String, BTreeSet<String>)>) -> Self {
        let folded = |(id, members)| (id, Folded { members: Some(members), ..Folded::default() });
        Self { me: me.to_owned(), conversations: conversations.map(folded).collect(), ..Self::default() }
    }

    pub fn apply(&mut self, event: &Value) {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let (kind, rev) = (text("/__typename"), number("/rev"));
        let id = text("/conversation/id");
        if id.is_empty() {
            return;
        }
        let about = [text("/message/id"), text("/user/id"), text("/member/user/id")].concat();
        let what = format!("{kind} {about} {} {}", number("/message/seq"), number("/readSeq"));
        let folded = self.conversations.entry(id.to_owned()).or_default();
        if let Some(known) = folded.told.get(&rev) {
            self.repeats += 1;
            if *known != what {
                self.confusions.push(format!("rev {rev} of {id} was {known} and is {what} to {}", self.me));
            }
            return;
        }
        folded.told.insert(rev, what);
        folded.apply(&self.me, kind, rev, event);
    }

    /// What is unread in all conversations together.
    pub fn total_unread(&self) -> usize {
        self.conversations.values().map(Folded::unread).sum()
    }
}

impl Folded {
    fn apply(&mut self, me: &str, kind: &str, rev: i64, event: &Value) {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        match kind {
            "MessageSent" => {
                let (seq, sender) = (number("/message/seq"), text("/message/sender/id"));
                if sender.as_deref() == Some(me) {
                    self.read_seq = seq.max(self.read_seq);
                }
                let by_another = sender.is_some_and(|sender| sender != me);
                self.messages.insert(seq, (text("/message/id").unwrap_or_default(), by_another));
            }
            "ReadMarked" if text("/user/id").as_deref() == Some(me) => {
                self.read_seq = number("/readSeq").max(self.read_seq);
            }
            // Who comes back begins anew.
            "ConversationAdded" => {
                let told = std::mem::take(&mut self.told);
                *self = Self { told, since: rev, title: text("/conversation/title"), ..Self::default() };
            }
            "MemberRemoved" if text("/user/id").as_deref() == Some(me) => {
                let told = std::mem::take(&mut self.told);
                *self = Self { told, is_over: true, ..Self::default() };
            }
            "ConversationChanged" => self.title = text("/conversation/title"),
            "MemberAdded" => {
                if let (Some(members), Some(user)) = (&mut self.members, text("/member/user/id")) {
                    members.insert(user);
                }
            }
            "MemberRemoved" => {
                if let (Some(members), Some(user)) = (&mut self.members, text("/user/id")) {
                    members.remove(&user);
                }
            }
            _ => {}
        }
    }

    pub fn unread(&self) -> usize {
        self.messages.range(self.read_seq + 1..).filter(|(_, (_, by_another))| *by_another).count()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(rev: i64, seq: i64, sender: &str) -> Value {
        let message = json!({ "id": format!("m{seq}"), "seq": seq, "sender": { "id": sender } });
        json!({ "__typename": "MessageSent", "rev": rev, "conversation": { "id": "c" }, "message": message })
    }

    fn event(kind: &str, rev: i64, user: &str) -> Value {
        json!({ "__typename": kind, "rev": rev, "conversation": { "id": "c" }, "user": { "id": user } })
    }

    fn fold() -> Fold {
        Fold::of("ada", [("c".to_owned(), ["ada", "bob"].map(str::to_owned).into())].into_iter())
    }

    #[test]
    fn a_repeat_changes_nothing_and_is_counted() {
        let mut fold = fold();
        for event in [message(2, 1, "bob"), message(3, 2, "bob"), message(2, 1, "bob")] {
            fold.apply(&event);
        }
        assert_eq!((fold.total_unread(), fold.repeats, fold.confusions.len()), (2, 1, 0));
        fold.apply(&message(3, 9, "bob"));
        assert_eq!(fold.confusions.len(), 1, "another one under a name that is taken");
    }

    #[test]
    fn reading_and_sending_move_what_is_unread() {
        let mut fold = fold();
        for seq in 1..=4 {
            fold.apply(&message(seq + 1, seq, "bob"));
        }
        let mut read = event("ReadMarked", 6, "ada");
        read["readSeq"] = json!(3);
        fold.apply(&read);
        assert_eq!(fold.total_unread(), 1);
        fold.apply(&message(7, 5, "ada"));
        assert_eq!(fold.total_unread(), 0);
    }

    #[test]
    fn who_comes_back_begins_with_what_came_since() {
        let mut fold = fold();
        fold.apply(&message(2, 1, "bob"));
        fold.apply(&event("MemberRemoved", 3, "ada"));
        assert_eq!((fold.total_unread(), fold.conversations["c"].is_over), (0, true));
        fold.apply(&event("ConversationAdded", 9, "ada"));
        fold.apply(&message(10, 5, "bob"));
        let folded = &fold.conversations["c"];
        assert_eq!((folded.unread(), folded.since, folded.is_over), (1, 9, false));
        assert_eq!(folded.members, None);
    }
}
