//! Which fields the hub may execute once for all.

use api::schema::shareable::{SHAREABLE, is_shareable};

use super::schema_sdl::{fields, types};

#[test]
fn shareable_fields_exist_and_are_sorted() {
    let types = types();
    for listed in SHAREABLE {
        let (type_name, field) = listed.split_once('.').expect("Type.field");
        let ty = types.get(type_name).unwrap_or_else(|| panic!("no type {type_name}"));
        assert!(fields(ty).iter().any(|known| known.name.node == field), "no field {listed}");
        assert!(is_shareable(type_name, field), "{listed} is not in its place");
    }
}

#[test]
fn what_depends_on_the_viewer_is_not_shareable() {
    for field in ["lastMessage", "unreadCount", "viewerMember", "members", "messages"] {
        assert!(!is_shareable("Conversation", field), "Conversation.{field}");
    }
    let types = types();
    for personal in ["Query", "Mutation", "Session", "Credentials", "MemberConnection", "MessageConnection"] {
        for field in fields(&types[personal]) {
            assert!(!is_shareable(personal, &field.name.node), "{personal}.{}", field.name.node);
        }
    }
    assert!(is_shareable("Event", "__typename"));
    assert!(!is_shareable("Event", "__schema"));
}
