//! One limit for both planes: never more calls than it allows, each in its turn, nobody forgotten.

use super::{Asked, Times, Turns};
use crate::busy::Busy;
use crate::copy::{Copy, Entry, Host, Inside};
use crate::news::News;
use crate::places::{Address, Places};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use tokio::task::JoinHandle;

fn copy(limit: u32, queue: u32) -> Arc<Copy> {
    let host = Host::Runtime(Places::default().place(Address::parse("127.0.0.1:1"), false));
    let turns = Turns::new(limit, queue, vec![1_000_000_000].into());
    Arc::new(Copy::new(host, Arc::<Busy>::default(), None, 1, Some(turns), Arc::new(News::new().expect("an eventfd"))))
}

fn inside(copy: &Arc<Copy>) -> Inside {
    let Entry::Entered(inside) = copy.enter() else { panic!("no room") };
    inside
}

fn full(copy: &Arc<Copy>) -> bool {
    matches!(copy.enter(), Entry::Full)
}

fn waits(copy: &Arc<Copy>) -> u64 {
    let Asked::Waits(ticket) = copy.ask() else { panic!("it does not wait") };
    ticket
}

/// A caller of the lane that stands in line.
async fn stands(copy: &Arc<Copy>) -> JoinHandle<Option<Inside>> {
    let before = waiting(copy);
    let caller = tokio::spawn({
        let copy = Arc::clone(copy);
        async move { copy.wait().await }
    });
    while waiting(copy) == before {
        tokio::task::yield_now().await;
    }
    caller
}

fn waiting(copy: &Copy) -> u32 {
    copy.turns.as_ref().map_or(0, |turns| turns.waiting())
}

fn times(copy: &Copy) -> Times {
    copy.turns.as_ref().map(|turns| turns.take()).unwrap_or_default()
}

fn rung(copy: &Copy) -> bool {
    let mut asked = libc::pollfd { fd: copy.news.number(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one descriptor, as is said.
    let found = unsafe { libc::poll(&raw mut asked, 1, 0) } == 1;
    copy.news.quiet();
    found
}

#[test]
fn calls_of_both_planes_take_places_of_one_limit() {
    let copy = copy(2, 0);
    let of_lane = inside(&copy);
    assert_eq!((copy.ask(), copy.ask()), (Asked::Entered, Asked::TooMany));
    assert!(full(&copy));
    assert_eq!(copy.calls(), 1);
    copy.give_back();
    assert_eq!(copy.ask(), Asked::Entered);
    drop(of_lane);
    drop(inside(&copy));
    copy.give_back();
    assert_eq!(copy.calls(), 0);
}

#[tokio::test]
async fn turns_come_in_the_order_of_arrival_whichever_plane_carries_a_call() {
    let copy = copy(1, 10);
    let running = inside(&copy);
    let first = stands(&copy).await;
    let second = waits(&copy);
    let third = stands(&copy).await;
    assert_eq!(waiting(&copy), 2);
    drop(running);
    let running = first.await.expect("it ran").expect("a turn");
    assert!(copy.granted().is_empty() && full(&copy));
    assert!(!rung(&copy));
    drop(running);
    assert!(rung(&copy));
    assert_eq!((copy.granted(), copy.granted()), (vec![second], vec![]));
    assert!(!third.is_finished());
    copy.give_back();
    drop(third.await.expect("it ran").expect("a turn"));
    assert_eq!((copy.calls(), waiting(&copy)), (0, 0));
    drop(inside(&copy));
}

#[tokio::test]
async fn who_comes_later_does_not_pass_by_who_waits() {
    let copy = copy(2, 10);
    let (one, other) = (inside(&copy), inside(&copy));
    let ticket = waits(&copy);
    drop(one);
    // The place is that of the one who waits, before it took it.
    assert!(full(&copy));
    assert_eq!(copy.granted(), [ticket]);
    drop(other);
    drop(inside(&copy));
}

#[tokio::test]
async fn beyond_the_queue_nobody_waits() {
    let copy = copy(1, 1);
    let running = inside(&copy);
    let waiter = stands(&copy).await;
    assert!(copy.wait().await.is_none());
    assert_eq!(copy.ask(), Asked::TooMany);
    drop(running);
    drop(waiter.await.expect("it ran").expect("a turn"));
    assert_eq!(copy.ask(), Asked::Entered);
}

#[tokio::test]
async fn who_leaves_the_line_takes_no_turn() {
    let copy = copy(1, 10);
    let running = inside(&copy);
    let leaver = stands(&copy).await;
    let ticket = waits(&copy);
    let last = stands(&copy).await;
    leaver.abort();
    assert!(leaver.await.is_err());
    copy.give_up(ticket);
    assert_eq!(waiting(&copy), 1);
    drop(running);
    drop(last.await.expect("it ran").expect("a turn"));
    // Granted, and not wanted any more: the place goes on.
    let running = inside(&copy);
    let ticket = waits(&copy);
    let last = stands(&copy).await;
    drop(running);
    copy.give_up(ticket);
    assert!(copy.granted().is_empty());
    drop(last.await.expect("it ran").expect("a turn"));
    assert_eq!((copy.calls(), copy.busy.own()), (0, 0));
}

#[tokio::test]
async fn a_line_that_all_left_does_not_keep_calls_out() {
    let copy = copy(1, 10);
    let running = inside(&copy);
    copy.give_up(waits(&copy));
    drop(running);
    drop(inside(&copy));
}

#[tokio::test]
async fn who_is_granted_a_turn_and_gone_leaves_the_copy() {
    let copy = copy(1, 10);
    let running = inside(&copy);
    let gone = stands(&copy).await;
    drop(running);
    assert_eq!(copy.calls(), 1);
    gone.abort();
    let _ = gone.await;
    assert_eq!((copy.calls(), copy.busy.own()), (0, 0));
}

#[tokio::test]
async fn a_copy_that_goes_sends_the_lanes_callers_away_and_keeps_pythons() {
    let copy = copy(1, 10);
    let running = inside(&copy);
    let ticket = waits(&copy);
    let waiter = stands(&copy).await;
    copy.close();
    assert!(waiter.await.expect("it ran").is_none());
    assert_eq!(waiting(&copy), 0);
    assert!(matches!(copy.enter(), Entry::Closed));
    assert!(copy.wait().await.is_none());
    copy.news.quiet();
    drop(running);
    // That it is empty and that a turn has come is told alike.
    assert!(rung(&copy));
    assert_eq!((copy.calls(), copy.granted()), (0, vec![ticket]));
    copy.give_back();
    assert_eq!(copy.ask(), Asked::Entered);
}

#[tokio::test]
async fn a_limit_that_rises_lets_in_who_waits() {
    let copy = copy(1, 10);
    let _running = inside(&copy);
    let (waiter, ticket) = (stands(&copy).await, waits(&copy));
    copy.set_limit(3, 10);
    assert!(waiter.await.expect("it ran").is_some());
    assert_eq!(copy.granted(), [ticket]);
    copy.set_limit(1, 0);
    assert!(full(&copy));
    assert_eq!(copy.ask(), Asked::TooMany);
}

#[test]
fn calls_that_ran_before_count() {
    let copy = copy(3, 0);
    copy.adopt(2);
    let _third = inside(&copy);
    assert!(full(&copy));
}

#[tokio::test]
async fn times_on_the_copy_and_waits_are_told_once() {
    let copy = copy(1, 10);
    let running = inside(&copy);
    let waiter = stands(&copy).await;
    assert_eq!(times(&copy), Times { waits: vec![1, 0], ..Times::default() });
    drop(running);
    drop(waiter.await.expect("it ran"));
    let told = times(&copy);
    assert_eq!((told.calls, told.waits), (2, vec![1, 0]));
    assert_eq!(times(&copy), Times { waits: vec![0, 0], ..Times::default() });
}

fn run(running: &AtomicU32, most: &AtomicU32) {
    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
    std::thread::yield_now();
    running.fetch_sub(1, SeqCst);
}

/// Threads of the lane, and one that does as Python does, as fast as they can.
#[test]
fn never_more_run_than_the_limit_and_all_have_their_turn() {
    const LIMIT: u32 = 3;
    let copy = copy(LIMIT, 1_000);
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                runtime.block_on(async {
                    let calls: Vec<_> = (0..8)
                        .map(|_| {
                            let (copy, running, most) = (Arc::clone(&copy), Arc::clone(&running), Arc::clone(&most));
                            tokio::spawn(async move {
                                for _ in 0..200 {
                                    let place = match copy.enter() {
                                        Entry::Entered(inside) => inside,
                                        _ => copy.wait().await.expect("a turn"),
                                    };
                                    run(&running, &most);
                                    tokio::task::yield_now().await;
                                    drop(place);
                                }
                            })
                        })
                        .collect();
                    for call in calls {
                        call.await.expect("it ran");
                    }
                });
            });
        }
        threads.spawn(|| {
            let (mut left, mut standing) = (2_000, 0);
            while left > 0 || standing > 0 {
                for ticket in copy.granted() {
                    standing -= 1;
                    if ticket % 7 == 0 {
                        copy.give_up(ticket);
                    } else {
                        run(&running, &most);
                        copy.give_back();
                    }
                }
                if left > 0 && standing < 5 {
                    left -= 1;
                    match copy.ask() {
                        Asked::Entered => {
                            run(&running, &most);
                            copy.give_back();
                        }
                        Asked::Waits(_) => standing += 1,
                        Asked::TooMany => panic!("there is room in the line"),
                    }
                } else {
                    std::thread::yield_now();
                }
            }
        });
    });
    assert!(most.load(SeqCst) <= LIMIT, "{most:?}");
    assert_eq!((copy.calls(), waiting(&copy), copy.busy.own()), (0, 0, 0));
    assert!(copy.granted().is_empty());
    assert_eq!(times(&copy).calls, 3 * 8 * 200);
    let _all = [inside(&copy), inside(&copy), inside(&copy)];
    assert!(full(&copy));
}
