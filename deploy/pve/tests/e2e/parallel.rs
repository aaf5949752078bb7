//! Many calls at once.

use std::thread;
use std::time::Instant;

use crate::node::Node;

#[test]
fn twenty_containers_are_made_at_once() {
    let node = Node::start("twenty");
    let began = Instant::now();
    thread::scope(|scope| {
        for index in 0..20u8 {
            let node = &node;
            scope.spawn(move || node.create(&(200 + u32::from(index)).to_string(), 100 + index));
        }
    });
    thread::scope(|scope| {
        for index in 0..20u8 {
            let node = &node;
            scope.spawn(move || {
                assert_eq!(
                    node.answer(&node.address(100 + index), "hostname"),
                    format!("ct{}", 200 + u32::from(index))
                )
            });
        }
    });
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    assert_eq!(node.ok(&["pct", "list"]).matches("running").count(), 20);
}

#[test]
fn one_of_many_gets_the_number() {
    let node = Node::start("race");
    let words = node.create_words("101", 50);
    let made: Vec<bool> = thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    node.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).status.success()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(node.answer(&node.address(50), "hostname"), "ct101");
    assert_eq!(node.ok(&["ls", "/var/lib/pve-sandbox/local-lvm"]), "vm-101-disk-0\n");
}
