//! Every call of the domain in one table: as a method of `Chat`, as a request on the wire, and back.
//!
//! An entry reads: name, `[caller]` if somebody calls, arguments, output; the RPC with its request made of the arguments; the
//! arguments made of the request; which endpoint to prefer; and whether it may be sent again after its fate became unknown.

/// Hands the table to a macro: `Chat`'s methods and the server are made from it.
macro_rules! calls {
    ($made:ident) => {
        $made! {
            /// `USERNAME_TAKEN` when somebody has the name, or one that differs only in case or width.
            pub register(command: Register) -> SignedIn
                = register(RegisterRequest {
                    username: command.username,
                    password: command.password,
                    display_name: command.display_name,
                    device_name: command.device_name,
                    address: command.address.map(address_to_proto),
                }) | request => (Register {
                    username: request.username,
                    password: request.password,
                    display_name: request.display_name,
                    device_name: request.device_name,
                    address: request.address.as_deref().map(address).transpose()?,
                })
                by Route::Any, again IfUnsent;
            /// `INVALID_CREDENTIALS` for an unknown name and for a wrong password alike, after the same work.
            pub sign_in(command: SignIn) -> SignedIn
                = sign_in(SignInRequest {
                    username: command.username,
                    password: command.password,
                    device_name: command.device_name,
                    address: command.address.map(address_to_proto),
                }) | request => (SignIn {
                    username: request.username,
                    password: request.password,
                    device_name: request.device_name,
                    address: request.address.as_deref().map(address).transpose()?,
                })
                by Route::Any, again IfUnsent;
            /// However many ask at once with the same token, they get the same successor; again much later, the session ends.
            pub refresh_session(refresh_token: &str) -> Credentials
                = refresh_session(RefreshSessionRequest { refresh_token: refresh_token.to_owned() })
                | request => (&request.refresh_token)
                by Route::Any, again Always;
            pub(crate) end_session[caller](session: Option<SessionId>) -> Vec<SessionId>
                = sign_out(SignOutRequest { session: session.map(|id| id.0) })
                | request => (request.session.map(SessionId))
                by Route::User(caller.user), again Always;
            pub(crate) replace_password[caller](command: ChangePassword) -> Vec<SessionId>
                = change_password(ChangePasswordRequest {
                    current_password: command.current_password,
                    new_password: command.new_password,
                }) | request => (ChangePassword {
                    current_password: request.current_password,
                    new_password: request.new_password,
                })
                by Route::User(caller.user), again IfUnsent;
            /// `None` leaves the name as it is.
            pub update_profile[caller](display_name: Option<String>) -> User
                = update_profile(UpdateProfileRequest { display_name: display_name })
                | request => (request.display_name)
                by Route::Any, again Always;
            /// Alive sessions, newest first, at most 100.
            pub sessions[caller]() -> Vec<Session>
                = sessions(Nothing {}) | _request => ()
                by Route::Any, again Always;
            pub(crate) ended_sessions(since: Timestamp) -> Vec<(SessionId, Timestamp)>
                = ended_sessions(EndedSessionsRequest { since: since.0 }) | request => (Timestamp(request.since))
                by Route::Any, again Always;

            pub(crate) read_users[caller](ids: &[UserId]) -> HashMap<UserId, User>
                = users(Ids { ids: ids.iter().map(Wire::to_proto).collect() })
                | request => (&Vec::from_proto(request.ids)?)
                by Route::Any, again Always;
            /// `None` also for what can be nobody's username.
            pub user_by_username[caller](username: &str) -> Option<User>
                = user_by_username(UserByUsernameRequest { username: username.to_owned() })
                | request => (&request.username)
                by Route::Any, again Always;
            /// Those in which the caller is a member; others are left out, as if they did not exist.
            pub conversations[caller](ids: &[ConversationId]) -> HashMap<ConversationId, ConversationView>
                = conversations(ConversationIds { ids: ids.iter().map(Wire::to_proto).collect() })
                | request => (&Vec::from_proto(request.ids)?)
                by Route::Any, again Always;
            /// Latest activity first.
            pub list_conversations[caller](request: &PageRequest<ListCursor>) -> Page<ConversationView>
                = list_conversations(PageOfConversations {
                    size: request.size,
                    backward: request.direction == Direction::Backward,
                    after: request.after.as_ref().map(Wire::to_proto),
                    before: request.before.as_ref().map(Wire::to_proto),
                }) | request => (&list_request(request)?)
                by Route::Any, again Always;
            /// What is unread in all of the caller's conversations together, in one statement. Exact.
            pub total_unread_count[caller]() -> i32
                = total_unread_count(Nothing {}) | _request => ()
                by Route::Any, again Always;
            /// Active members by id, where the caller is a member too.
            pub members[caller](ids: &[MemberId]) -> HashMap<MemberId, Member>
                = members(MemberIds { ids: ids.iter().map(Wire::to_proto).collect() })
                | request => (&Vec::from_proto(request.ids)?)
                by Route::Any, again Always;
            /// The same page of the members of several conversations, ordered by user; those the caller is no member of are absent.
            pub list_members[caller](conversations: &[ConversationId], request: &PageRequest<UserId>)
                -> HashMap<ConversationId, Page<Member>>
                = list_members(ListMembersRequest {
                    conversations: conversations.iter().map(Wire::to_proto).collect(),
                    page: Some(page_to_proto(request, |user| user.0)),
                }) | request => (
                    &Vec::from_proto(request.conversations)?,
                    &page_request(request.page, |number| Some(UserId(number)))?
                )
                by Route::Any, again Always;
            /// By id, where the caller is a member.
            pub messages[caller](ids: &[MessageId]) -> HashMap<MessageId, Arc<Message>>
                = messages(Ids { ids: ids.iter().map(Wire::to_proto).collect() })
                | request => (&Vec::from_proto(request.ids)?)
                by Route::Any, again Always;
            /// By place, where the caller is a member.
            pub messages_at[caller](at: &[(ConversationId, i32)]) -> HashMap<(ConversationId, i32), Arc<Message>>
                = messages_at(Places { places: at.iter().map(Wire::to_proto).collect() })
                | request => (&Vec::from_proto(request.places)?)
                by Route::Any, again Always;
            /// A page of one conversation by `seq`, oldest first; empty where the caller is no member.
            pub history[caller](conversation: ConversationId, request: &PageRequest<i32>) -> Page<Arc<Message>>
                = history(HistoryRequest {
                    conversation: conversation.to_proto(),
                    page: Some(page_to_proto(request, |seq| i64::from(*seq))),
                }) | request => (
                    Wire::from_proto(request.conversation)?,
                    &page_request(request.page, |number| i32::try_from(number).ok())?
                )
                by Route::Conversation(conversation), again Always;
            /// As `history`, for several pages at once, in their order.
            pub histories[caller](pages: &[HistoryPage]) -> Vec<Page<Arc<Message>>>
                = histories(HistoriesRequest {
                    pages: pages.iter().map(|page| proto::HistoryRequest {
                        conversation: page.conversation.to_proto(),
                        page: Some(page_to_proto(&page.request, |seq| i64::from(*seq))),
                    }).collect(),
                }) | request => (&history_pages(request.pages)?)
                by Route::Any, again Always;

            /// The one conversation of two people, made at the first call from either side.
            pub open_direct_conversation[caller](other: UserId) -> ConversationView
                = open_direct_conversation(UserRequest { user: other.0 }) | request => (UserId(request.user))
                by Route::direct(caller.user, other), again Always;
            /// A new group; its maker is the owner. The same `client_key` again gives the same group.
            pub create_group[caller](command: CreateGroup) -> ConversationView
                = create_group(CreateGroupRequest {
                    title: command.title.as_str().to_owned(),
                    members: command.members.to_proto(),
                    client_key: command.client_key.map(|key| key.as_str().to_owned()),
                }) | request => (CreateGroup {
                    title: title(request.title)?,
                    members: Wire::from_proto(request.members)?,
                    client_key: request.client_key.map(client_key).transpose()?,
                })
                by Route::Any, again IfUnsent;
            /// For admins and owners.
            pub update_group[caller](command: UpdateGroup) -> ConversationView
                = update_group(UpdateGroupRequest {
                    conversation: command.conversation.to_proto(),
                    title: command.title.map(|title| title.as_str().to_owned()),
                }) | request => (UpdateGroup {
                    conversation: Wire::from_proto(request.conversation)?,
                    title: request.title.map(title).transpose()?,
                })
                by Route::Conversation(command.conversation), again Always;
            /// For admins and owners; all or nobody. Who is a member already stays one.
            pub add_members[caller](command: AddMembers) -> ConversationView
                = add_members(AddMembersRequest {
                    conversation: command.conversation.to_proto(),
                    users: command.users.to_proto(),
                }) | request => (AddMembers {
                    conversation: Wire::from_proto(request.conversation)?,
                    users: Wire::from_proto(request.users)?,
                })
                by Route::Conversation(command.conversation), again Always;
            /// For admins and owners. Who is no member any more stays none.
            pub remove_member[caller](command: RemoveMember) -> ConversationView
                = remove_member(RemoveMemberRequest {
                    conversation: command.conversation.to_proto(),
                    user: command.user.0,
                }) | request => (RemoveMember {
                    conversation: Wire::from_proto(request.conversation)?,
                    user: UserId(request.user),
                })
                by Route::Conversation(command.conversation), again Always;
            /// For owners. A group keeps at least one owner.
            pub set_member_role[caller](command: SetMemberRole) -> Member
                = set_member_role(SetMemberRoleRequest {
                    conversation: command.conversation.to_proto(),
                    user: command.user.0,
                    role: command.role.to_proto(),
                }) | request => (SetMemberRole {
                    conversation: Wire::from_proto(request.conversation)?,
                    user: UserId(request.user),
                    role: Wire::from_proto(request.role)?,
                })
                by Route::Conversation(command.conversation), again Always;
            /// The last owner hands over first, unless nobody else is left. Leaving again changes nothing and succeeds.
            pub leave_group[caller](conversation: ConversationId) -> ()
                = leave_group(ConversationRequest { conversation: conversation.to_proto() })
                | request => (Wire::from_proto(request.conversation)?)
                by Route::Conversation(conversation), again Always;
            /// Never backwards, never past `last_seq`. Marks of one reader in one conversation are committed at most once a
            /// second; those between wait for the next and are answered with it.
            pub mark_read[caller](command: MarkRead) -> ConversationView
                = mark_read(MarkReadRequest { conversation: command.conversation.to_proto(), seq: command.seq })
                | request => (MarkRead {
                    conversation: Wire::from_proto(request.conversation)?,
                    seq: request.seq,
                })
                by Route::Conversation(command.conversation), again Always;
            /// Answers after the commit, with the final `id`, `seq` and `created_at`. `UNAVAILABLE` at once when the queue is
            /// full, later when the deadline passed; the same key is safe to send again in both cases.
            pub send_message[caller](command: SendMessage) -> Arc<Message>
                = send_message(SendMessageRequest {
                    conversation: command.conversation.to_proto(),
                    client_key: command.client_key.as_str().to_owned(),
                    text: command.text.into_string(),
                    mentions: command.mentions.iter().map(|user| user.0).collect(),
                }) | request => (send_command(request)?)
                by Route::Conversation(command.conversation), again Always;

            /// Where the log stands.
            pub heads() -> Heads
                = heads(Nothing {}) | _request => ()
                by Route::Any, again Always;
            /// Voids every cursor of this epoch: the database lost a tail or was restored.
            pub raise_epoch(epoch: i64) -> ()
                = raise_epoch(RaiseEpochRequest { epoch: epoch }) | request => (request.epoch)
                by Route::Any, again Always;
            /// What a lane's log says after a position, with the data of its facts as it is now.
            pub read_log(lane: LaneId, after: i64, limit: u32) -> Vec<LoggedBatch>
                = read_log(ReadLogRequest { lane: lane.to_proto(), after: after, limit: limit })
                | request => (Wire::from_proto(request.lane)?, request.after, request.limit)
                by Route::Lane(lane), again Always;
            /// What changed for the caller after these positions, from one snapshot; without `since` only heads and memberships.
            pub missed[caller](since: Option<&Positions>, only: Option<&[ConversationId]>) -> Missed
                = missed(MissedRequest {
                    since: since.map(Wire::to_proto),
                    only: only.map(|ids| proto::ConversationIds { ids: ids.iter().map(Wire::to_proto).collect() }),
                }) | request => (
                    request.since.map(Positions::from_proto).transpose()?.as_ref(),
                    request.only.map(|only| Vec::from_proto(only.ids)).transpose()?.as_deref()
                )
                by Route::User(caller.user), again Always;
            /// Prolongs what the worker relays, adds at most one lane that nobody has, and answers all of them.
            pub hold_lanes(worker: WorkerId) -> Vec<RelayLane>
                = hold_lanes(HoldLanesRequest { worker: worker.0 }) | request => (WorkerId(request.worker))
                by Route::Any, again Always;
            /// Notes how far a lane has been relayed; `false` when another worker has it by now, or it was noted before.
            pub note_relayed(lane: LaneId, fence: i64, pos: i64) -> bool
                = note_relayed(NoteRelayedRequest { lane: lane.to_proto(), fence: fence, pos: pos })
                | request => (Wire::from_proto(request.lane)?, request.fence, request.pos)
                by Route::Any, again Always;
            /// What waits for the relay in each lane, whoever has it.
            pub relay_backlog() -> Vec<RelayBacklog>
                = relay_backlog(Nothing {}) | _request => ()
                by Route::Any, again Always;
            /// Gives up what the worker relays, so that others need not wait.
            pub release_lanes(worker: WorkerId) -> ()
                = release_lanes(HoldLanesRequest { worker: worker.0 }) | request => (WorkerId(request.worker))
                by Route::Any, again Always;
            /// Removes outbox rows, refresh tokens, mutes and familiar networks whose time has passed; answers how many went.
            pub remove_expired() -> u64
                = remove_expired(Nothing {}) | _request => ()
                by Route::Any, again Always;

            /// Pushes for the caller's session, in place of what it had; another session with the address has none from now on.
            pub register_device[caller](address: PushAddress) -> PushProvider
                = register_device(PushAddress {
                    provider: address.to_proto().provider,
                    text: address.text().to_owned(),
                    p256dh: address.to_proto().p256dh,
                    auth: address.to_proto().auth,
                }) | request => (Wire::from_proto(request)?)
                by Route::Any, again Always;
            /// No more pushes for one of the caller's sessions.
            pub unregister_device[caller](session: SessionId) -> ()
                = unregister_device(SignOutRequest { session: Some(session.0) })
                | request => (SessionId(request.session.unwrap_or_default()))
                by Route::Any, again Always;
            /// Which of the caller's sessions get pushes.
            pub push_providers[caller]() -> HashMap<SessionId, PushProvider>
                = push_providers(Nothing {}) | _request => ()
                by Route::Any, again Always;
            /// No pushes about one of the caller's conversations until then; a time that has passed ends it.
            pub mute_conversation[caller](conversation: ConversationId, until: Timestamp) -> ()
                = mute_conversation(MuteRequest { conversation: conversation.to_proto(), until: until.0 })
                | request => (Wire::from_proto(request.conversation)?, Timestamp(request.until))
                by Route::Any, again Always;
            /// Until when the caller muted these; those that are not muted now are left out.
            pub muted[caller](ids: &[ConversationId]) -> HashMap<ConversationId, Timestamp>
                = muted(ConversationIds { ids: ids.iter().map(Wire::to_proto).collect() })
                | request => (&Vec::from_proto(request.ids)?)
                by Route::Any, again Always;
            /// No pushes at these hours of every day; `None` for none.
            pub set_quiet_hours[caller](hours: Option<QuietHours>) -> ()
                = set_quiet_hours(MaybeQuietHours { hours: hours.as_ref().map(Wire::to_proto) })
                | request => (request.hours.map(Wire::from_proto).transpose()?)
                by Route::Any, again Always;
            pub quiet_hours[caller]() -> Option<QuietHours>
                = quiet_hours(Nothing {}) | _request => ()
                by Route::Any, again Always;
            /// What of these the caller may watch: conversations that they are in, and of the users and, at most `members_max`, those
            /// conversations' members whom they talk to.
            pub activity_scope[caller](users: &[UserId], conversations: &[ConversationId], members_max: u32)
                -> ActivityScope
                = activity_scope(ActivityScopeRequest {
                    users: users.iter().map(Wire::to_proto).collect(),
                    conversations: conversations.iter().map(Wire::to_proto).collect(),
                    members_max: members_max,
                }) | request => (
                    &Vec::from_proto(request.users)?, &Vec::from_proto(request.conversations)?, request.members_max
                )
                by Route::Any, again Always;
            /// Who may know whether the caller is there.
            pub presence_visibility[caller]() -> PresenceVisibility
                = presence_visibility(Nothing {}) | _request => ()
                by Route::Any, again Always;
            pub(crate) keep_presence_visibility[caller](visibility: PresenceVisibility) -> ()
                = set_presence_visibility(PresenceVisibilityMessage { hidden: visibility.to_reply().hidden })
                | request => (PresenceVisibility::from_reply(request)?)
                by Route::Any, again Always;
            /// These sessions had a subscription until then.
            pub(crate) note_seen(sessions: Vec<SessionId>, until: Timestamp) -> ()
                = note_seen(NoteSeenRequest { sessions: sessions.to_proto(), until: until.0 })
                | request => (Wire::from_proto(request.sessions)?, Timestamp(request.until))
                by Route::Any, again Always;
            /// The last user of each run of `size` members after a user, at most `runs` of them.
            pub member_runs(conversation: ConversationId, after: UserId, size: u32, runs: u32) -> Vec<UserId>
                = member_runs(MemberRunsRequest {
                    conversation: conversation.to_proto(),
                    after: after.0,
                    size: size,
                    runs: runs,
                }) | request => (
                    Wire::from_proto(request.conversation)?, UserId(request.after), request.size, request.runs
                )
                by Route::Any, again Always;
            /// Who in each of these ranges of members is due a push about its message now.
            pub due_pushes(ranges: Vec<PushRange>) -> Vec<PushBatch>
                = due_pushes(DuePushesRequest { ranges: ranges.to_proto() })
                | request => (Wire::from_proto(request.ranges)?)
                by Route::Any, again Always;
            /// Pushes that are done are not due again; devices that are gone are forgotten.
            pub note_pushed(pushed: Vec<Pushed>) -> ()
                = note_pushed(NotePushedRequest { pushed: pushed.to_proto() })
                | request => (Wire::from_proto(request.pushed)?)
                by Route::Any, again Always;
            /// Pushes wait for so many milliseconds, because their provider is away.
            pub park_push(task: PushTask, wait_ms: u64) -> ()
                = park_push(ParkPushRequest {
                    push: Some(task.to_proto()),
                    wait_ms: wait_ms,
                }) | request => (Wire::from_proto(request.push.unwrap_or_default())?, request.wait_ms)
                by Route::Any, again Always;
            /// Pushes of a lane that have waited long enough.
            pub parked_pushes(lane: LaneId) -> Vec<PushTask>
                = parked_pushes(ParkedPushesRequest { lane: lane.to_proto() }) | request => (Wire::from_proto(request.lane)?)
                by Route::Any, again Always;
            /// They are on their way again.
            pub unpark_push(task: PushTask) -> ()
                = unpark_push(ParkedPush { range: Some(task.range.to_proto()), tries: task.tries })
                | request => (Wire::from_proto(request)?)
                by Route::Any, again Always;
            /// Keeps a task that could not be done, for people to look at.
            pub bury_task(topic: &str, record: Vec<u8>, reason: &str) -> ()
                = bury_task(BuryTaskRequest { topic: topic.to_owned(), record: record, reason: reason.to_owned() })
                | request => (&request.topic, request.record, &request.reason)
                by Route::Any, again IfUnsent;
            /// Tasks that could not be done, oldest first.
            pub dead_tasks(limit: u32) -> Vec<DeadTask>
                = dead_tasks(DeadTasksRequest { limit: limit }) | request => (request.limit)
                by Route::Any, again Always;
            pub forget_dead_task(id: i64) -> ()
                = forget_dead_task(ForgetDeadTaskRequest { id: id }) | request => (request.id)
                by Route::Any, again Always;
        }
    };
}

pub(crate) use calls;
