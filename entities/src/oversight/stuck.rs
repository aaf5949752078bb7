//! Which jobs do not get on, and why.

use crate::Result;
use sea_orm::QueryResult;
use serde::Serialize;

/// Why a job does not get on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stuck {
    /// Its worker is gone, and no other has taken it over.
    LeaseEnded,
    /// It was queued more than five minutes ago, and nothing that it would have to wait for runs.
    NotTaken,
    /// Workers have taken it up more than three times at the same place.
    NoProgress,
    /// It runs longer than it may.
    OverDeadline,
}

impl Stuck {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::LeaseEnded, Self::NotTaken, Self::NoProgress, Self::OverDeadline];

    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseEnded => "lease_ended",
            Self::NotTaken => "not_taken",
            Self::NoProgress => "no_progress",
            Self::OverDeadline => "over_deadline",
        }
    }

    /// When it is so, of a job `j`. What a job waits for is what [`crate::jobs::claim`] makes it wait
    /// for: one that works on the same subject, or one that has a slot that it needs.
    fn condition(self) -> &'static str {
        match self {
            Self::LeaseEnded => {
                "coalesce(j.state IN ('running', 'unwinding') AND j.lease_until < now(), false)"
            }
            Self::NotTaken => {
                "(j.state = 'queued' AND j.queued_at < now() - interval '5 minutes'
                  AND NOT EXISTS (SELECT FROM job o WHERE o.id <> j.id
                    AND o.state IN ('running', 'unwinding') AND o.lease_until >= now()
                    AND ((o.server_id = j.server_id AND o.subject = j.subject)
                      OR (j.kind = 'migration' AND o.kind = 'migration'
                        AND (o.phase = 'analyze') = (j.phase = 'analyze'))
                      OR (j.kind = 'certificate' AND o.kind = 'certificate')
                      OR (j.kind = 'cloudpod' AND o.kind = 'cloudpod'
                        AND (o.tenant_id = j.tenant_id
                          OR (j.phase = 'backup' AND o.phase = 'backup'
                            AND o.server_id = j.server_id))))))"
            }
            Self::NoProgress => "(j.state IN ('running', 'unwinding') AND j.attempts > 3)",
            Self::OverDeadline => "coalesce(j.state = 'running' AND j.deadline_at < now(), false)",
        }
    }
}

/// A column for each reason, called as it is.
pub(super) fn columns() -> String {
    let columns = Stuck::ALL.map(|why| format!("{} AS {}", why.condition(), why.as_str()));
    columns.join(", ")
}

/// Whether any reason holds.
pub(super) fn any() -> String {
    Stuck::ALL.map(Stuck::condition).join(" OR ")
}

/// The reasons that hold, by their columns.
pub(super) fn read(row: &QueryResult) -> Result<Vec<Stuck>> {
    let mut reasons = Vec::new();
    for why in Stuck::ALL {
        if row.try_get("", why.as_str())? {
            reasons.push(why);
        }
    }
    Ok(reasons)
}
