use std::fs;

use super::*;
use crate::testing::{ManualClock, SystemRandom};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn an_empty_folder_is_refused_with_what_to_do() {
    let folder = folder();
    let Err(error) = KeyRing::open(folder.path()) else { panic!("opened an empty folder") };
    assert!(error.to_string().contains("confab keys new"), "{error}");
}

#[test]
fn a_new_key_signs_once_every_node_has_read_it() {
    let (folder, clock) = (folder(), ManualClock::at(1_000_000));
    let first = KeyRing::create(folder.path(), &clock, &SystemRandom).expect("a key");
    let ring = KeyRing::open(folder.path()).expect("opens");
    assert_eq!(ring.signing(clock.now()).id, first, "the only key signs at once");
    clock.advance(Duration::from_secs(100));
    let second = KeyRing::create(folder.path(), &clock, &SystemRandom).expect("a key");
    assert!(ring.by_id(&second).is_none());
    ring.reload().expect("reloads");
    assert_eq!(ring.ids(), [first.clone(), second.clone()]);
    clock.advance(SIGNING_DELAY.checked_sub(Duration::from_millis(2)).expect("time"));
    assert_eq!(ring.signing(clock.now()).id, first);
    clock.advance(Duration::from_millis(2));
    assert_eq!(ring.signing(clock.now()).id, second);
}

#[test]
fn removing_the_file_retires_a_key_and_an_emptied_folder_changes_nothing() {
    let (folder, clock) = (folder(), ManualClock::at(1_000_000));
    let first = KeyRing::create(folder.path(), &clock, &SystemRandom).expect("a key");
    let second = KeyRing::create(folder.path(), &clock, &SystemRandom).expect("a key");
    let ring = KeyRing::open(folder.path()).expect("opens");
    fs::remove_file(folder.path().join(format!("{first}.key"))).expect("removes");
    ring.reload().expect("reloads");
    assert_eq!(ring.ids(), std::slice::from_ref(&second));
    fs::remove_file(folder.path().join(format!("{second}.key"))).expect("removes");
    assert!(matches!(ring.reload(), Err(KeyError::Empty(_))));
    assert_eq!(ring.ids(), [second]);
}

#[test]
fn sub_keys_differ_by_purpose() {
    let key = Key::new("1-a".to_owned(), Timestamp(1000), &[7; KEY_BYTES]);
    assert_ne!(key.mac_of_cursor(b"x"), key.successor_of_token(b"x"));
}

#[cfg(unix)]
#[test]
fn files_are_private_and_one_that_others_can_read_is_refused_by_name() {
    use std::os::unix::fs::PermissionsExt as _;

    let (parent, clock) = (folder(), ManualClock::at(1_000_000));
    let folder = parent.path().join("keys");
    let kid = KeyRing::create(&folder, &clock, &SystemRandom).expect("a key");
    let path = folder.join(format!("{kid}.key"));
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("sets");
    let Err(error) = KeyRing::open(&folder) else { panic!("opened an exposed key") };
    assert!(error.to_string().contains(&kid), "{error}");
}

#[test]
fn what_is_no_key_is_refused_by_name_and_other_files_are_left_alone() {
    let (folder, clock) = (folder(), ManualClock::at(1_000_000));
    let kid = KeyRing::create(folder.path(), &clock, &SystemRandom).expect("a key");
    fs::write(folder.path().join("README"), "keys").expect("writes");
    KeyRing::open(folder.path()).expect("opens");
    let bad = folder.path().join("mine.key");
    fs::write(&bad, "x").expect("writes");
    assert!(matches!(KeyRing::open(folder.path()), Err(KeyError::Misnamed(path)) if path == bad));
    fs::remove_file(&bad).expect("removes");
    fs::write(folder.path().join(format!("{kid}.key")), "beef\n").expect("writes");
    assert!(matches!(KeyRing::open(folder.path()), Err(KeyError::Malformed(_))));
}
