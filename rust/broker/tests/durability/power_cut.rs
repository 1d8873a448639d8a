//! The promise: what was acknowledged, and what a consumer or a follower was shown, is there after a power cut, under
//! the same offset; wherever in whatever call the machine died.

use crate::node::*;
use fastlog_log::LastStop;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_protocol::ErrorCode;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TOPICS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Step {
    /// Sends a record of so many bytes.
    Send { topic: usize, acks: i16, bytes: usize },
    /// Sends the next record of an idempotent producer, so many times at once.
    Repeat { topic: usize, times: usize },
    /// Waits for the answers to all that was sent.
    Settle,
    /// A consumer and a follower read to the end.
    Read { topic: usize },
    /// To `os` and back: what may be shown since is promised once the change has brought its sync.
    Switch { topic: usize },
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..2, prop::sample::select(vec![-1i16, 0, 1]), 0usize..300)
            .prop_map(|(topic, acks, bytes)| Step::Send { topic, acks, bytes }),
        3 => (0usize..2, 1usize..4).prop_map(|(topic, times)| Step::Repeat { topic, times }),
        2 => Just(Step::Settle),
        3 => (0usize..2).prop_map(|topic| Step::Read { topic }),
        1 => (0usize..2).prop_map(|topic| Step::Switch { topic }),
    ]
}

/// What was told of one topic.
#[derive(Default)]
struct Told {
    /// Records that were acknowledged or shown while the topic was `fsync`.
    promised: BTreeMap<i64, String>,
    pending: Vec<(Sent, String)>,
    next_sequence: i32,
}

struct Run {
    node: Node,
    told: [Told; 2],
    sent: usize,
}

impl Run {
    fn name(&mut self, bytes: usize) -> String {
        self.sent += 1;
        format!("{}-{}", self.sent, "x".repeat(bytes))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send { topic, acks, bytes } => {
                let name = self.name(*bytes);
                let sent = self.node.produce(TOPICS[*topic], *acks, &value(&name));
                if *acks != 0 {
                    self.told[*topic].pending.push((sent, name));
                }
            }
            Step::Repeat { topic, times } => {
                let name = self.name(0);
                let batch = idempotent(9, self.told[*topic].next_sequence, &name);
                self.told[*topic].next_sequence += 1;
                for _ in 0..*times {
                    let sent = self.node.produce(TOPICS[*topic], -1, &batch);
                    self.told[*topic].pending.push((sent, name.clone()));
                }
            }
            Step::Settle => self.settle(),
            Step::Read { topic } => self.read(*topic),
            Step::Switch { topic } => {
                self.settle();
                let (broker, topic) = (&self.node.broker, TOPICS[*topic]);
                broker.configure_topic(topic, &Arc::new(os()), 1);
                broker.configure_topic(topic, &Arc::new(fsync()), 1);
                let partition = broker.partitions().get(topic, 0).unwrap();
                let log = partition.log();
                eventually("a sync", || {
                    self.node.files.is_dead() || log.recovery_point() == log.log_end_offset()
                });
            }
        }
    }

    /// Takes every answer; each comes, also from a broker whose files fail.
    fn settle(&mut self) {
        for told in &mut self.told {
            for (sent, name) in std::mem::take(&mut told.pending) {
                if let (ErrorCode::NONE, offset) = sent.answer() {
                    promise(&mut told.promised, offset, name);
                }
            }
        }
    }

    /// Takes the answers that are there.
    fn take_answers(&mut self) {
        for told in &mut self.told {
            let promised = &mut told.promised;
            told.pending.retain(|(sent, name)| match sent.try_answer() {
                None => true,
                Some((ErrorCode::NONE, offset)) => {
                    promise(promised, offset, name.clone());
                    false
                }
                Some(_) => false,
            });
        }
    }

    fn read(&mut self, topic: usize) {
        for reader in [CONSUMER, FOLLOWER] {
            let shown = self.node.fetch(TOPICS[topic], 0, reader);
            for (offset, name) in shown.into_iter().flat_map(|it| it.values) {
                promise(&mut self.told[topic].promised, offset, name);
            }
        }
    }
}

fn promise(promised: &mut BTreeMap<i64, String>, offset: i64, name: String) {
    let before = promised.insert(offset, name.clone());
    assert!(before.is_none_or(|it| it == name), "offset {offset} names two records");
}

/// Does the steps until the machine dies in call `at`, or at the end; then compares. Answers the number of calls.
fn run(steps: &[Step], seed: u64, at: Option<u64>) -> u64 {
    println!("seed {seed}, power cut in call {at:?}");
    let files = MemoryFileSystem::new(seed);
    // where syncs take their time, more happens while they run
    let sync_takes = Duration::from_micros(if seed.is_multiple_of(2) { 0 } else { 150 });
    files.set_faults(Faults { die_at_call: at, sync_takes, ..Faults::default() });
    let mut run = Run { node: Node::start(&files), told: Default::default(), sent: 0 };
    let opened = TOPICS.iter().all(|topic| run.node.open(topic, fsync(), LastStop::Clean).is_ok());
    for step in steps.iter().filter(|_| opened) {
        if files.is_dead() {
            break;
        }
        run.step(step);
    }
    run.take_answers();
    let calls = files.calls();
    let promised = run.told.map(|told| told.promised);
    // a dead process reads nothing more, and what its threads still do meets files that fail
    files.set_faults(Faults { die_at_call: Some(files.calls()), ..Faults::default() });
    run.node.broker.shutdown();
    files.restart_machine();
    let node = Node::start(&files);
    for (topic, promised) in TOPICS.iter().zip(promised) {
        node.open(topic, fsync(), LastStop::MachineDied).unwrap();
        let mut found = BTreeMap::new();
        while let Some(next) =
            Some(node.consume(topic, found.len() as i64)).filter(|it| !it.values.is_empty())
        {
            found.extend(next.values);
        }
        assert!(found.keys().copied().eq(0..found.len() as i64), "a gap in {:?}", found.keys());
        for (offset, name) in promised {
            assert_eq!(found.get(&offset), Some(&name), "offset {offset} of {topic}");
        }
        let sent = node.produce(topic, -1, &value("goes on"));
        assert_eq!(sent.answer(), (ErrorCode::NONE, found.len() as i64));
    }
    calls
}

fn few_cases() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 24 };
    ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn what_was_acknowledged_or_shown_survives_a_power_cut(
        steps in prop::collection::vec(a_step(), 1..40),
        seed in any::<u64>(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let calls = run(&steps, seed, None);
        for (number, place) in places.iter().enumerate() {
            run(&steps, seed ^ number as u64, Some(place.index(calls as usize) as u64));
        }
    }
}

#[test]
fn every_call_of_a_script_may_be_the_last() {
    let mut steps = Vec::new();
    for number in 0..12 {
        let topic = number % 2;
        steps.push(Step::Send { topic, acks: -1, bytes: 150 });
        steps.push(Step::Send { topic, acks: 0, bytes: 20 });
        steps.push(Step::Repeat { topic, times: 2 });
        steps.push(Step::Send { topic: 1 - topic, acks: 1, bytes: 60 });
        if number % 3 == 0 {
            steps.push(Step::Settle);
        }
        steps.push(Step::Read { topic });
    }
    let calls = run(&steps, 1, None);
    for at in 0..calls {
        for seed in 0..2 {
            run(&steps, seed, Some(at));
        }
    }
}
