//! Paging cursors and arguments.

use api::schema::paging::{PageArguments, PageCursor};
use domain::{
    ConversationId, Direction, ErrorCode, PageRequest, Timestamp, UserId, port::conversations::ListCursor,
};
use proptest::prelude::*;

fn list_cursor() -> impl Strategy<Value = ListCursor> {
    (any::<i64>(), 1..i64::MAX).prop_map(|(micros, id)| ListCursor {
        active_at: Timestamp::from_micros(micros),
        conversation: ConversationId::group(id),
    })
}

proptest! {
    #[test]
    fn every_cursor_survives_the_wire(list in list_cursor(), user in 1..i64::MAX, seq in 1..i32::MAX) {
        prop_assert_eq!(ListCursor::decode(&list.encode()), Some(list));
        prop_assert_eq!(UserId::decode(&UserId(user).encode()), Some(UserId(user)));
        prop_assert_eq!(i32::decode(&seq.encode()), Some(seq));
    }

    #[test]
    fn a_cursor_of_another_connection_is_none(list in list_cursor(), user in 1..i64::MAX, seq in 1..i32::MAX) {
        let (list, user, seq) = (list.encode(), UserId(user).encode(), seq.encode());
        prop_assert!(ListCursor::decode(&user).is_none() && ListCursor::decode(&seq).is_none());
        prop_assert!(UserId::decode(&list).is_none() && UserId::decode(&seq).is_none());
        prop_assert!(i32::decode(&list).is_none() && i32::decode(&user).is_none());
    }

    #[test]
    fn any_text_is_refused_or_canonical(text in "\\PC{0,48}|[A-Za-z0-9_-]{0,48}") {
        if let Some(cursor) = ListCursor::decode(&text) {
            prop_assert_eq!(cursor.encode(), text.clone());
        }
        if let Some(cursor) = UserId::decode(&text) {
            prop_assert_eq!(cursor.encode(), text.clone());
        }
        if let Some(cursor) = i32::decode(&text) {
            prop_assert_eq!(cursor.encode(), text);
        }
    }

    #[test]
    fn a_page_around_a_message_is_full_and_holds_it(
        size in 1..=100_i32,
        (last_seq, seq) in (1..10_000_i32).prop_flat_map(|last| (Just(last), 1..=last)),
    ) {
        let arguments = PageArguments { last: Some(size), ..PageArguments::default() };
        let request = arguments.around(seq, last_seq).expect("valid");
        let first = request.after.unwrap_or(0) + 1;
        let last = (first + size - 1).min(last_seq);
        prop_assert_eq!(request.direction, Direction::Forward);
        prop_assert!((first..=last).contains(&seq));
        prop_assert_eq!(last - first + 1, size.min(last_seq));
    }
}

#[test]
fn a_page_around_nothing_is_the_nearest_there_is() {
    let around = |seq, last_seq| PageArguments::default().around(seq, last_seq).map(|request| request.after);
    assert_eq!(around(i32::MIN, 50).ok(), Some(None));
    assert_eq!(around(i32::MAX, 50).ok(), Some(Some(30)));
    assert_eq!(around(1, 0).ok(), Some(None));
    assert_eq!(around(i32::MAX, i32::MAX).ok(), Some(Some(i32::MAX - 20)));
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    let code =
        |result: Result<PageRequest<i32>, domain::ServiceError>| result.err().map(|error| error.code());
    let sizes = |first, last| PageArguments { first, last, ..PageArguments::default() };
    for (first, last) in
        [(Some(1), Some(1)), (Some(0), None), (None, Some(-1)), (Some(101), None), (None, Some(i32::MAX))]
    {
        let request = sizes(first, last).request(Direction::Backward);
        assert_eq!(code(request), Some(ErrorCode::PageSizeOutOfRange), "{first:?} {last:?}");
        assert_eq!(code(sizes(first, last).around(5, 9)), Some(ErrorCode::PageSizeOutOfRange));
    }
    for cursor in ["", "x", "AQ", "a cursor", &UserId(7).encode()] {
        let arguments = PageArguments { after: Some(cursor.to_owned()), ..PageArguments::default() };
        assert_eq!(code(arguments.request(Direction::Backward)), Some(ErrorCode::BadRequest), "{cursor}");
    }
    let both = PageArguments { before: Some(7_i32.encode()), ..PageArguments::default() };
    assert_eq!(code(both.around(5, 9)), Some(ErrorCode::BadRequest));
}
