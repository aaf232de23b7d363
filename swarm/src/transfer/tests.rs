//! Single decisions of the transfer: when a source is asked again, how long a fetch is.

use super::*;

const MIB: u64 = 1 << 20;

/// A transfer of `total` bytes that its only reader has begun to read.
fn begun(total: u64, first: FetchRange) -> Transfer {
    let limits = Limits {
        stall: Duration::from_secs(10),
        head: Duration::from_secs(30),
        linger: Duration::from_secs(60),
    };
    let mut transfer = Transfer::new(limits);
    let joined = Event::Joined {
        reader: ReaderId(0),
        source: SourceId(0),
        first: first.clone(),
        here: false,
    };
    let asked = fetches(&transfer.on(joined, Duration::ZERO));
    assert_eq!(asked, std::slice::from_ref(&first));
    let head = Event::Head {
        fetch: FetchId(0),
        total,
        start: start_of(&first),
    };
    transfer.on(head, Duration::ZERO);
    let present = ByteSet::new();
    let actions = transfer.on(Event::Begun { present }, Duration::ZERO);
    assert!(matches!(
        actions[..],
        [Action::Admit {
            how: How::Started,
            ..
        }]
    ));
    transfer
}

fn fetches(actions: &[Action]) -> Vec<FetchRange> {
    let range = |action: &Action| match action {
        Action::Fetch { range, .. } => Some(range.clone()),
        _ => None,
    };
    actions.iter().filter_map(range).collect()
}

#[test]
fn a_source_without_progress_is_asked_again_later_and_later_and_then_given_up() {
    let mut transfer = begun(MIB, FetchRange::All);
    let mut now = Duration::ZERO;
    let mut waits = Vec::new();
    for fetch in 0..FETCH_TRIES {
        let error = SourceError::unavailable("cut");
        let fetch = FetchId(fetch);
        let mut actions = transfer.on(Event::Failed { fetch, error }, now);
        if fetch.0 > 0 && fetch.0 + 1 < FETCH_TRIES {
            assert_eq!(fetches(&actions), []);
            let deadline = transfer.deadline().unwrap();
            waits.push((deadline - now).as_millis());
            now = deadline;
            actions = transfer.on(Event::Tick, now);
        }
        if fetch.0 + 1 < FETCH_TRIES {
            assert_eq!(fetches(&actions), [FetchRange::All]);
        } else {
            assert!(matches!(
                actions.last(),
                Some(Action::Finish { error: Some(_) })
            ));
        }
    }
    assert_eq!(waits, [200, 800, 3200]);
}

const FETCH_TRIES: u64 = 5;

#[test]
fn a_range_reader_gets_longer_fetches_as_it_goes_on() {
    let start = 50 * MIB;
    let span = start..start + SPAN_FIRST;
    let mut transfer = begun(500 * MIB, FetchRange::Span(span.clone()));
    let reads = Event::Reads {
        reader: ReaderId(0),
        source: SourceId(0),
        range: start..300 * MIB,
    };
    let now = Duration::ZERO;
    assert_eq!(fetches(&transfer.on(reads, now)), []);
    let bytes = Event::Bytes {
        fetch: FetchId(0),
        len: SPAN_FIRST,
    };
    let actions = transfer.on(bytes, now);
    let next = span.end..span.end + 2 * SPAN_FIRST;
    assert_eq!(fetches(&actions), [FetchRange::Span(next.clone())]);
    let bytes = Event::Bytes {
        fetch: FetchId(1),
        len: 2 * SPAN_FIRST,
    };
    let actions = transfer.on(bytes, now);
    assert_eq!(fetches(&actions), [], "the reader is far behind");
    let remind_at = next.end - AHEAD;
    let reminds = |action: &Action| matches!(action, Action::Remind { at, .. } if *at == remind_at);
    assert!(actions.iter().any(reminds));
    let reader = ReaderId(0);
    let actions = transfer.on(
        Event::At {
            reader,
            at: remind_at,
        },
        now,
    );
    let after = next.end..next.end + 4 * SPAN_FIRST;
    assert_eq!(fetches(&actions), [FetchRange::Span(after)]);
}
