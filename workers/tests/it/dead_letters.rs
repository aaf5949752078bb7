//! Messages that nobody can act on, in the queues of real workers at a real broker: each is kept once,
//! hinders no other, and can be sent again.

use crate::dns::server::program;
use crate::notifier;
use crate::saga::{nowhere, world_of};
use entities::asks::{ASK_QUEUES, BILLING_QUEUE, DNS_QUEUE, JOB_QUEUE, POD_QUEUE};
use entities::config::{self, Base};
use entities::db::Db;
use entities::dead_letters::{self, Filter, Reason};
use entities::ids::{JobId, ProductId, RowId, ServiceId, ZoneId};
use entities::outbox::{Message, QUEUES};
use entities::tables::dead_letter;
use entities::tenancy::TenantCtx;
use entities::testing::TestDb;
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use workers::error::Result;
use workers::world::World;
use workers::{amqp, dead_letters as workers_dead_letters, migrator, provisioner, relay};

/// A database and a virtual host of one's own, so that no other test's workers take the messages.
struct Scene {
    db: TestDb,
    platform: TenantCtx,
    vhost: String,
    url: SecretString,
    workers: Vec<JoinHandle<()>>,
    ending: CancellationToken,
}

/// A world with connections of its thread's.
async fn world_at(base: Base) -> Result<World> {
    Ok(world_of(Db::connect(base.database_url.expose_secret(), 4).await?, base))
}

fn services() -> String {
    let sandbox = config::secret("TEST_SANDBOX").expect("TEST_SANDBOX is missing: run deploy/test");
    format!("{}/services", sandbox.expose_secret())
}

impl Scene {
    async fn open() -> Self {
        let db = TestDb::create().await.unwrap();
        let platform = db.platform().await.unwrap();
        let vhost = format!("it-{}", RowId::new().0.simple());
        let made = program(&services()).args(["vhost", &vhost]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let url = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let url = SecretString::from(url);
        let (workers, ending) = (Vec::new(), CancellationToken::new());
        Self { db, platform, vhost, url, workers, ending }
    }

    fn base(&self) -> Base {
        Base { database_url: self.db.url.clone(), amqp_url: self.url.clone() }
    }

    /// Runs a worker on a thread of its own, which many of their futures do not leave.
    fn start<F: Future<Output = Result<()>>>(
        &mut self,
        work: impl FnOnce(Base) -> F + Send + 'static,
    ) {
        let (base, ending) = (self.base(), self.ending.clone());
        self.workers.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    ended = work(base) => ended.unwrap(),
                    () = ending.cancelled() => {}
                }
            });
        }));
    }

    fn start_migrator(&mut self) {
        self.start(async |base| migrator::run(world_at(base).await?).await);
    }

    fn start_provisioner(&mut self) {
        self.start(async |base| provisioner::run(world_at(base).await?).await);
    }

    fn start_billing(&mut self) {
        self.start(async |base| {
            let stripe = crate::billing::stripe_at("http://127.0.0.1:9");
            let config = config::Billing { base, stripe };
            workers::billing::Worker::open(config).await?.run().await
        });
    }

    fn start_dns(&mut self) {
        self.start(async |base| {
            let (dns, sealing_keys) = (nowhere(), crate::dns::sealing());
            let config = config::DnsWorker { base, dns, sealing_keys };
            workers::dns::Worker::open(config).await?.run().await
        });
    }

    fn start_relay(&mut self) {
        self.start(async |base| relay::run(&base).await);
    }

    async fn channel(&self) -> Channel {
        let connection = amqp::connect(&self.url, "test").await.unwrap();
        amqp::publisher(&connection).await.unwrap()
    }

    async fn send(&self, queue: &str, payload: &[u8]) {
        let channel = self.channel().await;
        amqp::publish_confirmed(&channel, queue, payload, BasicProperties::default())
            .await
            .unwrap();
    }

    async fn letters(&self, queue: &str) -> Vec<dead_letter::Model> {
        let filter = Filter { queue: Some(queue.to_owned()), ..Filter::default() };
        let db = &self.db.db;
        let mut found =
            dead_letters::list_letters(db, &self.platform, &filter, 0, 100).await.unwrap().0;
        found.sort_by_key(|letter| letter.id.0);
        found
    }

    /// Waits until a queue has these many dead letters, and nothing lies in it any more.
    async fn wait(&self, queue: &str, count: usize) -> Vec<dead_letter::Model> {
        let until = Instant::now() + Duration::from_secs(60);
        let channel = self.channel().await;
        loop {
            let letters = self.letters(queue).await;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let left = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
            let left = left.unwrap().message_count();
            if letters.len() == count && left == 0 {
                return letters;
            }
            assert!(Instant::now() < until, "{queue} has {left} messages, and {letters:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn end(self) {
        self.ending.cancel();
        for worker in self.workers {
            worker.join().unwrap();
        }
        let gone = program(&services()).args(["vhost-delete", &self.vhost]).output().unwrap();
        assert!(gone.status.success(), "{gone:?}");
        self.db.remove().await.unwrap();
    }
}

fn reasons(letters: &[dead_letter::Model]) -> Vec<Reason> {
    letters.iter().map(|letter| letter.reason).collect()
}

fn bytes(message: &Message) -> Vec<u8> {
    serde_json::to_vec(message).unwrap()
}

#[tokio::test]
async fn poison_in_each_queue_is_kept_and_hinders_no_message_behind_it() {
    use Reason::{Foreign, Unreadable};
    let mut scene = Scene::open().await;
    let job = Message::JobReady { job: JobId::new() };
    let pod = Message::PodJobReady { job: JobId::new() };
    let zone = Message::ZoneChanged { zone: ZoneId::new() };
    let product = Message::ProductChanged { product: ProductId::new() };
    let replay = Message::LetterReplayed { letter: RowId::new() };
    for (queue, own, foreign) in [
        (JOB_QUEUE, &job, &zone),
        (POD_QUEUE, &pod, &job),
        (BILLING_QUEUE, &product, &job),
        (DNS_QUEUE, &zone, &product),
    ] {
        for payload in [&b"\xff\0 no JSON"[..], br#"{"kind":"of_the_future","x":1}"#, b"", b"[]"] {
            scene.send(queue, payload).await;
        }
        for message in [foreign, &replay, own] {
            scene.send(queue, &bytes(message)).await;
        }
    }
    scene.start_migrator();
    scene.start_provisioner();
    scene.start_billing();
    scene.start_dns();
    for queue in QUEUES {
        let letters = scene.wait(queue, 6).await;
        let expected = [Unreadable, Unreadable, Unreadable, Unreadable, Foreign, Foreign];
        assert_eq!(reasons(&letters), expected, "{queue}");
        assert_eq!(letters[0].payload, b"\xff\0 no JSON", "byte for byte");
        assert!(letters.iter().all(|letter| letter.count == 1 && !letter.error.is_empty()));
    }
    // The same once more is counted, and makes no other row.
    scene.send(DNS_QUEUE, b"[]").await;
    let until = Instant::now() + Duration::from_secs(30);
    while scene.wait(DNS_QUEUE, 6).await.iter().all(|letter| letter.count == 1) {
        assert!(Instant::now() < until, "it is not counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.end().await;
}

#[tokio::test]
async fn a_question_that_is_none_is_kept_and_who_waits_is_told() {
    let mut scene = Scene::open().await;
    scene.start_migrator();
    scene.start_provisioner();
    let channel = scene.channel().await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let mine = channel.queue_declare("".into(), exclusive, FieldTable::default()).await.unwrap();
    let mut answers = channel
        .basic_consume(
            mine.name().clone(),
            "".into(),
            BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() },
            FieldTable::default(),
        )
        .await
        .unwrap();
    for queue in ASK_QUEUES {
        let asking = BasicProperties::default()
            .with_reply_to(mine.name().clone())
            .with_correlation_id("1".into());
        amqp::publish_confirmed(&channel, queue, b"no question", asking).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(30), answers.next()).await;
        let answer = answer.unwrap().unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&answer.data).unwrap();
        assert_eq!((&answer["outcome"], &answer["code"]), (&json!("refused"), &json!("internal")));
        assert_eq!(reasons(&scene.wait(queue, 1).await), [Reason::Unreadable]);
        let ask = entities::asks::Ask::new(
            &scene.platform,
            entities::asks::Question::Verify { job: JobId::new() },
        );
        scene.send(queue, &serde_json::to_vec(&ask).unwrap()).await;
        let letters = scene.wait(queue, 2).await;
        assert_eq!(letters[1].error, "It does not say where the answer is to go.");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_worker_that_dies_between_the_row_and_the_acknowledgement_makes_no_second_row() {
    let mut scene = Scene::open().await;
    scene.send(DNS_QUEUE, b"poison").await;
    let connection = amqp::connect(&scene.url, "test").await.unwrap();
    let channel = amqp::publisher(&connection).await.unwrap();
    let got = channel.basic_get(DNS_QUEUE.into(), BasicGetOptions::default()).await.unwrap();
    let got = got.expect("a message");
    let read = workers_dead_letters::read(&scene.db.db, DNS_QUEUE, &got.delivery.data).await;
    assert!(read.unwrap().is_none());
    // The row is there, and the connection ends with the message in its hands.
    connection.close(200, "".into()).await.unwrap();
    assert_eq!(scene.letters(DNS_QUEUE).await.len(), 1);
    scene.start_dns();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let [letter] = scene.wait(DNS_QUEUE, 1).await.try_into().unwrap();
        if letter.count == 2 {
            break;
        }
        assert!(Instant::now() < until, "{letter:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.end().await;
}

#[tokio::test]
async fn what_fails_again_and_again_is_kept_and_comes_back_while_it_fails() {
    let mut scene = Scene::open().await;
    scene.db.execute("ALTER TABLE service RENAME TO service_away").await.unwrap();
    let nobodys = bytes(&Message::ServiceChanged { service: ServiceId::new() });
    scene.send(BILLING_QUEUE, &nobodys).await;
    scene.start_billing();
    let [letter] = scene.wait(BILLING_QUEUE, 1).await.try_into().unwrap();
    assert_eq!((letter.reason, letter.count), (Reason::Failing, 5));
    assert!(letter.error.contains("service"), "{}", letter.error);
    // Not mended: it comes back. The relay brings it there.
    scene.start_relay();
    scene.db.execute("ALTER TABLE service_away RENAME TO service").await.unwrap();
    dead_letters::replay(&scene.db.db, &scene.platform, letter.id).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let [again] = scene.wait(BILLING_QUEUE, 1).await.try_into().unwrap();
        // There is no such service, and so it fails five times more.
        if again.count == 10 {
            assert!(again.replayed_at.unwrap() < again.last_at);
            break;
        }
        assert!(Instant::now() < until, "{again:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.end().await;
}

#[tokio::test]
async fn what_is_replayed_when_its_cause_is_mended_is_acted_on() {
    let mut scene = Scene::open().await;
    let server = scene.db.server(&scene.platform).await.unwrap();
    let job = scene.db.migration(&scene.platform, server, "alice").await.unwrap();
    scene.start_migrator();
    scene.db.execute("ALTER TABLE server RENAME TO server_away").await.unwrap();
    for _ in 0..dead_letters::TRIES_MAX {
        scene.send(JOB_QUEUE, &bytes(&Message::JobReady { job })).await;
    }
    let [letter] = scene.wait(JOB_QUEUE, 1).await.try_into().unwrap();
    assert_eq!((letter.reason, scene.db.job(job).await.unwrap().fence), (Reason::Failing, 0));
    scene.db.execute("ALTER TABLE server_away RENAME TO server; DELETE FROM outbox").await.unwrap();
    dead_letters::replay(&scene.db.db, &scene.platform, letter.id).await.unwrap();
    // Nothing else announces the job.
    let channel = scene.channel().await;
    assert_eq!(relay::relay_once(&scene.db.db, &channel).await.unwrap(), 1);
    let until = Instant::now() + Duration::from_secs(30);
    while scene.db.job(job).await.unwrap().fence == 0 {
        assert!(Instant::now() < until, "nobody takes the job");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let [letter] = scene.wait(JOB_QUEUE, 1).await.try_into().unwrap();
    assert_eq!(letter.count, 5, "it does not come back");
    scene.end().await;
}

#[tokio::test]
async fn a_job_that_no_worker_can_run_is_announced_to_people() {
    let mut scene = Scene::open().await;
    let server = scene.db.server(&scene.platform).await.unwrap();
    let job = scene.db.migration(&scene.platform, server, "alice").await.unwrap();
    let strange = format!("UPDATE job SET kind = 'of_the_future' WHERE id = '{job}'");
    scene.db.execute(&strange).await.unwrap();
    scene.start_migrator();
    let ready = bytes(&Message::JobReady { job });
    let until = Instant::now() + Duration::from_secs(60);
    let mut fence = 0;
    while scene.letters(JOB_QUEUE).await.is_empty() {
        let now = scene.db.job(job).await.unwrap();
        if now.fence == fence {
            // As the relay does when a lease has ended.
            scene.send(JOB_QUEUE, &ready).await;
        }
        while scene.db.job(job).await.unwrap().fence == fence {
            assert!(Instant::now() < until, "nobody takes the job");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        fence = scene.db.job(job).await.unwrap().fence;
        scene.db.expire_lease(job).await.unwrap();
        assert!(Instant::now() < until, "no dead letter after {fence} claims");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let [letter] = scene.wait(JOB_QUEUE, 1).await.try_into().unwrap();
    assert_eq!(letter.reason, Reason::Failing);
    assert!(letter.error.contains("nobody knows how to run of_the_future/analyze"), "{letter:?}");
    scene.end().await;
}

#[tokio::test]
async fn a_letter_that_nobody_can_read_or_send_is_kept_and_put_back() {
    let db = TestDb::create().await.unwrap();
    let platform = db.platform().await.unwrap();
    for (letter, attempts) in
        [("{\"kind\": \"of_the_future\"}", 0), ("{\"kind\": \"account_exists\"}", 13)]
    {
        let sql = format!(
            "INSERT INTO mail (id, recipient, letter, attempts) VALUES ('{}', 'a@b.test', '{letter}', {attempts})",
            RowId::new()
        );
        db.execute(&sql).await.unwrap();
    }
    let away = notifier::post(&db, "127.0.0.1:1").await;
    assert_eq!(away.send_once().await.unwrap(), 1, "what cannot be read keeps no other back");
    assert_eq!(away.send_once().await.unwrap(), 0);
    let filter = Filter { queue: Some(dead_letters::MAIL.to_owned()), ..Filter::default() };
    let list = async || {
        let letters =
            dead_letters::list_letters(&db.db, &platform, &filter, 0, 10).await.unwrap().0;
        let mut letters: Vec<_> =
            letters.into_iter().map(|l| (l.reason.as_str(), l.count, l.id)).collect();
        letters.sort();
        letters
    };
    let [failing, unreadable] = list().await.try_into().unwrap();
    assert_eq!((failing.0, failing.1), ("failing", 1));
    assert_eq!((unreadable.0, unreadable.1), ("unreadable", 1));
    for (_, _, id) in [failing, unreadable] {
        dead_letters::replay(&db.db, &platform, id).await.unwrap();
    }
    assert_eq!(away.send_once().await.unwrap(), 1);
    let [failing, unreadable] = list().await.try_into().unwrap();
    assert_eq!((failing.1, unreadable.1), (1, 2), "one waits again, the other came back");
    let again = dead_letters::replay(&db.db, &platform, unreadable.2).await;
    again.unwrap();
    db.execute("UPDATE mail SET sent_at = now()").await.unwrap();
    let sent = dead_letters::replay(&db.db, &platform, failing.2).await.unwrap_err();
    assert_eq!(sent.code(), entities::error::Code::Conflict);
    db.remove().await.unwrap();
}
