//! Pages of a connection.

use crate::{ErrorCode, ServiceError};

pub const PAGE_SIZE_DEFAULT: i32 = 20;
pub const PAGE_SIZE_MAX: i32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The first items after the cursor.
    Forward,
    /// The last items before the cursor, still in the connection's order.
    Backward,
}

/// What a client asks of a connection, checked. `after` and `before` bound the range; `C` is the decoded cursor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageRequest<C> {
    pub size: u32,
    pub direction: Direction,
    pub after: Option<C>,
    pub before: Option<C>,
}

impl<C> PageRequest<C> {
    /// Checks `first` and `last`; with neither, the default size in the given direction.
    pub fn new(
        (first, after): (Option<i32>, Option<C>),
        (last, before): (Option<i32>, Option<C>),
        unstated: Direction,
    ) -> Result<Self, ServiceError> {
        let (size, direction) = match (first, last) {
            (Some(_), Some(_)) => return Err(out_of_range("give either `first` or `last`, not both")),
            (Some(size), None) => (size, Direction::Forward),
            (None, Some(size)) => (size, Direction::Backward),
            (None, None) => (PAGE_SIZE_DEFAULT, unstated),
        };
        if !(1..=PAGE_SIZE_MAX).contains(&size) {
            return Err(out_of_range("a page has 1 to 100 items"));
        }
        Ok(Self { size: size.unsigned_abs(), direction, after, before })
    }
}

fn out_of_range(message: &'static str) -> ServiceError {
    ServiceError::new(ErrorCode::PageSizeOutOfRange, message)
}

/// A page: items in the connection's order, whichever way it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_previous: bool,
    pub has_next: bool,
}

impl<T> Page<T> {
    /// From rows read in the request's direction, one more than asked for when there are more.
    pub fn from_rows<C>(mut rows: Vec<T>, request: &PageRequest<C>) -> Self {
        let size = request.size as usize;
        let more = rows.len() > size;
        rows.truncate(size);
        match request.direction {
            Direction::Forward => Self { items: rows, has_previous: request.after.is_some(), has_next: more },
            Direction::Backward => {
                rows.reverse();
                Self { items: rows, has_previous: more, has_next: request.before.is_some() }
            }
        }
    }

    pub fn empty() -> Self {
        Self { items: Vec::new(), has_previous: false, has_next: false }
    }

    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            has_previous: self.has_previous,
            has_next: self.has_next,
        }
    }
}
