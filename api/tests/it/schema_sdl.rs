//! The schema as clients download it.

use std::{collections::BTreeMap, fs, path::Path};

use api::schema::types::user_error::UserErrorCode;
use async_graphql::parser::{
    Positioned, parse_schema,
    types::{FieldDefinition, InputValueDefinition, TypeDefinition, TypeKind, TypeSystemDefinition},
};

pub fn types() -> BTreeMap<String, TypeDefinition> {
    let document = parse_schema(api::schema::sdl()).expect("the SDL parses");
    let named = |definition| match definition {
        TypeSystemDefinition::Type(ty) => Some((ty.node.name.node.to_string(), ty.node)),
        _ => None,
    };
    document.definitions.into_iter().filter_map(named).collect()
}

pub fn fields(ty: &TypeDefinition) -> Vec<&FieldDefinition> {
    let fields = match &ty.kind {
        TypeKind::Object(object) => &object.fields,
        TypeKind::Interface(interface) => &interface.fields,
        _ => return Vec::new(),
    };
    fields.iter().map(|field| &field.node).collect()
}

fn input_fields(ty: &TypeDefinition) -> &[Positioned<InputValueDefinition>] {
    match &ty.kind {
        TypeKind::InputObject(input) => &input.fields,
        _ => &[],
    }
}

fn implements(types: &BTreeMap<String, TypeDefinition>, name: &str) -> Vec<String> {
    let names = match &types[name].kind {
        TypeKind::Object(object) => &object.implements,
        TypeKind::Interface(interface) => &interface.implements,
        _ => return Vec::new(),
    };
    names.iter().map(|name| name.node.to_string()).collect()
}

#[test]
fn the_committed_schema_is_the_one_that_is_served() {
    let path = Path::new("../schema.graphql");
    let committed = fs::read_to_string(path).expect("schema.graphql is committed");
    assert!(
        committed == api::schema::sdl(),
        "schema.graphql is out of date: cargo run -p api --example sdl > schema.graphql"
    );
}

#[test]
fn everything_is_described() {
    let mut bare = Vec::new();
    for (name, ty) in types() {
        let mut check = |path: String, described: bool| (!described).then(|| bare.push(path));
        check(name.clone(), ty.description.is_some());
        for field in fields(&ty) {
            let path = format!("{name}.{}", field.name.node);
            check(path.clone(), field.description.is_some());
            for argument in &field.arguments {
                let argument = &argument.node;
                check(format!("{path}({}:)", argument.name.node), argument.description.is_some());
            }
        }
        for field in input_fields(&ty) {
            check(format!("{name}.{}", field.node.name.node), field.node.description.is_some());
        }
        if let TypeKind::Enum(values) = &ty.kind {
            for value in &values.values {
                check(format!("{name}.{}", value.node.value.node), value.node.description.is_some());
            }
        }
    }
    assert_eq!(bare, Vec::<String>::new());
}

#[test]
fn every_mutation_takes_one_input_and_answers_with_a_nullable_payload() {
    let types = types();
    let mutations = fields(&types["Mutation"]);
    assert_eq!(mutations.len(), 23);
    for mutation in mutations {
        let name = mutation.name.node.as_str();
        let capital = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        let arguments: Vec<_> = mutation
            .arguments
            .iter()
            .map(|argument| format!("{}: {}", argument.node.name.node, argument.node.ty.node))
            .collect();
        assert_eq!(arguments, [format!("input: {capital}Input!")]);
        assert_eq!(mutation.ty.node.to_string(), format!("{capital}Payload"));
    }
}

#[test]
fn every_payload_has_user_errors_and_only_nullable_entities() {
    for (name, ty) in types().iter().filter(|(name, _)| name.ends_with("Payload")) {
        let mut errors = 0;
        for field in fields(ty) {
            let field_type = field.ty.node.to_string();
            if field.name.node == "userErrors" {
                assert_eq!(field_type, "[UserError!]!", "{name}");
                errors += 1;
            } else {
                assert!(!field_type.ends_with('!'), "{name}.{} is not nullable", field.name.node);
            }
        }
        assert_eq!(errors, 1, "{name}");
    }
}

#[test]
fn roots_are_nullable_but_for_lists_with_holes_and_events() {
    let types = types();
    for root in ["Query", "Mutation", "Subscription"] {
        for field in fields(&types[root]) {
            let ty = field.ty.node.to_string();
            let nullable = !ty.ends_with('!');
            let is_event = matches!(&*ty, "Event!" | "ActivityEvent!");
            assert!(nullable || ty == "[Node]!" || is_event, "{root}.{}: {ty}", field.name.node);
        }
    }
}

/// async-graphql calls every integer `Int`, whatever its size, so the names are listed: each is an `i32` in the domain.
#[test]
fn integers_fit_32_bits() {
    let mut integers = Vec::new();
    for (name, ty) in types() {
        let of_fields = fields(&ty).into_iter().flat_map(|field| {
            let own = (field.name.node.to_string(), field.ty.node.to_string());
            let arguments = field.arguments.iter().map(|argument| &argument.node);
            let arguments = arguments.map(|input| (input.name.node.to_string(), input.ty.node.to_string()));
            arguments.chain([own]).collect::<Vec<_>>()
        });
        let of_inputs = input_fields(&ty)
            .iter()
            .map(|field| (field.node.name.node.to_string(), field.node.ty.node.to_string()));
        let all = of_fields.chain(of_inputs).filter(|(_, ty)| ty.trim_end_matches('!') == "Int");
        integers.extend(all.map(|(field, _)| format!("{name}.{field}")));
    }
    integers.sort();
    integers.dedup();
    let expected = [
        "Budget.burst",
        "Budget.perSecond",
        "Conversation.aroundSeq",
        "Conversation.first",
        "Conversation.last",
        "Conversation.lastSeq",
        "Conversation.unreadCount",
        "ConversationAdded.rev",
        "ConversationChanged.rev",
        "ConversationEvent.rev",
        "Limits.bodyBytesMax",
        "Limits.documentAliasesMax",
        "Limits.documentBytesMax",
        "Limits.documentDepthMax",
        "Limits.documentDirectivesMax",
        "Limits.documentDirectivesPerPlaceMax",
        "Limits.documentFragmentsMax",
        "Limits.documentIntrospectionListsMax",
        "Limits.documentNestingMax",
        "Limits.documentOperationsMax",
        "Limits.documentSelectionNestingMax",
        "Limits.documentSelectionsMax",
        "Limits.documentTokensMax",
        "Limits.eventCursorHoursMax",
        "Limits.groupMembersMax",
        "Limits.idsMax",
        "Limits.jsonNestingMax",
        "Limits.jsonValuesMax",
        "Limits.messageTextBytesMax",
        "Limits.operationCostMax",
        "Limits.operationTimeoutMs",
        "Limits.pageSizeDefault",
        "Limits.pageSizeMax",
        "Limits.replayEventsMax",
        "Limits.socketInitTimeoutMs",
        "Limits.socketMessageBytesMax",
        "Limits.socketOperationsMax",
        "Limits.socketPingIntervalMs",
        "Limits.socketQueueBytesMax",
        "Limits.socketQueueMessagesMax",
        "Limits.socketsPerAddressMax",
        "Limits.socketsPerUserMax",
        "MarkReadInput.seq",
        "Member.readSeq",
        "MemberAdded.rev",
        "MemberChanged.rev",
        "MemberRemoved.rev",
        "Message.rev",
        "Message.seq",
        "MessageSent.rev",
        "Query.first",
        "Query.last",
        "RateLimit.cost",
        "RateLimit.remaining",
        "ReadMarked.readSeq",
        "ReadMarked.rev",
        "User.totalUnreadCount",
        "UserError.retryAfterSeconds",
    ];
    assert_eq!(integers, expected, "a new Int: make sure that it is an i32, then list it");
}

#[test]
fn conversation_events_are_events_too() {
    let types = types();
    for name in [
        "ConversationAdded",
        "MessageSent",
        "ReadMarked",
        "MemberAdded",
        "MemberRemoved",
        "MemberChanged",
        "ConversationChanged",
    ] {
        assert_eq!(implements(&types, name), ["ConversationEvent", "Event"], "{name}");
    }
    assert_eq!(implements(&types, "ConversationEvent"), ["Event"]);
    for name in ["StreamOpened", "StreamLive", "ResyncRequired"] {
        assert_eq!(implements(&types, name), ["Event"], "{name}");
    }
    assert!(api::schema::sdl().contains("type MessageSent implements ConversationEvent & Event {"));
}

#[test]
fn date_times_name_their_specification() {
    let expected =
        "scalar DateTime @specifiedBy(url: \"https://scalars.graphql.org/andimarek/date-time.html\")\n";
    assert!(api::schema::sdl().contains(expected));
}

#[test]
fn user_error_codes_are_those_of_the_error_table() {
    let types = types();
    let TypeKind::Enum(values) = &types["UserErrorCode"].kind else { panic!("an enum") };
    let listed: Vec<_> = values.values.iter().map(|value| value.node.value.node.to_string()).collect();
    let expected: Vec<_> = UserErrorCode::all().map(|code| code.name().to_owned()).collect();
    assert_eq!(listed, expected);
    for promised in [
        "USERNAME_TAKEN",
        "INVALID_CREDENTIALS",
        "INVALID_INPUT",
        "NOT_FOUND",
        "NOT_A_MEMBER",
        "FORBIDDEN",
        "IDEMPOTENCY_CONFLICT",
        "TOO_MANY_MEMBERS",
    ] {
        assert!(listed.iter().any(|code| code == promised), "{promised}");
    }
}
