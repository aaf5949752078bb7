//! `Idempotency-Key`: the first answer is kept for a day and repeated; another request under the
//! same key is refused, and so is one beside a running one.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::ApiError;

const KEPT: i64 = 86_400;

/// The answers that are kept, by key.
#[derive(Default)]
pub struct Answers {
    kept: HashMap<String, Kept>,
}

struct Kept {
    request: String,
    since: i64,
    answer: Option<Stored>,
}

/// An answer as it was given.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its HTTP status.
    pub status: u16,
    /// Its body.
    pub body: Value,
    /// The request that it answered.
    pub request_id: String,
}

impl Answers {
    /// Begins a request under a key: the old answer to repeat, or nothing, if this is the first.
    pub fn begin(
        &mut self,
        key: &str,
        request: &str,
        now: i64,
    ) -> Result<Option<Stored>, ApiError> {
        if key.is_empty() || key.len() > 255 {
            return Err(ApiError::invalid(
                "Idempotency keys must have between 1 and 255 characters.",
            ));
        }
        self.kept.retain(|_, kept| kept.answer.is_none() || now - kept.since < KEPT);
        match self.kept.get(key) {
            Some(kept) if kept.request != request => Err(ApiError::idempotency(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than this one if you meant to execute a different request.",
            )),
            Some(Kept { answer: Some(answer), .. }) => Ok(Some(answer.clone())),
            Some(_) => Err(ApiError::idempotency(
                409,
                "There is currently another in-progress request using this idempotent key. Please try again later.",
            )),
            None => {
                let kept = Kept { request: request.to_owned(), since: now, answer: None };
                self.kept.insert(key.to_owned(), kept);
                Ok(None)
            }
        }
    }

    /// Ends it: with the answer to keep, or none if the request was refused before it began.
    pub fn end(&mut self, key: &str, answer: Option<Stored>) {
        match (self.kept.get_mut(key), answer) {
            (Some(kept), Some(answer)) => kept.answer = Some(answer),
            _ => {
                self.kept.remove(key);
            }
        }
    }
}
