//! Workers that hang, with times that are passed in.

use super::*;
use crate::experts::batcher::Limits;
use crate::experts::pending::{Asker, Row};

const SECOND: Duration = Duration::from_secs(1);

/// A board with a lane for each expert, and two workers.
fn board(experts: &[&str]) -> Board {
    let lane = |(slot, id): (usize, &&str)| Place {
        name: (*id).to_owned(),
        ends: vec![End { slot, id: (*id).to_owned(), standing: Standing::new(SECOND) }],
        queue: Queue::new(Limits { tokens: 256, rows: 32, overhead: 8 }),
        standing: Standing::new(SECOND),
        want: Want::default(),
    };
    Board {
        lanes: experts.iter().enumerate().map(lane).collect(),
        errands: VecDeque::new(),
        waiters: HashMap::new(),
        open: BTreeMap::new(),
        entered: 0,
        running: vec![None, None],
        parts: Vec::new(),
        workers: 2,
        hung: 0,
        wakes: None,
        closed: false,
    }
}

fn same(lane: usize) -> Same {
    Same { lane, ids: vec![1].into(), heads: true }
}

/// Runs of a lane, one for each worker given, that hang: returns how many workers are replaced, and the time.
fn hang(board: &mut Board, lane: usize, workers: &[usize], began: Instant) -> (usize, Instant) {
    for &worker in workers {
        let call = Arc::new(Call::new(began + SECOND, None));
        let (rows, without) = (vec![same(lane)], Vec::new());
        board.running[worker] = Some(Running { call, rows, without, began, resident: None, stopped: None });
    }
    assert_eq!(board.stop(began + SECOND, None), 0, "they are told to stop");
    let end = began + SECOND + GRACE;
    let replaced = board.stop(end, None);
    assert!(workers.iter().all(|&worker| board.running[worker].is_none()));
    (replaced, end)
}

fn disabled(board: &Board) -> Vec<bool> {
    board.lanes.iter().map(|lane| lane.standing.disabled()).collect()
}

/// The first hangs in all workers, then in its trials; the second keeps workers to run on.
#[test]
fn an_expert_that_does_not_stop_is_disabled_and_another_has_workers() {
    let mut board = board(&["stuck", "well"]);
    let (mut replaced, mut now) = hang(&mut board, 0, &[0, 1], Instant::now());
    assert_eq!((replaced, board.workers, disabled(&board)), (2, 2, vec![false, false]));
    for trial in [2, 3] {
        now += 90 * SECOND;
        assert_eq!(board.lanes[0].standing.admit(now, now), Ok(()), "trial {trial}");
        (replaced, now) = hang(&mut board, 0, &[0], now);
        assert_eq!((replaced, board.workers), (1, 2));
    }
    assert_eq!((disabled(&board), board.hung), (vec![true, false], 4));
    assert_eq!(board.lanes[0].standing.admit(now + 9_000 * SECOND, now), Err(Abstention::TimedOut));
    assert_eq!(board.lanes[1].standing.admit(now, now), Ok(()));
    board.lanes[1].queue.push(1, now, same(1));
    let question = question();
    board.waiters.insert(same(1), vec![Waiter { question, further: false }]);
    assert!(matches!(board.pick(now), Some((Work::Batch { lane: 1, .. }, _))));
}

#[test]
fn all_that_hang_are_disabled_and_no_worker_is_gone() {
    let mut board = board(&["one", "two", "three", "four", "five"]);
    let mut now = Instant::now();
    for lane in 0..4 {
        let (replaced, end) = hang(&mut board, lane, &[0, 1], now + SECOND);
        assert_eq!((replaced, board.workers), (2, 2), "lane {lane}");
        now = end;
    }
    // Eight hang: nothing is tried a second time.
    assert_eq!((disabled(&board), board.hung), (vec![false, false, false, true, false], 8));
    for lane in [0, 1, 2, 4] {
        let (replaced, end) = hang(&mut board, lane, &[0], now + 90 * SECOND);
        assert_eq!((replaced, board.workers), (1, 2), "lane {lane}");
        now = end;
    }
    assert_eq!(disabled(&board), [true; 5]);
}

/// Its neighbours on the encoder go on.
#[test]
fn a_head_that_does_not_stop_is_disabled_alone() {
    let mut board = board(&["stuck"]);
    board.lanes[0].ends.push(End { slot: 1, id: "well".to_owned(), standing: Standing::new(SECOND) });
    let mut now = Instant::now();
    for incident in 1..=3 {
        now += 90 * SECOND;
        let call = Arc::new(Call::new(now + SECOND, None));
        call.encode();
        call.encoded(vec![RowResult::default()]);
        assert!(call.ask(0));
        let (rows, without) = (vec![same(0)], Vec::new());
        board.running[0] = Some(Running { call, rows, without, began: now, resident: None, stopped: None });
        assert_eq!(board.stop(now + SECOND, None), 0, "the head is told to stop");
        now += SECOND + GRACE;
        assert_eq!((board.stop(now, None), board.workers), (1, 2));
        let ends = board.lanes[0].ends.iter().map(|end| end.standing.disabled());
        assert_eq!(ends.collect::<Vec<_>>(), [incident == 3, false]);
    }
    assert_eq!(disabled(&board), [false], "the encoder itself is well");
    let later = now + 9_000 * SECOND;
    assert_eq!(board.lanes[0].left_alone(later, later), [(0, Abstention::TimedOut)]);
}

#[test]
fn what_waits_at_a_disabled_lane_is_answered() {
    let mut board = board(&["stuck"]);
    board.hung = HUNG;
    let now = Instant::now();
    let question = question();
    board.lanes[0].queue.push(1, now, same(0));
    board.waiters.insert(same(0), vec![Waiter { question: Arc::clone(&question), further: false }]);
    board.lose(Some(0), None, now, now);
    assert!(!question.is_open() && board.lanes[0].queue.due().is_none());
}

/// Rules cannot be disabled, so workers that they cost are not replaced without end.
#[test]
fn without_a_worker_nothing_waits() {
    let mut board = board(&["well"]);
    let now = Instant::now();
    let question = question();
    board.open.insert((now + SECOND, 1), Arc::clone(&question));
    for hung in 1..HUNG {
        assert!(board.lose(None, None, now, now), "{hung}");
    }
    assert!(!board.lose(None, None, now, now) && question.is_open());
    assert!(!board.lose(None, None, now, now) && !question.is_open());
    assert_eq!(board.workers, 0);
}

fn question() -> Arc<Question> {
    let (asker, _) = Asker::new();
    Arc::new(Question::new(&asker, 0, SECOND, Row::silent(1, Abstention::TimedOut), 1))
}
