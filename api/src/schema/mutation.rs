//! The mutation root; one file an operation, with the verb of the service it calls.

pub mod add_members;
pub mod change_password;
pub mod create_group;
pub mod leave_group;
pub mod mark_read;
pub mod mute_conversation;
pub mod open_direct_conversation;
pub mod refresh_session;
pub mod register;
pub mod register_device;
pub mod remove_member;
pub mod renew_connection;
pub mod send_message;
pub mod set_member_role;
pub mod set_presence;
pub mod set_presence_visibility;
pub mod set_quiet_hours;
pub mod set_typing;
pub mod sign_in;
pub mod sign_out;
pub mod unregister_device;
pub mod update_group;
pub mod update_profile;

use async_graphql::{Context, Object};

use self::{
    add_members::{AddMembersInput, AddMembersPayload},
    change_password::{ChangePasswordInput, ChangePasswordPayload},
    create_group::{CreateGroupInput, CreateGroupPayload},
    leave_group::{LeaveGroupInput, LeaveGroupPayload},
    mark_read::{MarkReadInput, MarkReadPayload},
    mute_conversation::{MuteConversationInput, MuteConversationPayload},
    open_direct_conversation::{OpenDirectConversationInput, OpenDirectConversationPayload},
    refresh_session::{RefreshSessionInput, RefreshSessionPayload},
    register::{RegisterInput, RegisterPayload},
    register_device::{RegisterDeviceInput, RegisterDevicePayload},
    remove_member::{RemoveMemberInput, RemoveMemberPayload},
    renew_connection::{RenewConnectionInput, RenewConnectionPayload},
    send_message::{SendMessageInput, SendMessagePayload},
    set_member_role::{SetMemberRoleInput, SetMemberRolePayload},
    set_presence::{SetPresenceInput, SetPresencePayload},
    set_presence_visibility::{SetPresenceVisibilityInput, SetPresenceVisibilityPayload},
    set_quiet_hours::{SetQuietHoursInput, SetQuietHoursPayload},
    set_typing::{SetTypingInput, SetTypingPayload},
    sign_in::{SignInInput, SignInPayload},
    sign_out::{SignOutInput, SignOutPayload},
    unregister_device::{UnregisterDeviceInput, UnregisterDevicePayload},
    update_group::{UpdateGroupInput, UpdateGroupPayload},
    update_profile::{UpdateProfileInput, UpdateProfilePayload},
};
use super::error::Nullable;

/// A field's future has room for any field, so what is large and rare is boxed here, and a send is small.
pub struct Mutation;

/// What clients can change. Every mutation takes one `input` and answers with a payload. What a caller can put right is in
/// the payload's `userErrors`; then, and only then, its other fields are null.
#[Object]
impl Mutation {
    /// Creates a user and signs this device in. Needs no signed-in caller.
    async fn register(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who registers, and from which device.")] input: RegisterInput,
    ) -> Nullable<RegisterPayload> {
        Some(Box::pin(register::register(ctx, input)).await)
    }

    /// Signs a known user in on this device. Needs no signed-in caller.
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who signs in, and on which device.")] input: SignInInput,
    ) -> Nullable<SignInPayload> {
        Some(Box::pin(sign_in::sign_in(ctx, input)).await)
    }

    /// Exchanges a refresh token for new credentials of the same session; needs no access token. Each refresh token works
    /// once: sent again within 30 seconds, for instance because the answer was lost, it gets the same credentials' successor
    /// again; later it ends the session, because it may have been stolen.
    async fn refresh_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The refresh token to exchange.")] input: RefreshSessionInput,
    ) -> Nullable<RefreshSessionPayload> {
        Some(Box::pin(refresh_session::refresh_session(ctx, input)).await)
    }

    /// Ends a session of the viewer: its tokens stop working and its sockets close within 2 seconds. Ending one that has
    /// ended succeeds.
    async fn sign_out(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which session to end.")] input: SignOutInput,
    ) -> Nullable<SignOutPayload> {
        Some(sign_out::sign_out(ctx, input).await)
    }

    /// Changes the viewer's password and ends all sessions but this one.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The password as it is and as it shall be.")] input: ChangePasswordInput,
    ) -> Nullable<ChangePasswordPayload> {
        Some(Box::pin(change_password::change_password(ctx, input)).await)
    }

    /// Changes what others read about the viewer.
    async fn update_profile(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change.")] input: UpdateProfileInput,
    ) -> Nullable<UpdateProfilePayload> {
        Some(update_profile::update_profile(ctx, input).await)
    }

    /// Lets the WebSocket that it is sent on live as long as a newer access token of the same session. Otherwise the socket
    /// closes with 4403 when the token it was opened with ends.
    async fn renew_connection(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The newer access token.")] input: RenewConnectionInput,
    ) -> Nullable<RenewConnectionPayload> {
        Some(renew_connection::renew_connection(ctx, input).await)
    }

    /// Opens the conversation of the viewer with another person. There is one for each pair: whoever opens it, and however
    /// often, gets the same.
    async fn open_direct_conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "With whom.")] input: OpenDirectConversationInput,
    ) -> Nullable<OpenDirectConversationPayload> {
        Some(open_direct_conversation::open_direct_conversation(ctx, input).await)
    }

    /// Creates a group with the viewer as owner. With a `clientKey` it is safe to send again: the same key gives the same
    /// group.
    async fn create_group(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What the group shall be.")] input: CreateGroupInput,
    ) -> Nullable<CreateGroupPayload> {
        Some(Box::pin(create_group::create_group(ctx, input)).await)
    }

    /// Changes a group. Needs the role admin or owner.
    async fn update_group(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change in which group.")] input: UpdateGroupInput,
    ) -> Nullable<UpdateGroupPayload> {
        Some(update_group::update_group(ctx, input).await)
    }

    /// Adds people to a group: all or none. Those who are members already stay as they are. New members see the whole
    /// history. Needs the role admin or owner.
    async fn add_members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to add to which group.")] input: AddMembersInput,
    ) -> Nullable<AddMembersPayload> {
        Some(add_members::add_members(ctx, input).await)
    }

    /// Removes a member from a group. Nothing later reaches them. Needs the role admin or owner; owners cannot be removed.
    /// To leave oneself, use `leaveGroup`.
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to remove from which group.")] input: RemoveMemberInput,
    ) -> Nullable<RemoveMemberPayload> {
        Some(remove_member::remove_member(ctx, input).await)
    }

    /// Takes the viewer out of a group. The last owner makes somebody else owner first. Leaving again succeeds.
    async fn leave_group(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which group to leave.")] input: LeaveGroupInput,
    ) -> Nullable<LeaveGroupPayload> {
        Some(leave_group::leave_group(ctx, input).await)
    }

    /// Changes what a member may do in a group. Needs the role owner.
    async fn set_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose role, and which.")] input: SetMemberRoleInput,
    ) -> Nullable<SetMemberRolePayload> {
        Some(set_member_role::set_member_role(ctx, input).await)
    }

    /// Sends a message. The answer comes after it is committed, with its final `id`, `seq` and `createdAt`. It is safe to
    /// send again: the same `clientMessageId` with the same content gives the same message, at any time.
    async fn send_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to send where.")] input: SendMessageInput,
    ) -> Nullable<SendMessagePayload> {
        Some(send_message::send_message(ctx, input).await)
    }

    /// Moves the viewer's read position forward to a message, on all their devices. A position that is passed already stays,
    /// and that succeeds.
    async fn mark_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How far the viewer has read in which conversation.")] input: MarkReadInput,
    ) -> Nullable<MarkReadPayload> {
        Some(mark_read::mark_read(ctx, input).await)
    }

    /// Asks for pushes to this device while the app is not open, in place of what this session had asked for. They end with the
    /// session; a device that signs in as somebody else gets that user's alone. A push is sent at most once for a message, not for
    /// what was read meanwhile, and not while the session has a subscription to `events`.
    async fn register_device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where the device is reached.")] input: RegisterDeviceInput,
    ) -> Nullable<RegisterDevicePayload> {
        Some(register_device::register_device(ctx, input).await)
    }

    /// Ends pushes to this device. One that gets none stays so.
    async fn unregister_device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which device.")] input: UnregisterDeviceInput,
    ) -> Nullable<UnregisterDevicePayload> {
        Some(unregister_device::unregister_device(ctx, input).await)
    }

    /// Keeps a conversation from pushing to the viewer's devices. Messages arrive and are unread as ever.
    async fn mute_conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which conversation, and until when.")] input: MuteConversationInput,
    ) -> Nullable<MuteConversationPayload> {
        Some(mute_conversation::mute_conversation(ctx, input).await)
    }

    /// Keeps the viewer's devices from being pushed to at some hours of every day.
    async fn set_quiet_hours(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which hours.")] input: SetQuietHoursInput,
    ) -> Nullable<SetQuietHoursPayload> {
        Some(set_quiet_hours::set_quiet_hours(ctx, input).await)
    }

    /// Says whether somebody looks at this device. For the session of the WebSocket that it is sent on, next to a subscription to
    /// `events`; a user is `AWAY` when all their devices are. Lost when the session is gone for longer than 10 seconds.
    async fn set_presence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whether somebody looks at the device.")] input: SetPresenceInput,
    ) -> Nullable<SetPresencePayload> {
        Some(set_presence::set_presence(ctx, input).await)
    }

    /// Says who may know whether the viewer is there. Kept. Those who watch are told nothing more within seconds.
    async fn set_presence_visibility(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who may know.")] input: SetPresenceVisibilityInput,
    ) -> Nullable<SetPresenceVisibilityPayload> {
        Some(set_presence_visibility::set_presence_visibility(ctx, input).await)
    }

    /// Tells those who watch a conversation by `activity` that the viewer types. Never kept; at most 20 calls in a row and then 2 a second,
    /// unless the operator says otherwise.
    async fn set_typing(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where, and whether.")] input: SetTypingInput,
    ) -> Nullable<SetTypingPayload> {
        Some(set_typing::set_typing(ctx, input).await)
    }
}
