//! How much of a budget is left, by the generic cell rate algorithm: one number for each budget, the
//! time at which it is whole again. Redis keeps it for all processes; with Redis away each process
//! counts by itself.

use crate::state::State;
use redis::Script;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many requests in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// As the caller reads it.
    pub name: &'static str,
    pub requests: u32,
    pub secs: u32,
}

/// A budget that a request is taken from.
#[derive(Debug, Clone)]
pub struct Budget {
    pub policy: Policy,
    /// Whose it is.
    pub whose: String,
}

/// What is left of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub requests: u64,
    /// Until it is whole again.
    pub whole: Duration,
    /// Until it has room for this request; zero: it was taken.
    pub wait: Duration,
}

/// Takes one from each budget, or from none when one of them is used up.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lefts, ends, refused = {}, {}, false
for i, key in ipairs(KEYS) do
  local quota = tonumber(ARGV[2 * i])
  local step = math.floor(tonumber(ARGV[2 * i - 1]) * 1000000 / quota)
  local used = math.max(tonumber(redis.call('GET', key) or '0') - now, 0)
  local wait = math.max(used + step - step * quota, 0)
  refused = refused or wait > 0
  lefts[i], ends[i] = { step * quota, step, used, wait }, used + step
end
local answer = {}
for i, key in ipairs(KEYS) do
  local whole, step, used, wait = unpack(lefts[i])
  if not refused then
    used = ends[i]
    redis.call('SET', key, string.format('%.0f', now + used), 'PX', math.ceil(used / 1000))
  end
  table.insert(answer, math.floor((whole - used) / step))
  table.insert(answer, used)
  table.insert(answer, wait)
end
return answer";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TAKE));

/// Takes one request from each budget, or from none when one of them is used up. Never fails.
pub async fn take(state: &State, budgets: &[Budget]) -> Vec<Left> {
    let mut script = SCRIPT.prepare_invoke();
    for Budget { policy, whose } in budgets {
        let key = state.redis_key(&format!("limit:{}:{whose}", policy.name));
        script.key(key).arg(policy.secs).arg(policy.requests);
    }
    let asked: redis::RedisResult<Vec<(u64, u64, u64)>> =
        state.with_redis(async |redis| script.invoke_async(redis).await).await;
    match asked {
        Ok(answers) => {
            let micros = Duration::from_micros;
            let left = |(requests, whole, wait)| Left {
                requests,
                whole: micros(whole),
                wait: micros(wait),
            };
            answers.into_iter().map(left).collect()
        }
        Err(_told_once_by_the_connection) => state.counts.take(budgets, Instant::now()),
    }
}

/// Budgets that one process keeps at most; beyond, the counts begin anew.
const LOCAL_MAX: usize = 100_000;

/// This process's own counts: when each budget is whole again.
#[derive(Debug, Default)]
pub struct Counts(Mutex<HashMap<(&'static str, String), Instant>>);

impl Counts {
    fn take(&self, budgets: &[Budget], now: Instant) -> Vec<Left> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len().saturating_add(budgets.len()) > LOCAL_MAX {
            counts.retain(|_, whole| *whole > now);
            if counts.len().saturating_add(budgets.len()) > LOCAL_MAX {
                counts.clear();
            }
        }
        let used: Vec<Duration> = budgets
            .iter()
            .map(|budget| {
                let whole = counts.get(&(budget.policy.name, budget.whose.clone()));
                whole.map_or(Duration::ZERO, |whole| whole.saturating_duration_since(now))
            })
            .collect();
        let pairs = budgets.iter().zip(used);
        let lefts: Vec<Left> = pairs.map(|(budget, used)| left(budget.policy, used)).collect();
        if lefts.iter().any(|left| !left.wait.is_zero()) {
            return lefts;
        }
        let taken = budgets.iter().zip(lefts).map(|(budget, left)| {
            let whole = left.whole.saturating_add(step(budget.policy));
            if let Some(at) = now.checked_add(whole) {
                counts.insert((budget.policy.name, budget.whose.clone()), at);
            }
            Left { requests: left.requests.saturating_sub(1), whole, ..left }
        });
        taken.collect()
    }
}

/// How long one request takes to come back.
fn step(policy: Policy) -> Duration {
    Duration::from_secs(policy.secs.into()) / policy.requests.max(1)
}

fn left(policy: Policy, used: Duration) -> Left {
    let step = step(policy);
    let all = step.saturating_mul(policy.requests);
    let requests = all.saturating_sub(used).as_micros() / step.as_micros().max(1);
    Left {
        requests: u64::try_from(requests).unwrap_or(u64::MAX),
        whole: used,
        wait: used.saturating_add(step).saturating_sub(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(whose: &str, requests: u32) -> Budget {
        Budget { policy: Policy { name: "test", requests, secs: 60 }, whose: whose.to_owned() }
    }

    #[test]
    fn a_budget_is_used_up_and_comes_back_piece_by_piece() {
        let (counts, start) = (Counts::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let one = [budget("a", 3)];
        let left: Vec<u64> = (0..3).map(|_| counts.take(&one, at(0))[0].requests).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = counts.take(&one, at(0))[0];
        assert_eq!(refused.wait, Duration::from_secs(20));
        assert_eq!(counts.take(&one, at(19))[0].wait, Duration::from_secs(1));
        assert_eq!(counts.take(&one, at(20))[0].wait, Duration::ZERO);
        assert_eq!(counts.take(&one, at(20))[0].wait, Duration::from_secs(20));
        assert_eq!(counts.take(&one, at(3600))[0].requests, 2);
        assert_eq!(counts.take(&[budget("b", 3)], at(0))[0].requests, 2);
    }

    #[test]
    fn what_one_budget_refuses_is_not_taken_from_the_other() {
        let (counts, now) = (Counts::default(), Instant::now());
        let both = [budget("wide", 10), budget("tight", 1)];
        assert_eq!(counts.take(&both, now)[0].requests, 9);
        let refused = counts.take(&both, now);
        assert!(refused[0].wait.is_zero() && !refused[1].wait.is_zero());
        assert_eq!(counts.take(&both[..1], now)[0].requests, 8);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (counts, now) = (Counts::default(), Instant::now());
        for i in 0..=LOCAL_MAX {
            counts.take(&[budget(&i.to_string(), 2)], now);
        }
        assert!(counts.0.lock().unwrap().len() <= LOCAL_MAX);
    }
}
