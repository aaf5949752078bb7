//! What jobs leave behind when nobody ends them: staging with password hashes in it, and replaced
//! things of migrations that can no longer be rolled back. Removed by age, whenever an archive is
//! analyzed.

use crate::beneath::Beneath;
use crate::error::Result;
use crate::layout;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// An analysis that was not applied by then is done again.
const STAGING_DAYS: u32 = 7;
/// Rollback is possible for 30 days.
const KEPT_DAYS: u32 = 31;

/// Removes the leftovers of other jobs than this one.
pub fn sweep(current: Uuid) -> Result<()> {
    let kept_home = layout::kept_home(current);
    let kept_etc = layout::kept_etc(current);
    let places = [
        (Some(Path::new(layout::STAGING)), STAGING_DAYS),
        (kept_home.parent(), KEPT_DAYS),
        (kept_etc.parent(), KEPT_DAYS),
    ];
    for (place, days) in places {
        if let Some(place) = place {
            sweep_in(&Beneath::open(place)?, current, DAY.saturating_mul(days))?;
        }
    }
    Ok(())
}

/// Removes the directories that are named by a job and older than `age`.
fn sweep_in(place: &Beneath, current: Uuid, age: Duration) -> Result<()> {
    for (name, _) in place.list()? {
        let job = name.to_str().and_then(|text| Uuid::parse_str(text).ok());
        let Some(job) = job.filter(|job| *job != current) else { continue };
        let Some(stat) = place.stat(job.to_string())? else { continue };
        let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        let old = SystemTime::now().duration_since(modified).is_ok_and(|since| since > age);
        if old {
            place.remove(job.to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes, create_dir};

    #[test]
    fn only_old_directories_of_other_jobs_go() {
        let dir = tempfile::tempdir().unwrap();
        let (old, young, mine) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        for name in [old, young, mine].map(|id| id.to_string()).into_iter().chain(["kept".into()]) {
            create_dir(dir.path().join(&name)).unwrap();
            std::fs::write(dir.path().join(&name).join("account.json"), "{}").unwrap();
            if name != young.to_string() {
                let long_ago = SystemTime::now() - DAY * 8;
                let times = FileTimes::new().set_modified(long_ago);
                File::open(dir.path().join(&name)).unwrap().set_times(times).unwrap();
            }
        }
        sweep_in(&Beneath::open(dir.path()).unwrap(), mine, DAY * 7).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [young.to_string(), mine.to_string(), "kept".into()]);
    }
}
