use super::*;

/// A job of a stream in which nothing else stands.
fn place(sequence: u64) -> Place {
    Place {
        connection: Connection::default(),
        sequence,
        behind: Some(sequence - 1),
        forgot: 0,
    }
}

/// A line in which these are settled, and the broker was told; more stands behind them.
fn settled(sequences: impl IntoIterator<Item = u64>) -> State {
    let mut state = State::default();
    state.see(100);
    for sequence in sequences {
        state.settle(place(sequence), None);
    }
    state
}

#[test]
fn nothing_is_removed_before_the_broker_has_said_where_to_begin() {
    let mut state = settled(1..=20);
    assert_eq!(state.run(), (0, 0));
    state.raise(0);
    assert_eq!(state.run(), (20, 20));
}

#[test]
fn a_job_that_is_not_settled_ends_the_run() {
    let mut state = settled((6..=30).filter(|sequence| *sequence != 20));
    state.raise(5);
    assert_eq!(state.run(), (14, 19));
    state.raise(19);
    assert_eq!(state.run(), (0, 19), "20 is in somebody's hands");
    state.settle(place(20), None);
    assert_eq!(state.run(), (11, 30));
}

#[test]
fn the_first_that_is_not_settled_is_never_passed() {
    let mut state = settled(8..=30);
    state.raise(5);
    assert_eq!(state.run(), (0, 5));
    state.advance();
    assert_eq!(state.floor, Some(5));
}

#[test]
fn the_newest_of_a_stream_stays() {
    let mut state = settled([]);
    for sequence in 80..=100 {
        state.settle(place(sequence), None);
    }
    state.raise(79);
    assert_eq!((state.run(), state.is_behind()), ((20, 99), false));
    state.see(101);
    assert_eq!(state.run(), (21, 100));
}

#[test]
fn the_floor_never_sinks() {
    let mut state = settled(1..=30);
    state.raise(25);
    state.raise(10);
    assert_eq!((state.floor, state.run()), (Some(25), (5, 30)));
}

#[test]
fn what_was_acknowledged_one_by_one_needs_no_removing() {
    let mut state = settled([1, 2, 3, 5]);
    state.raise(0);
    state.advance();
    assert_eq!((state.floor, state.run()), (Some(3), (0, 3)));
}

#[test]
fn a_job_that_comes_again_is_settled_again() {
    let mut state = settled(1..=30);
    state.raise(0);
    state.advance();
    assert_eq!(state.floor, Some(30));
    state.settle(place(20), None);
    assert_eq!(state.floor, None, "the broker has not heard of it");
    state.raise(19);
    assert_eq!(state.run(), (1, 20));
}

#[test]
fn what_is_delivered_in_order_has_only_schedules_between() {
    let mut state = State::default();
    assert_eq!(state.follow(10, 1, 100), None, "nothing came before");
    assert_eq!(state.follow(15, 1, 101), Some(10));
    assert_eq!(state.follow(16, 1, 102), Some(15));
    assert_eq!(state.follow(40, 1, 104), None, "somebody else has 103");
    assert_eq!(state.follow(41, 1, 105), Some(40));
}

#[test]
fn what_is_delivered_again_stands_between_deliveries_and_not_between_jobs() {
    let mut state = State::default();
    assert_eq!(state.follow(10, 1, 100), None);
    assert_eq!(state.follow(7, 2, 101), None);
    assert_eq!(state.follow(15, 1, 102), Some(10));
    assert_eq!(state.follow(8, 2, 104), None, "103 was missed");
    assert_eq!(state.follow(20, 1, 105), None);
}

#[test]
fn jobs_among_schedules_leave_up_to_what_is_not_known_to_follow() {
    let mut state = State::default();
    state.see(100);
    for (sequence, behind) in [(10, Some(4)), (15, Some(10)), (40, None)] {
        let place = place(sequence);
        state.settle(Place { behind, ..place }, None);
    }
    state.raise(4);
    assert_eq!(state.run(), (2, 15));
    state.advance();
    assert_eq!((state.floor, state.run()), (Some(15), (0, 15)));
    state.raise(39);
    assert_eq!(
        state.run(),
        (0, 39),
        "39 may be a schedule, or not the last"
    );
}

#[test]
fn a_new_connection_begins_anew() {
    let (mut state, next) = (settled(1..=30), Connection::default().next());
    state.raise(0);
    state.follow(40, 1, 9);
    state.renew(next);
    assert_eq!((state.floor, state.run()), (None, (0, 0)));
    assert_eq!(state.follow(41, 1, 10), None);
}

/// What a broker says that has settled all up to one sequence and has delivered up to another.
fn told(settled: u64, delivered: u64) -> Told {
    Told {
        settled,
        deliveries: delivered,
        delivered,
        in_hand: usize::try_from(delivered - settled).unwrap(),
        first: None,
    }
}

/// A line that has come by a new connection.
fn reconnected() -> State {
    let mut state = settled([]);
    assert!(!state.has_earlier());
    assert!(state.renew(Connection::default().next()));
    state
}

#[test]
fn nothing_is_removed_until_all_is_settled_that_was_delivered_before() {
    let mut state = reconnected();
    assert!(state.holds_off());
    assert!(!state.is_past_earlier(told(30, 90)));
    state.learn(told(30, 90), false);
    assert!(state.holds_off(), "30 to 90 may be in hand");
    assert!(!state.is_past_earlier(told(89, 120)));
    assert!(state.is_past_earlier(told(90, 120)));
    state.learn(told(90, 120), true);
    assert!(!state.holds_off());
}

#[test]
fn whoever_begins_to_pull_waits_for_what_was_delivered_by_then() {
    let mut state = reconnected();
    state.open(told(30, 90));
    assert!(!state.is_past_earlier(told(89, 120)));
    assert!(state.is_past_earlier(told(90, 120)));
}

#[test]
fn a_mark_that_stands_still_is_passed_where_nothing_is_left_before_it_or_nothing_in_hand() {
    let mut state = reconnected();
    state.learn(told(30, 90), false);
    let nothing_left_before = told(30, 200).with_first(91);
    assert!(!state.is_past_earlier(told(30, 200).with_first(90)));
    assert!(state.is_past_earlier(nothing_left_before));
    assert!(!nothing_left_before.has_copies());
    let nothing_in_hand = Told {
        in_hand: 0,
        ..told(30, 200)
    };
    assert!(state.is_past_earlier(nothing_in_hand));
}

#[test]
fn a_job_in_front_of_the_mark_is_a_copy() {
    assert!(told(30, 90).with_first(30).has_copies());
    assert!(!told(30, 90).with_first(31).has_copies());
    assert!(!told(30, 90).has_copies(), "nothing is there");
}

#[tokio::test(start_paused = true)]
async fn while_jobs_may_come_again_nothing_is_past() {
    let mut state = reconnected();
    state.removes_from = Some(Instant::now() + Duration::from_secs(4));
    assert!(!state.is_past_earlier(told(90, 90)));
    tokio::time::advance(Duration::from_secs(4)).await;
    assert!(state.is_past_earlier(told(90, 90)));
}

#[test]
fn what_came_by_an_earlier_connection_is_another_job_now() {
    let (mut state, next) = (settled(1..=30), Connection::default().next());
    state.renew(next);
    state.see(100);
    state.raise(0);
    state.settle(place(1), None);
    assert_eq!(state.run(), (0, 0));
    let connection = next;
    state.settle(
        Place {
            connection,
            ..place(1)
        },
        None,
    );
    assert_eq!(state.run(), (1, 1));
    state.renew(Connection::default());
    assert_eq!(state.run(), (1, 1), "what is renewed stays so");
}

#[tokio::test(start_paused = true)]
async fn where_removing_takes_long_it_has_to_be_worth_that() {
    let mut state = settled([]);
    assert_eq!(state.worthwhile(), WORTHWHILE);
    state.removed_in(Duration::from_millis(250));
    assert_eq!(state.worthwhile(), WORTHWHILE);
    state.removed_in(Duration::from_millis(670));
    assert_eq!(state.worthwhile(), 3000, "420 ms of acknowledgements");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(
        (1000..1100).contains(&state.worthwhile()),
        "it may have been by chance"
    );
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(state.worthwhile(), WORTHWHILE);
}
