//! Passwords: bcrypt with cost 12, on threads of its own. There are as many as there are cores, they
//! give way to those that answer requests, and only so many logins wait for them: a storm of logins
//! stalls nothing else.

use entities::Result;
use entities::error::{Code, Error};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha512;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tokio::sync::oneshot;

const COST: u32 = 12;
/// What bcrypt reads of a password: it would cut a longer one in silence.
const BYTES_MAX: usize = 72;
/// Costs of bcrypt that are taken over: a login with a higher one would keep the pool for seconds.
const IMPORTABLE_COSTS: std::ops::RangeInclusive<u32> = 4..=15;
/// A hash of nothing that anybody knows, so that an unknown address takes as long as a known one.
const NOBODY: &str = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZBEcYd9p8DRm9d9Yc1C9gGxS5e7y1C";
/// How hashes of the old system begin that are not of bcrypt: `pbkdf2_sha512$ITERATIONS$SALT$HASH`, both in hex.
const LEGACY: &str = "pbkdf2_sha512$";
const LEGACY_ITERATIONS_MAX: u32 = 1_000_000;
/// So many iterations take as long as a comparison with a hash of ours, about.
const LEGACY_SLOW: u32 = 40_000;
/// How many guesses a password must withstand: less is found by trying lists of breached ones.
const GUESSES_MIN: f64 = 1e7;

/// How much the threads give way to others, as `nice` counts it.
const NICENESS: i32 = 5;
/// How many strangers wait for each thread, and how many whom we know: less than five seconds of work
/// each. Whoever comes then is told to come again.
const WAITING: usize = 12;
const BUSY_SECS: u64 = 5;

type Work = Box<dyn FnOnce() + Send>;

/// Hashes and compares.
#[derive(Debug, Clone)]
pub struct Passwords {
    strangers: SyncSender<Work>,
    /// Of those who need not wait behind strangers.
    friends: SyncSender<Work>,
    /// One for each work that waits in either queue.
    calls: Sender<()>,
    is_friend: bool,
}

/// The other ends of [`Passwords`].
struct Waiting {
    strangers: Receiver<Work>,
    friends: Receiver<Work>,
    calls: Receiver<()>,
}

impl Waiting {
    /// What is done next; nothing when nobody can ask any more. It is there before it is called for.
    fn next(&self) -> Option<Work> {
        self.calls.recv().ok()?;
        self.friends.try_recv().or_else(|_none_of_them| self.strangers.try_recv()).ok()
    }
}

/// What comparing a password with a hash gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// Right, and the hash is of the old kind or cheaper than ours: it should be replaced.
    RightLegacy,
}

impl Passwords {
    /// A thread for each core.
    #[must_use]
    pub fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(cores, cores.saturating_mul(WAITING))
    }

    /// So many threads, and so many that may wait for them.
    fn with(threads: usize, waiting: usize) -> Self {
        let (strangers, from_strangers) = sync_channel(waiting);
        let (friends, from_friends) = sync_channel(waiting);
        let (calls, called) = channel();
        let work = Waiting { strangers: from_strangers, friends: from_friends, calls: called };
        let work = Arc::new(Mutex::new(work));
        for _ in 0..threads {
            let work = Arc::clone(&work);
            let thread = thread::Builder::new().name("password".to_owned());
            if let Err(error) = thread.spawn(move || serve(&work)) {
                tracing::error!(%error, "passwords.no_thread");
            }
        }
        Self { strangers, friends, calls, is_friend: false }
    }

    /// The same for people whom we know, by their device or because they are logged in: what they ask
    /// is done before what strangers ask.
    #[must_use]
    pub fn ahead(&self) -> Self {
        Self { is_friend: true, ..self.clone() }
    }

    /// Hashes a new password of 8 to 72 bytes (bcrypt would cut a longer one in silence) that is not
    /// on lists of breached ones and not made of what its owner is called.
    pub async fn hash_new(
        &self,
        field: &'static str,
        password: &SecretString,
        owner: &[&str],
    ) -> Result<String> {
        let length = password.expose_secret().len();
        if !(8..=BYTES_MAX).contains(&length) {
            let text = format!("must have 8 to 72 bytes; this one has {length}");
            return Err(Error::field(field, text));
        }
        let words = words(owner);
        let password = password.clone();
        let hashed = self.run(move || {
            let password = password.expose_secret();
            if is_weak(password, &words) { Ok(None) } else { bcrypted(password).map(Some) }
        });
        hashed.await??.ok_or_else(|| {
            let text = "is on lists of breached passwords or made of your name: choose another one";
            Error::field(field, text)
        })
    }

    /// Hashes a password of at most 72 bytes that somebody has already.
    pub async fn hash(&self, password: &SecretString) -> Result<String> {
        let password = password.clone();
        self.run(move || bcrypted(password.expose_secret())).await?
    }

    /// Whether the password has this hash; without a hash it takes as long and is wrong.
    pub async fn verify(&self, password: &SecretString, hash: Option<&str>) -> Result<Verdict> {
        let password = password.clone();
        let hash = hash.map(str::to_owned);
        self.run(move || verdict(password.expose_secret(), hash.as_deref())).await
    }

    /// Refuses at once when too many wait. A caller that is dropped meanwhile costs no work, unless it
    /// has begun.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let span = tracing::Span::current();
        let work = move || {
            if answer.is_closed() {
                return;
            }
            if answer.send(span.in_scope(work)).is_err() {
                tracing::trace!("passwords.nobody_waits");
            }
        };
        let queue = if self.is_friend { &self.friends } else { &self.strangers };
        match queue.try_send(Box::new(work)) {
            Ok(()) => {
                self.calls.send(()).map_err(Error::internal)?;
                answered.await.map_err(Error::internal)
            }
            Err(TrySendError::Full(_)) => {
                let text = "Too many people log in at this moment. Try again in some seconds.";
                Err(Error::later(Code::Unavailable, text, BUSY_SECS))
            }
            Err(TrySendError::Disconnected(_)) => {
                Err(Error::internal("no thread for passwords could be started"))
            }
        }
    }
}

/// Works until nobody can ask any more.
fn serve(work: &Mutex<Waiting>) {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "passwords.not_nice");
    }
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(next) = next else { return };
        if catch_unwind(AssertUnwindSafe(next)).is_err() {
            tracing::error!("passwords.panicked");
        }
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "its length is checked, so that nothing is cut")]
fn bcrypted(password: &str) -> Result<String> {
    if password.len() > BYTES_MAX {
        return Err(Error::internal("a password that is too long for bcrypt"));
    }
    bcrypt::hash(password, COST).map_err(Error::internal)
}

/// Bcrypt, for a password of any length: what is cut off makes it wrong, and costs no less time.
#[expect(clippy::disallowed_methods, reason = "a password that would be cut is wrong")]
fn is_bcrypted(password: &str, hash: &str) -> bool {
    let is_same = bcrypt::verify(password, hash).unwrap_or(false);
    is_same && password.len() <= BYTES_MAX
}

/// About as long as one comparison with a hash of ours, so that the time does not tell who is not
/// there: what takes less is done beside one, and what takes as long by itself is not.
fn verdict(password: &str, hash: Option<&str>) -> Verdict {
    let cost = hash.and_then(bcrypt_cost);
    match (hash, cost) {
        (Some(hash), Some(cost)) if cost >= COST => {
            if is_bcrypted(password, hash) {
                Verdict::Right
            } else {
                Verdict::Wrong
            }
        }
        (hash, cost) => {
            let iterations = hash.and_then(legacy_parts).map_or(0, |(iterations, ..)| iterations);
            if iterations < LEGACY_SLOW {
                // For its time.
                is_bcrypted(password, NOBODY);
            }
            let is_right = hash.is_some_and(|hash| match cost {
                Some(_) => is_bcrypted(password, hash),
                None => is_legacy(password, hash),
            });
            if is_right { Verdict::RightLegacy } else { Verdict::Wrong }
        }
    }
}

/// The cost of a hash, when it is one of bcrypt.
fn bcrypt_cost(hash: &str) -> Option<u32> {
    let parts: bcrypt::HashParts = hash.parse().ok()?;
    Some(parts.get_cost())
}

/// The parts of names and addresses that a password may not be made of.
fn words(owner: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = owner.iter().map(|text| text.to_lowercase()).collect();
    let parts = owner.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    words.extend(parts.filter(|part| part.len() > 2).map(str::to_lowercase));
    words
}

fn is_weak(password: &str, words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    zxcvbn::zxcvbn(password, &words).guesses_log10() < GUESSES_MIN.log10()
}

/// Whether a text is a hash of the old system, so that it may be imported.
#[must_use]
pub fn is_importable(hash: &str) -> bool {
    let is_bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
        && bcrypt_cost(hash).is_some_and(|cost| IMPORTABLE_COSTS.contains(&cost));
    is_bcrypt || legacy_parts(hash).is_some()
}

fn legacy_parts(hash: &str) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let mut parts = hash.strip_prefix(LEGACY)?.split('$');
    let iterations = parts.next()?.parse().ok()?;
    let salt = hex::decode(parts.next()?).ok()?;
    let wanted = hex::decode(parts.next()?).ok()?;
    let is_sound = (1..=LEGACY_ITERATIONS_MAX).contains(&iterations)
        && wanted.len() == 64
        && (8..=128).contains(&salt.len())
        && parts.next().is_none();
    is_sound.then_some((iterations, salt, wanted))
}

fn is_legacy(password: &str, hash: &str) -> bool {
    let Some((iterations, salt, wanted)) = legacy_parts(hash) else { return false };
    let mut found = [0_u8; 64];
    pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), &salt, iterations, &mut found);
    let differs = found.iter().zip(&wanted).fold(0_u8, |all, (a, b)| all | (a ^ b));
    differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const VECTOR: &str = "pbkdf2_sha512$100000$00112233445566778899aabbccddeeff$6cbed59f582390f4e8aae45c04c545a3f95598ec9077408dd6731403cbae2a4b94a0fecf44d62f91c69bc8d49b0fd2052c692181e56aea80ab40d5ecd2ef7c26";

    /// Of `correctbatteryhorsestapler`.
    const CHEAP: &str = "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie";

    #[test]
    fn hashes_of_the_old_system_are_read() {
        assert!(is_legacy("correct horse battery staple", VECTOR));
        assert!(!is_legacy("correct horse battery stapler", VECTOR));
        assert!(is_importable(VECTOR));
        for wrong in [
            "",
            "pbkdf2_sha512$1$00$00",
            &VECTOR.replace("100000", "1000001"),
            &CHEAP.replace("$04$", "$16$"),
            &CHEAP.replace("$04$", "$03$"),
            &CHEAP.replace("$2b$", "$2x$"),
            &CHEAP.replace("$2b$", "$1b$"),
            &format!("{CHEAP}a"),
            "!",
            VECTOR.split_at(100).0,
        ] {
            assert!(!is_importable(wrong), "{wrong}");
        }
    }

    #[test]
    fn cheap_hashes_are_right_and_to_be_replaced_and_none_is_cut() {
        const CRYPTED: [&str; 2] = [
            "$2y$05$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS",
            "$2a$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG",
        ];
        for hash in CRYPTED {
            assert!(is_importable(hash), "{hash}");
            assert_eq!(verdict("correct horse battery staple", Some(hash)), Verdict::RightLegacy);
            assert_eq!(verdict("correct horse battery stapler", Some(hash)), Verdict::Wrong);
        }
        assert_eq!(verdict("correctbatteryhorsestapler", Some(CHEAP)), Verdict::RightLegacy);
        assert_eq!(bcrypt_cost(NOBODY), Some(COST));
        let longest = "x".repeat(BYTES_MAX);
        let own = bcrypted(&longest).unwrap();
        assert_eq!(verdict(&longest, Some(&own)), Verdict::Right);
        assert_eq!(verdict(&format!("{longest}y"), Some(&own)), Verdict::Wrong);
        assert_eq!(verdict("x", None), Verdict::Wrong);
        assert!(bcrypted(&format!("{longest}y")).is_err());
    }

    #[test]
    fn a_slow_hash_of_the_old_system_is_all_that_is_computed() {
        let wrong = "correct horse battery stapler";
        let cheap = VECTOR.replace("$100000$", "$1$");
        let works: [&dyn Fn() -> bool; 4] = [
            &|| verdict(wrong, Some(VECTOR)) == Verdict::Wrong,
            &|| !is_legacy(wrong, VECTOR),
            &|| !is_bcrypted(wrong, NOBODY),
            &|| verdict(wrong, Some(&cheap)) == Verdict::Wrong,
        ];
        // A cheap one would tell by its time that it is there.
        let holds = |[whole, legacy, own, cheap]: [Duration; 4]| {
            whole < legacy + own / 2 && cheap > own / 2
        };
        // The quickest of several rounds, and of more when others work beside this one.
        let (mut quickest, mut rounds) = ([Duration::MAX; 4], 0);
        while rounds < 5 || (rounds < 50 && !holds(quickest)) {
            for (least, work) in quickest.iter_mut().zip(works) {
                let start = Instant::now();
                assert!(work());
                *least = start.elapsed().min(*least);
            }
            rounds += 1;
        }
        assert!(holds(quickest), "{quickest:?}");
    }

    #[test]
    fn breached_and_derived_passwords_are_weak() {
        let words = words(&["jane.roe@roe-hosting.example", "Jane Roe", "Roe Hosting"]);
        for weak in [
            "password1",
            "qwertyuiop",
            "12345678",
            "letmein123",
            "janeroe1",
            "roe-hosting",
            "iloveyou2",
        ] {
            assert!(is_weak(weak, &words), "{weak}");
        }
        for good in ["correct horse 1", "Vq7#mRz0pL", "ein blauer Elefant im Regen"] {
            assert!(!is_weak(good, &words), "{good}");
        }
    }

    #[tokio::test]
    async fn only_so_many_wait_and_who_has_gone_costs_nothing() {
        let passwords = Passwords::with(1, 2);
        let (begun, has_begun) = oneshot::channel();
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let own = passwords.clone();
        let first = tokio::spawn(async move {
            let work = move || {
                begun.send(()).unwrap();
                may_go_on.blocking_recv().unwrap();
                1
            };
            own.run(work).await
        });
        has_begun.await.unwrap();
        // The one thread is at work: two wait, of whom one goes, and for a third there is no room.
        let second = {
            let mut second = Box::pin(passwords.run(|| 2));
            assert!(futures::poll!(&mut second).is_pending());
            second
        };
        let mut gone = Box::pin(passwords.run(|| panic!("nobody waits for this")));
        let is_pending: std::task::Poll<Result<()>> = futures::poll!(&mut gone);
        assert!(is_pending.is_pending());
        drop(gone);
        let refused = passwords.run(|| 3).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(matches!(refused, Error::Later { secs: BUSY_SECS, .. }), "{refused}");
        go_on.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        assert_eq!(second.await.unwrap(), 2);
        // A fault of one is not the end of the thread.
        assert!(passwords.run::<()>(|| panic!("a fault")).await.is_err());
        assert_eq!(passwords.run(|| 4).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn whom_we_know_does_not_wait_behind_strangers() {
        let passwords = Passwords::with(1, 2);
        let (begun, has_begun) = oneshot::channel();
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let own = passwords.clone();
        let first = tokio::spawn(async move {
            let work = move || {
                begun.send(()).unwrap();
                may_go_on.blocking_recv().unwrap();
            };
            own.run(work).await
        });
        has_begun.await.unwrap();
        let (order, done) = channel();
        let note = |who: &'static str| {
            let order = order.clone();
            move || order.send(who).unwrap()
        };
        let strangers = [passwords.run(note("stranger")), passwords.run(note("stranger"))];
        let mut strangers = strangers.map(Box::pin);
        for stranger in &mut strangers {
            assert!(futures::poll!(stranger).is_pending());
        }
        assert_eq!(passwords.run(|| ()).await.unwrap_err().code(), Code::Unavailable);
        // Theirs is no place that strangers could take.
        let ahead = passwords.ahead();
        let mut friend = Box::pin(ahead.run(note("friend")));
        assert!(futures::poll!(&mut friend).is_pending());
        go_on.send(()).unwrap();
        first.await.unwrap().unwrap();
        friend.await.unwrap();
        for stranger in strangers {
            stranger.await.unwrap();
        }
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["friend", "stranger", "stranger"]);
    }

    #[tokio::test]
    async fn lengths_are_told_and_nothing_is_cut() {
        let passwords = Passwords::new();
        let full = format!("{}four", "Vq7#mRz0pL and ".repeat(5)).split_at(72).0.to_owned();
        for (text, wanted) in [
            ("short", false),
            (&"äöü Regen und ".repeat(3), true),
            (&full, true),
            (&format!("{full}x"), false),
            (&"é".repeat(37), false),
        ] {
            let new = passwords.hash_new("password", &SecretString::from(text), &[]).await;
            assert_eq!(new.is_ok(), wanted, "{text}");
        }
    }
}
