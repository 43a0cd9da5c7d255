//! A span for each request that rides in a transaction, each in its own trace: no one of them is the parent of the others. The place in the
//! log tells which rode together.

use super::{
    batch::Answer,
    queue::{Waiting, Work},
    view::Views,
};
use crate::trace::{self, ExportedSpan};

/// Empty where no spans are exported.
pub(super) fn of(part: &[Waiting]) -> Vec<ExportedSpan> {
    if !trace::is_exported() {
        return Vec::new();
    }
    let traces = part.iter().map(|waiting| match &waiting.work {
        Work::Send(draft) => draft.trace,
        Work::Read { .. } => None,
    });
    traces.map(|trace| ExportedSpan::part_of(trace, || trace::commit(part.len()))).collect()
}

/// Ends them with what became of the requests.
pub(super) fn tell(spans: Vec<ExportedSpan>, answers: &[Answer], views: &Views) {
    for (span, answer) in spans.into_iter().zip(answers) {
        match answer {
            Answer::Message(message) => {
                span.record("confab.lane", views.lane_of(message.conversation).0);
                span.record("confab.pos", message.pos);
            }
            Answer::Refused(refusal) => span.fail(refusal.code().name()),
            Answer::Read(_) => {}
        }
    }
}

pub(super) fn fail(spans: &[ExportedSpan], error: &'static str) {
    for span in spans {
        span.fail(error);
    }
}
