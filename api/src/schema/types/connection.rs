//! Connections in Relay's form.
//!
//! Own types, because those of async-graphql have no descriptions and fail Relay's lint.

use async_graphql::SimpleObject;
use domain::Page;

/// Where a page lies in its list.
#[derive(SimpleObject)]
pub struct PageInfo {
    /// Whether there are items after this page. When paging backwards: whether the page was bounded by `before`.
    has_next_page: bool,
    /// Whether there are items before this page. When paging forwards: whether the page was bounded by `after`.
    has_previous_page: bool,
    /// The cursor of the page's first item, for `before`; null on an empty page.
    start_cursor: Option<String>,
    /// The cursor of the page's last item, for `after`; null on an empty page.
    end_cursor: Option<String>,
}

impl PageInfo {
    pub fn new<T>(page: &Page<T>, cursor: impl Fn(&T) -> String) -> Self {
        Self {
            has_next_page: page.has_next,
            has_previous_page: page.has_previous,
            start_cursor: page.items.first().map(&cursor),
            end_cursor: page.items.last().map(&cursor),
        }
    }
}

/// Defines a connection and its edge over nodes that have a `position()`.
macro_rules! connection {
    (
        $(#[$connection_doc:meta])* $connection:ident,
        $(#[$edge_doc:meta])* $edge:ident,
        $node:ident
    ) => {
        pub struct $connection(domain::Page<$node>);

        $(#[$connection_doc])*
        #[async_graphql::Object]
        impl $connection {
            /// The items of this page, each with its cursor.
            async fn edges(&self) -> Vec<$edge<'_>> {
                self.0.items.iter().map(|node| $edge { node }).collect()
            }

            /// The items of this page alone, for clients that page with `pageInfo`.
            async fn nodes(&self) -> &[$node] {
                &self.0.items
            }

            /// Where this page lies in the whole list.
            async fn page_info(&self) -> $crate::schema::types::connection::PageInfo {
                $crate::schema::types::connection::PageInfo::new(&self.0, cursor)
            }
        }

        impl From<domain::Page<$node>> for $connection {
            fn from(page: domain::Page<$node>) -> Self {
                Self(page)
            }
        }

        pub struct $edge<'a> {
            node: &'a $node,
        }

        $(#[$edge_doc])*
        #[async_graphql::Object]
        impl<'a> $edge<'a> {
            /// The item's position in the list, for `after` and `before`; opaque.
            async fn cursor(&self) -> String {
                cursor(self.node)
            }

            /// The item.
            async fn node(&self) -> &'a $node {
                self.node
            }
        }

        fn cursor(node: &$node) -> String {
            $crate::schema::paging::PageCursor::encode(&node.position())
        }
    };
}

pub(crate) use connection;
