//! Very many log in at once, or try to: everybody else is answered all the same.

use crate::app::{PASSWORD, edge, spawn_with};
use entities::config::{self, Edge};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;

#[tokio::test]
async fn reads_do_not_wait_for_logins_and_too_many_logins_are_told_so() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = Edge { trusted_proxies, ..edge() };
    let app = spawn_with(edge, config::secret("TEST_REDIS_URL").unwrap()).await;
    let cores = std::thread::available_parallelism().unwrap().get();
    // More than are at work and may wait, each from an address of its own, most for nobody.
    let mut storm: FuturesUnordered<_> = (0..cores * 14 + 40)
        .map(|nth| {
            let address = format!("198.51.{}.{}", nth / 250, nth % 250 + 1);
            let stranger = app.anonymous().with_header("x-forwarded-for", &address);
            let body = json!({"email": format!("user-{nth}@customer.test"), "password": PASSWORD});
            async move { stranger.post("/api/auth/login", body).await }
        })
        .collect();
    let all = storm.len();
    let mut wrong = 0;
    // The first that is refused has found every place taken.
    let refused = loop {
        let got = storm.next().await.expect("nobody was refused");
        if got.status == 503 {
            break got;
        }
        got.refused(401, "invalid_credentials");
        wrong += 1;
    };
    assert!(refused.retry_after.is_some_and(|secs| secs > 0));
    refused.refused(503, "unavailable");
    let mut reads: FuturesUnordered<_> = (0..20).map(|_| app.owner.get("/api/me")).collect();
    let mut left = 20;
    while left > 0 {
        tokio::select! {
            Some(read) = reads.next() => {
                read.data(200);
                left -= 1;
            }
            Some(got) = storm.next() => wrong += usize::from(got.status == 401),
        }
    }
    // They were through while most of the storm still waited.
    assert!(wrong < all / 2, "{wrong} of {all} logins were answered before 20 reads");
    assert!(!storm.is_empty());
    app.db.remove().await.unwrap();
}
