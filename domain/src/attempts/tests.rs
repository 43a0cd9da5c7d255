use std::net::Ipv4Addr;

use super::*;
use crate::testing::ManualClock;

fn attempts() -> (Arc<ManualClock>, Attempts) {
    let clock = Arc::new(ManualClock::at(1_900_000_000));
    (clock.clone(), Attempts::new(clock, &Limits::default()))
}

/// Where the database knows no network.
fn sign_in(attempts: &Attempts, account: &str, address: Option<IpAddr>) -> ServiceResult<Attempt> {
    let (attempt, refusal) = attempts.sign_in(account, address)?;
    refusal.map_or(Ok(attempt), Err)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text).map(|text| text.parse().expect("an address"))
}

fn nth_address(index: u32) -> Option<IpAddr> {
    Some(index).map(|index| IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + index)))
}

#[test]
fn five_attempts_at_an_account_then_one_every_thirty_seconds() {
    let (clock, attempts) = attempts();
    let home = address("192.0.2.1");
    for _ in 0..5 {
        sign_in(&attempts, "alice", home).expect("within the burst");
    }
    let refusal = sign_in(&attempts, "alice", home).expect_err("too many");
    assert_eq!(
        (refusal.code(), refusal.retry_after()),
        (ErrorCode::RateLimited, Some(Duration::from_secs(30)))
    );
    sign_in(&attempts, "bob", home).expect("another account");
    clock.advance(Duration::from_secs(29));
    let refusal = sign_in(&attempts, "alice", home).expect_err("too early");
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(1)));
    clock.advance(Duration::from_secs(1));
    sign_in(&attempts, "alice", home).expect("refilled");
    sign_in(&attempts, "alice", home).expect_err("only one");
}

#[test]
fn a_strangers_flood_leaves_the_owners_known_address_alone() {
    let (clock, attempts) = attempts();
    let home = address("192.0.2.1");
    let signed_in = sign_in(&attempts, "alice", home).expect("first");
    attempts.signed_in(signed_in);
    let refused = (0..1000).filter(|index| sign_in(&attempts, "alice", nth_address(*index)).is_err()).count();
    assert_eq!(refused, 970, "the account's limit holds over all unfamiliar addresses");
    sign_in(&attempts, "alice", nth_address(5000)).expect_err("unfamiliar");
    sign_in(&attempts, "alice", home).expect("familiar");
    sign_in(&attempts, "bob", nth_address(5001)).expect("another account");
    clock.advance(FAMILIAR_FOR);
    for index in 6000..6030 {
        sign_in(&attempts, "alice", nth_address(index)).expect("refilled");
    }
    sign_in(&attempts, "alice", home).expect_err("no longer familiar");
}

#[test]
fn a_sign_in_that_nobody_looked_at_counts_nothing() {
    let (_clock, attempts) = attempts();
    let home = address("192.0.2.1");
    for _ in 0..1000 {
        let attempt = sign_in(&attempts, "alice", home).expect("nothing was counted");
        attempts.give_back(&attempt);
    }
    for index in 0..30 {
        sign_in(&attempts, "alice", nth_address(index)).expect("its address is not familiar by that");
    }
    sign_in(&attempts, "alice", home).expect_err("neither is this one");
}

#[test]
fn one_address_tries_sixty_accounts_then_one_a_second() {
    let (clock, attempts) = attempts();
    let passed =
        |from| (0..100).filter(|index| sign_in(&attempts, &format!("user{index}"), from).is_ok()).count();
    assert_eq!(passed(address("192.0.2.1")), 60);
    assert_eq!(passed(address("::ffff:192.0.2.1")), 0, "the same address in the clothes of IPv6");
    clock.advance(Duration::from_secs(3));
    assert_eq!(passed(address("192.0.2.1")), 3);
}

#[test]
fn an_ipv6_network_counts_as_one_address_and_so_do_all_unknown_ones() {
    let (_clock, attempts) = attempts();
    let passed =
        |from| (0..100).filter(|index| sign_in(&attempts, &format!("a{index}"), from).is_ok()).count();
    assert_eq!(passed(address("2001:db8:1:2::1")), 30 + 30);
    assert_eq!(passed(address("2001:db8:1:2:ffff::2")), 0);
    assert_eq!(passed(address("2001:db8:1:3::1")), 60);
    assert_eq!(passed(None), 60);
    assert_eq!(passed(None), 0);
}

#[test]
fn what_succeeds_is_not_counted() {
    let (_clock, attempts) = attempts();
    for round in 0..200 {
        let attempt = sign_in(&attempts, "alice", None).unwrap_or_else(|_| panic!("round {round}"));
        attempts.signed_in(attempt);
        attempts.check_password(UserId(1)).expect("passes");
        attempts.give_back_check(UserId(1));
    }
    for _ in 0..5 {
        attempts.check_password(UserId(1)).expect("within the burst");
    }
    attempts.check_password(UserId(1)).expect_err("too many");
}

#[test]
fn a_clock_that_steps_back_locks_nobody_out() {
    let (clock, attempts) = attempts();
    for _ in 0..5 {
        sign_in(&attempts, "alice", None).expect("within the burst");
    }
    clock.set(1_899_000_000);
    for _ in 0..5 {
        sign_in(&attempts, "alice", None).expect("counted anew");
    }
    sign_in(&attempts, "alice", None).expect_err("too many");
}

#[test]
fn twenty_registrations_then_one_every_ten_seconds_unless_limits_are_lifted() {
    let (clock, attempts) = attempts();
    for _ in 0..20 {
        attempts.register(None).expect("within the burst");
    }
    assert_eq!(attempts.register(None).expect_err("too many").retry_after(), Some(Duration::from_secs(10)));
    let lifted = Attempts::new(clock, &Limits { rate_limits: false, ..Limits::default() });
    for _ in 0..1000 {
        lifted.register(None).expect("no limit");
        sign_in(&lifted, "alice", None).expect("no limit");
    }
}

#[test]
fn what_the_database_knows_goes_on_where_the_account_is_flooded_and_gives_nothing_back() {
    let (_clock, attempts) = attempts();
    let home = address("192.0.2.1");
    for index in 0..30 {
        sign_in(&attempts, "alice", nth_address(index)).expect("within the burst");
    }
    let (attempt, refusal) = attempts.sign_in("alice", home).expect("its own limits hold");
    assert_eq!(refusal.expect("the account is flooded").code(), ErrorCode::RateLimited);
    attempts.signed_in(attempt);
    sign_in(&attempts, "alice", nth_address(31)).expect_err("still flooded");
    sign_in(&attempts, "alice", home).expect("familiar from now on");
}

#[test]
fn places_differ_by_account_and_network_and_unknown_ones_are_none() {
    let of = |account, text| place_of(account, address(text)).expect("a place");
    assert_eq!(of("alice", "::ffff:192.0.2.1"), of("alice", "192.0.2.1"));
    assert_ne!(of("alice", "192.0.2.1"), of("bob", "192.0.2.1"));
    assert_ne!(of("alice", "192.0.2.1"), of("alice", "192.0.2.2"));
    assert_eq!(of("alice", "2001:db8::1"), of("alice", "2001:db8::2"));
    assert_eq!(place_of("alice", None), None);
}
