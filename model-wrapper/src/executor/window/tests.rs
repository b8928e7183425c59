use super::*;

const WINDOW: Duration = Duration::from_millis(2);

fn window() -> (Window, Instant) {
    (Window::new(Batching { max_rows: 8, window: WINDOW }), Instant::now())
}

fn busy(window: &mut Window, start: Instant, interval: Duration) -> Instant {
    let mut now = start;
    for _ in 0..50 {
        now += interval;
        window.arrived(now);
    }
    now
}

#[test]
fn the_first_request_does_not_wait() {
    let (mut window, now) = window();
    window.arrived(now);
    assert_eq!(window.wait_until(now, 1, now), None);
}

#[test]
fn sparse_requests_do_not_wait() {
    let (mut window, start) = window();
    let now = busy(&mut window, start, WINDOW * 5);
    assert_eq!(window.wait_until(now, 1, now), None);
}

#[test]
fn dense_requests_wait_to_the_end_of_the_oldest_ones_window() {
    let (mut window, start) = window();
    let now = busy(&mut window, start, WINDOW / 10);
    assert_eq!(window.wait_until(now, 1, now), Some(now + WINDOW));
    assert_eq!(window.wait_until(now - WINDOW / 2, 1, now), Some(now + WINDOW / 2));
    assert_eq!(window.wait_until(now - WINDOW, 1, now), None);
}

#[test]
fn a_full_batch_does_not_wait() {
    let (mut window, start) = window();
    let now = busy(&mut window, start, WINDOW / 10);
    assert!(window.wait_until(now, 7, now).is_some());
    assert_eq!(window.wait_until(now, 8, now), None);
    assert_eq!(window.wait_until(now, 9, now), None);
}

#[test]
fn waits_that_bring_nothing_end_and_are_tried_again_now_and_then() {
    let (mut window, start) = window();
    let now = busy(&mut window, start, WINDOW / 10);
    for _ in 0..10 {
        window.formed(Some(0));
    }
    assert_eq!(window.wait_until(now, 1, now), None);
    for _ in 0..PROBE_EVERY {
        window.formed(None);
    }
    assert!(window.wait_until(now, 1, now).is_some());
    for _ in 0..10 {
        window.formed(Some(3));
    }
    assert!(window.wait_until(now, 1, now).is_some());
}

#[test]
fn a_pause_is_forgotten_soon() {
    let (mut window, start) = window();
    let now = busy(&mut window, start, WINDOW / 10) + Duration::from_secs(3600);
    window.arrived(now);
    let now = busy(&mut window, now, WINDOW / 10);
    assert!(window.wait_until(now, 1, now).is_some());
}
