//! Chance that a seed repeats.

use entities::config;
use secrecy::ExposeSecret;
use std::time::SystemTime;

/// A sequence that the seed repeats (Marsaglia's xorshift).
pub struct Chance(u64);

impl Chance {
    /// Of TEST_SEED, or another each time.
    #[expect(clippy::print_stderr, reason = "a failed run is repeated by its seed")]
    pub fn of_seed() -> Self {
        let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros().try_into().unwrap();
        let seed: u64 = config::secret("TEST_SEED")
            .map_or_else(|_| now(), |text| text.expose_secret().parse().unwrap());
        eprintln!("TEST_SEED={seed}");
        Self(seed | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let bound = u64::try_from(of.len()).unwrap();
        &of[usize::try_from(self.below(bound)).unwrap()]
    }
}
