//! What the broker is asked while its connection is lost.

use crate::roads::Road;
use entities::asks::JOB_QUEUE;
use entities::config;
use entities::error::{Code, Error};
use secrecy::{ExposeSecret, SecretString};
use std::time::{Duration, Instant};
use workers::amqp;

/// The library's thread for a connection has seen that it is lost, and has ended; its task, which would
/// say so, has not: it runs in the runtime of the test, which only looks at its sockets in here.
async fn lose(road: &Road) {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let is_loop = |thread: std::fs::DirEntry| {
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        name.starts_with("lapin-io")
    };
    assert!(threads().any(is_loop));
    road.cut();
    while threads().any(is_loop) {
        tokio::task::yield_now().await;
        let seen = Instant::now();
        while threads().any(is_loop) && seen.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    road.mend();
}

#[tokio::test]
async fn whoever_asks_while_the_connection_is_lost_is_not_left_waiting() {
    let url = config::secret("TEST_AMQP_URL").unwrap();
    let (url, road) = Road::to(url.expose_secret());
    let url = SecretString::from(url);

    let connection = amqp::connect(&url, "test").await.unwrap();
    lose(&road).await;
    tokio::time::pause();
    let asked = amqp::consumer(&connection, 1).await.map(drop);
    assert_eq!(asked.map_err(|error: Error| error.code()), Err(Code::Unavailable));
    tokio::time::resume();

    let connection = amqp::connect(&url, "test").await.unwrap();
    lose(&road).await;
    tokio::time::pause();
    amqp::close(&connection).await;
    tokio::time::resume();

    let connection = amqp::connect(&url, "test").await.unwrap();
    let channel = amqp::consumer(&connection, 1).await.unwrap();
    lose(&road).await;
    tokio::time::pause();
    let asked = amqp::consume(&channel, JOB_QUEUE).await.map(drop);
    assert_eq!(asked.map_err(|error: Error| error.code()), Err(Code::Unavailable));
    tokio::time::resume();

    let connection = amqp::connect(&url, "test").await.unwrap();
    amqp::close(&connection).await;
}
