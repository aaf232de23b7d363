//! The book without sockets: what it says to what it is told.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use oci::Digest;
use proxy::SeedRefusal;
use swarm::wire::{
    Hello, Holding, Holdings, Leave, Report, Reports, Want, node_says, report, supernode_says::Word,
};
use swarm::{Layout, PieceDigest};

use super::{Book, IDLE_BLOBS_MAX, Opened, Task, Turn};
use crate::scheduler::{NodeKey, Now, Options};

const TOTAL: u64 = (256 << 10) * 5 + 1;
const PIECES: u32 = 6;
const GRANT: Now = Now::from_secs(300);

struct Told {
    book: Book,
    now: Now,
}

impl Told {
    fn new() -> Self {
        let book = Book::new(Options::prompt(), 1, GRANT);
        let now = Now::ZERO;
        Self { book, now }
    }

    fn turn(&mut self, tell: impl FnOnce(&mut Book, &mut Turn)) -> Turn {
        let mut turn = Turn::default();
        self.book.at(self.now);
        tell(&mut self.book, &mut turn);
        turn
    }

    fn came(&mut self, name: &str) -> NodeKey {
        let hello = Hello {
            node: format!("id of {name}"),
            name: name.to_owned(),
            advertise: format!("{name}.lan"),
            port: 65003,
            ..Hello::default()
        };
        self.book.came(hello, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn says(&mut self, node: NodeKey, word: node_says::Word) -> Turn {
        self.turn(|book, turn| book.said(node, word, turn))
    }

    fn wants(&mut self, node: NodeKey, flight: u32, repository: &str) -> Turn {
        self.wants_blob(node, flight, repository, blob())
    }

    fn wants_blob(&mut self, node: NodeKey, flight: u32, repository: &str, digest: Digest) -> Turn {
        let want = Want {
            flight,
            digest: digest.to_string(),
            registry: "docker.io".to_owned(),
            repository: repository.to_owned(),
            ..Want::default()
        };
        self.says(node, node_says::Word::Want(want))
    }

    fn opened(&mut self, task: &Task, answer: Result<Opened, SeedRefusal>) -> (bool, Turn) {
        let (Task::Read(digest, place) | Task::Confirm(digest, place)) = task;
        let mut feeds = false;
        let turn = self.turn(|book, turn| feeds = book.opened(digest, place, answer, turn));
        (feeds, turn)
    }

    /// All pieces from `first` on reach the seed.
    fn fed(&mut self, first: u32) -> Turn {
        let digests: Vec<_> = (first..PIECES).map(piece).collect();
        self.turn(|book, turn| {
            book.pieces(&blob(), first as usize, &digests, turn);
            book.fed(&blob(), Ok(()), turn);
        })
    }

    fn reports(&mut self, node: NodeKey, report: Report) -> Turn {
        let list = vec![report];
        self.says(node, node_says::Word::Reports(Reports { list }))
    }

    /// Nodes get what they are told, until nothing is told any more; what the first one heard.
    fn obeys(&mut self, node: NodeKey, mut turn: Turn) -> Vec<Word> {
        let mut heard = Vec::new();
        while !turn.words.is_empty() {
            for (to, word) in std::mem::take(&mut turn.words) {
                if let Word::Instructions(told) = &word {
                    for one in &told.list {
                        let report = Report {
                            flight: told.flight,
                            kind: report::Kind::Got.into(),
                            piece: one.piece,
                            from: one.from,
                            upstream: false,
                        };
                        turn.words.extend(self.reports(to, report).words);
                    }
                }
                if to == node {
                    heard.push(word);
                }
            }
        }
        heard
    }
}

fn blob() -> Digest {
    Digest::sha256(b"blob")
}

fn piece(number: u32) -> PieceDigest {
    PieceDigest::of(&number.to_be_bytes())
}

fn read(held: bool) -> Result<Opened, SeedRefusal> {
    Ok(Opened::Read { total: TOTAL, held })
}

fn refusals(turn: &Turn) -> Vec<(NodeKey, u32)> {
    let refused = turn.words.iter().filter_map(|(node, word)| match word {
        Word::Refused(refused) => Some((*node, refused.flight)),
        _ => None,
    });
    refused.collect()
}

fn is_accepted(turn: &Turn, node: NodeKey) -> bool {
    let mut words = turn.words.iter();
    words.any(|(to, word)| *to == node && matches!(word, Word::Accepted(_)))
}

/// Instructed pieces; checks that names and, if known so far, digests were told before.
fn instructed(words: &[Word]) -> Vec<(u32, u32)> {
    let (mut named, mut digests) = (HashSet::from([0]), 0);
    let mut pieces = Vec::new();
    for word in words {
        match word {
            Word::Peers(peers) => named.extend(peers.peers.iter().map(|peer| peer.handle)),
            Word::Pieces(told) => {
                assert_eq!(told.first, digests, "without gaps");
                digests += u32::try_from(told.digests.len() / 32).unwrap();
            }
            Word::Instructions(told) => {
                for one in &told.list {
                    assert!(named.contains(&one.from), "{one:?} from a stranger");
                    let early = one.from == 0;
                    assert!(early || one.piece < digests, "{one:?} without its digest");
                    pieces.push((one.piece, one.from));
                }
            }
            _ => {}
        }
    }
    pieces
}

#[test]
fn a_blob_is_asked_for_once_and_led_to_its_end() {
    let mut told = Told::new();
    let (one, two) = (told.came("one"), told.came("two"));
    let first = told.wants(one, 1, "a/b");
    assert!(matches!(first.words[..], [(to, Word::Heard(_))] if to == one));
    let [task @ Task::Read(..)] = &first.tasks[..] else {
        panic!("{:?}", first.tasks);
    };
    let second = told.wants(two, 7, "a/b");
    assert_eq!(second.tasks, [], "it is being asked already");

    let (feeds, mut turn) = told.opened(task, read(false));
    assert!(feeds && is_accepted(&turn, one) && is_accepted(&turn, two));
    let fed = told.fed(0);
    turn.words.extend(fed.words);
    let words = told.obeys(one, turn);
    let pieces: HashSet<u32> = instructed(&words).iter().map(|(piece, _)| *piece).collect();
    assert_eq!(pieces.len(), PIECES as usize, "{words:?}");
}

#[test]
fn a_late_asker_hears_all_that_is_known_at_once() {
    let mut told = Told::new();
    let one = told.came("one");
    let first = told.wants(one, 1, "a/b");
    let (_, accepted) = told.opened(&first.tasks[0], read(false));
    told.obeys(one, accepted);
    let fed = told.fed(0);
    told.obeys(one, fed);
    let complete = true;
    told.says(
        one,
        node_says::Word::Leave(Leave {
            flight: 1,
            complete,
        }),
    );

    let two = told.came("two");
    let turn = told.wants(two, 1, "a/b");
    assert!(is_accepted(&turn, two) && turn.tasks.is_empty());
    let words = told.obeys(two, turn);
    let known = words.iter().find_map(|word| match word {
        Word::Pieces(told) => Some(told.digests.len() / 32),
        _ => None,
    });
    assert_eq!(known, Some(PIECES as usize));
    let from: HashSet<u32> = instructed(&words).iter().map(|(_, from)| *from).collect();
    assert!(from.contains(&one.0), "not from the seed alone: {from:?}");

    // Another place, and this one when the grant is over, are asked for, but not read again.
    let three = told.came("three");
    let other = told.wants(three, 1, "c/d");
    assert!(
        matches!(other.tasks[..], [Task::Confirm(..)]),
        "{:?}",
        other.tasks
    );
    told.now += GRANT;
    let four = told.came("four");
    let again = told.wants(four, 1, "a/b");
    assert!(
        matches!(again.tasks[..], [Task::Confirm(..)]),
        "{:?}",
        again.tasks
    );
    let (feeds, turn) = told.opened(&again.tasks[0], Ok(Opened::Confirmed));
    assert!(!feeds && is_accepted(&turn, four) && !is_accepted(&turn, three));
}

#[test]
fn a_refusal_is_for_one_place() {
    let mut told = Told::new();
    let (one, two) = (told.came("one"), told.came("two"));
    let private = told.wants(one, 1, "private/thing");
    let public = told.wants(two, 1, "a/b");
    let no = Err(SeedRefusal::NotShared("no"));
    let (feeds, turn) = told.opened(&private.tasks[0], no);
    assert_eq!((feeds, refusals(&turn)), (false, vec![(one, 1)]));
    let (feeds, turn) = told.opened(&public.tasks[0], read(false));
    assert!(feeds && is_accepted(&turn, two));
    // The flight is over and its number free.
    assert_eq!(told.wants(one, 2, "a/b").tasks, []);
}

#[test]
fn a_reading_that_fails_ends_the_flights_and_the_next_begins_anew() {
    let mut told = Told::new();
    let one = told.came("one");
    let first = told.wants(one, 1, "a/b");
    told.opened(&first.tasks[0], read(false));
    let turn = told.turn(|book, turn| {
        book.pieces(&blob(), 0, &[piece(0)], turn);
        book.fed(&blob(), Err("cut".to_owned()), turn);
    });
    assert_eq!(refusals(&turn), [(one, 1)]);
    let again = told.wants(one, 2, "a/b");
    assert!(matches!(again.tasks[..], [Task::Read(..)]));
    let (feeds, turn) = told.opened(&again.tasks[0], read(false));
    assert!(feeds && is_accepted(&turn, one));
}

#[test]
fn a_seed_that_has_lost_a_blob_reads_it_again() {
    let mut told = Told::new();
    let one = told.came("one");
    let first = told.wants(one, 1, "a/b");
    let (_, accepted) = told.opened(&first.tasks[0], read(false));
    assert!(is_accepted(&accepted, one));
    told.fed(0);
    let missing = Report {
        flight: 1,
        kind: report::Kind::Missing.into(),
        piece: 0,
        from: 0,
        upstream: false,
    };
    let turn = told.reports(one, missing);
    let [task @ Task::Read(..)] = &turn.tasks[..] else {
        panic!("{:?}", turn.tasks);
    };
    let (feeds, _) = told.opened(task, read(false));
    assert!(feeds);
    // Known digests are not told twice: that is checked on the way.
    let fed = told.fed(0);
    let tick = told.turn(|book, turn| book.tick(turn));
    for (_, word) in fed.words.iter().chain(&tick.words) {
        assert!(
            !matches!(word, Word::Pieces(told) if told.first < PIECES),
            "{word:?}"
        );
    }
}

#[test]
fn a_number_used_again_is_named_again_and_old_complaints_do_not_stick() {
    let mut told = Told::new();
    let (old, other) = (told.came("old"), told.came("other"));
    let held = |list| node_says::Word::Held(Holdings { list });
    let holding = Holding {
        digest: blob().to_string(),
        total: TOTAL,
    };
    told.says(old, held(vec![holding.clone()]));
    let first = told.wants(other, 1, "a/b");
    let (_, turn) = told.opened(&first.tasks[0], read(true));
    let mut words = turn.words;
    words.extend(told.fed(0).words);
    let names = |words: &[(NodeKey, Word)]| -> Vec<String> {
        let peers = words.iter().filter_map(|(_, word)| match word {
            Word::Peers(peers) => Some(peers.peers.clone()),
            _ => None,
        });
        peers.flatten().map(|peer| peer.address).collect()
    };
    assert_eq!(names(&words), ["old.lan:65003"]);

    told.turn(|book, turn| book.went(old, turn));
    let new = told.came("new");
    assert_eq!(new, old, "the number is used again");
    let wrong = Report {
        flight: 1,
        kind: report::Kind::Wrong.into(),
        piece: 0,
        from: old.0,
        upstream: false,
    };
    told.reports(other, wrong);
    assert!(!told.book.status().nodes.iter().any(|node| node.banned));
    told.says(new, held(vec![holding]));
    let tick = told.turn(|book, turn| book.tick(turn));
    assert_eq!(names(&tick.words), ["new.lan:65003"]);
}

#[test]
fn what_nobody_wants_is_forgotten_when_there_is_too_much_of_it() {
    let mut told = Told::new();
    let one = told.came("one");
    let count = IDLE_BLOBS_MAX + IDLE_BLOBS_MAX / 8 + 2;
    for number in 0..count {
        let flight = u32::try_from(number).unwrap();
        let digest = Digest::sha256(&flight.to_be_bytes());
        let turn = told.wants_blob(one, flight, "a/b", digest);
        told.opened(&turn.tasks[0], read(false));
        told.turn(|book, turn| {
            let digests: Vec<_> = (0..PIECES).map(piece).collect();
            book.pieces(&digest, 0, &digests, turn);
            book.fed(&digest, Ok(()), turn);
        });
        let complete = false;
        told.says(one, node_says::Word::Leave(Leave { flight, complete }));
    }
    let kept = told.book.status().blobs_count;
    assert!(kept <= IDLE_BLOBS_MAX + 1, "{kept}");
    // The latest is among them.
    let last = u32::try_from(count - 1).unwrap();
    let digest = Digest::sha256(&last.to_be_bytes());
    assert!(is_accepted(
        &told.wants_blob(one, last + 1, "a/b", digest),
        one
    ));
}

#[test]
fn the_cut_told_is_the_cut_meant() {
    assert_eq!(Layout::of(TOTAL).count(), PIECES);
}
