//! I6 and I8 of whole states: what a device made of the events it got is what its user fetches.

use std::collections::{BTreeMap, HashMap};

use super::{Found, Rows};
use crate::{
    fold::{Fold, Folded},
    journal::{Journal, View},
};

impl Found {
    pub(super) fn states(&mut self, journal: &Journal, rows: &Rows<'_>) {
        let views: HashMap<(&str, &str), &View> = journal
            .views
            .iter()
            .map(|view| ((view.user.as_str(), view.conversation.as_str()), view))
            .collect();
        for fold in &journal.folds {
            for confusion in &fold.confusions {
                self.note("I2", confusion.clone());
            }
            for (id, folded) in &fold.conversations {
                let Some(view) = views.get(&(fold.me.as_str(), id.as_str())) else {
                    if !folded.is_over {
                        self.note("I6", format!("{} still has {id} and cannot fetch it", fold.me));
                    }
                    continue;
                };
                for what in differences(folded, view, rows) {
                    self.note("I6", format!("{} folds other {what} of {id} than are fetched", fold.me));
                }
            }
            self.totals(journal, fold);
        }
    }

    /// I8: the total is the sum of all, and what the device counts.
    fn totals(&mut self, journal: &Journal, fold: &Fold) {
        let unread = journal.views.iter().filter(|view| view.user == fold.me).map(|view| view.unread);
        let (sum, folded) = (unread.sum::<i64>(), i64::try_from(fold.total_unread()).unwrap_or(i64::MAX));
        match journal.totals.get(&fold.me) {
            Some(total) if *total == sum && *total == folded => {}
            total => {
                let text = format!("{} is told {total:?} unread, has {sum} and counts {folded}", fold.me);
                self.note("I8", text);
            }
        }
    }
}

fn differences(folded: &Folded, view: &View, rows: &Rows<'_>) -> Vec<&'static str> {
    let mut found = Vec::new();
    // What came before the viewer did is fetched, not told.
    let rows = rows.get(view.conversation.as_str());
    let since = |seq: &i64| rows.and_then(|rows| rows.get(seq)).is_some_and(|row| row.rev > folded.since);
    let told: BTreeMap<i64, &str> =
        folded.messages.iter().map(|(seq, (id, _))| (*seq, id.as_str())).collect();
    let fetched: BTreeMap<i64, &str> =
        view.messages.iter().filter(|(seq, _)| since(seq)).map(|(seq, id)| (*seq, id.as_str())).collect();
    if folded.is_over || told != fetched {
        found.push("messages");
    }
    if i64::try_from(folded.unread()) != Ok(view.unread) {
        found.push("counts");
    }
    // Who comes back has read what there was.
    let reads_alike =
        if folded.since == 0 { folded.read_seq == view.read_seq } else { folded.read_seq <= view.read_seq };
    if !reads_alike {
        found.push("read positions");
    }
    if folded.title.as_ref().is_some_and(|title| *title != view.title) {
        found.push("titles");
    }
    if folded.members.as_ref().is_some_and(|members| *members != view.members) {
        found.push("members");
    }
    found
}
