//! `Idempotency-Key`: a request that is repeated with its key has its effect once, and the first
//! answer is given again.
//!
//! The context of such a request carries an [`Once`]. The write transaction that it opens takes a
//! lock on the key, looks whether there is an answer already, and, when the rule commits, is kept
//! open until the answer is known: [`Once::finish`] stores the answer in it and commits both. A
//! process that dies before leaves nothing; one that dies after leaves the answer.
//!
//! The body of an answer may hold a secret that is shown once. It is sealed with AES-256-GCM under a
//! key made from the client's, which is stored only as a hash: who reads the table reads no answer,
//! as long as the client's keys cannot be guessed.

use crate::Result;
use crate::db::{Db, statement};
use crate::error::{Code, Error};
use crate::ids::{RowId, TenantId};
use crate::tables::idempotency::{self, Column};
use crate::tenancy::{Role, TenantCtx};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chrono::Utc;
use hmac::{Hmac, Mac};
use rand::RngCore;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};

/// How long an answer is kept.
const KEPT_SECS: f64 = 86_400.0;

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One request with a key, on its way.
pub struct Once {
    scope: String,
    request: String,
    role: Role,
    key: SecretString,
    state: Mutex<State>,
}

/// What has come of it so far.
enum State {
    Open,
    /// The transaction of the effect, which waits for the answer, and the tenant that it is pinned to.
    Done(DatabaseTransaction, TenantId),
    /// The answer that there was already.
    Answered(Answer),
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Once").field(&self.scope).finish()
    }
}

impl Once {
    /// A request of `ctx` with `key`: 1 to 255 visible ASCII characters. `request` is the hash of
    /// all that is asked. Another caller, or the same in another tenant, has keys of their own.
    pub fn new(ctx: &TenantCtx, key: SecretString, request: [u8; 32]) -> Result<Self> {
        let text = key.expose_secret();
        if !(1..=255).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let rule = "must have 1 to 255 visible ASCII characters; a UUID is a good one";
            return Err(Error::field("Idempotency-Key", rule));
        }
        let actor = serde_json::to_string(&ctx.actor())?;
        let scope = format!("{actor}\n{}\n{text}", ctx.tenant());
        Ok(Self {
            scope: hex::encode(Sha256::digest(scope.as_bytes())),
            request: hex::encode(request),
            role: ctx.role(),
            key,
            state: Mutex::new(State::Open),
        })
    }

    /// The answer that was given to this request before, if it was; refused when the key came with
    /// another request. Somebody who has lost a role since is not answered from here: the rule that
    /// they ask for says what they may.
    pub async fn find_answer(&self, db: &Db) -> Result<Option<Answer>> {
        let tx = db.system().await?;
        let Some(row) = self.find(tx.conn()).await? else { return Ok(None) };
        self.open_answer(&row).map(|answer| Some(answer).filter(|_| self.role.reaches(row.role)))
    }

    /// Takes the key for the effect that `tx` is going to have. Refused when another request with it
    /// is under way, or has had its effect already: [`Once::finish`] then gives its answer.
    pub(crate) async fn claim(&self, tx: &DatabaseTransaction) -> Result<()> {
        let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS taken";
        let lock = statement(sql, [format!("idempotency {}", self.scope).into()]);
        let taken = tx.query_one_raw(lock).await?;
        if !taken.map_or(Ok(false), |row| row.try_get("", "taken"))? {
            return Err(running());
        }
        if let Some(row) = self.find(tx).await? {
            self.set(State::Answered(self.open_answer(&row)?));
            return Err(running());
        }
        Ok(())
    }

    /// Keeps the transaction of the effect until the answer is known.
    pub(crate) fn keep(&self, tx: DatabaseTransaction, tenant: TenantId) {
        self.set(State::Done(tx, tenant));
    }

    /// Ends the request with the answer that the rule made; `None` for a refusal or a fault, which
    /// takes the effect back and is not kept. Gives the answer of an earlier request with this key,
    /// when there was one, and whether the answer is kept now.
    pub async fn finish(&self, answer: Option<&Answer>) -> Result<Ended> {
        match (self.set(State::Open), answer) {
            (State::Answered(first), _) => Ok(Ended::Repeated(first)),
            (State::Done(tx, tenant), Some(answer)) => {
                self.store(&tx, tenant, answer).await?;
                tx.commit().await?;
                Ok(Ended::Kept)
            }
            (State::Done(tx, _), None) => {
                // Awaited, so that one who asks again at once does not meet it as still running.
                tx.rollback().await?;
                Ok(Ended::NotKept)
            }
            (State::Open, _) => Ok(Ended::NotKept),
        }
    }

    fn set(&self, state: State) -> State {
        let mut place = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, state)
    }

    async fn find<C: ConnectionTrait>(&self, conn: &C) -> Result<Option<idempotency::Model>> {
        let row = idempotency::Entity::find().filter(Column::ScopeSha256.eq(self.scope.as_str()));
        Ok(row.one(conn).await?)
    }

    async fn store(
        &self,
        tx: &DatabaseTransaction,
        tenant: TenantId,
        answer: &Answer,
    ) -> Result<()> {
        let row = idempotency::ActiveModel {
            id: Set(RowId::new()),
            tenant_id: Set(tenant),
            scope_sha256: Set(self.scope.clone()),
            request_sha256: Set(self.request.clone()),
            role: Set(self.role),
            status: Set(i32::from(answer.status)),
            sealed_body: Set(self.seal(&answer.body)?),
            created_at: Set(Utc::now()),
        };
        idempotency::Entity::insert(row).exec_without_returning(tx).await?;
        Ok(())
    }

    fn open_answer(&self, row: &idempotency::Model) -> Result<Answer> {
        if row.request_sha256 != self.request {
            return Err(Error::refused(
                Code::IdempotencyMismatch,
                "This Idempotency-Key was used for another request. Take a new key for a new request.",
            ));
        }
        let status = u16::try_from(row.status).map_err(Error::internal)?;
        Ok(Answer { status, body: self.unseal(&row.sealed_body)? })
    }

    /// The scope is part of the key and of what is sealed, so that no answer can be put in the place
    /// of another.
    fn cipher(&self) -> Result<Aes256Gcm> {
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.key.expose_secret().as_bytes())
                .map_err(Error::internal)?;
        mac.update(b"migrapanel idempotency answer ");
        mac.update(self.scope.as_bytes());
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        Ok(Aes256Gcm::new(&Key::<Aes256Gcm>::from(key)))
    }

    fn seal(&self, body: &[u8]) -> Result<String> {
        let mut nonce = [0u8; 12];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = self
            .cipher()?
            .encrypt(&Nonce::from(nonce), Payload { msg: body, aad: self.scope.as_bytes() })
            .map_err(|e| Error::internal(e.to_string()))?;
        Ok(BASE64.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn unseal(&self, sealed: &str) -> Result<Vec<u8>> {
        let wrong = || Error::internal("a stored answer does not open with its key");
        let data = BASE64.decode(sealed).map_err(Error::internal)?;
        let (nonce, text) = data.split_first_chunk::<12>().ok_or_else(wrong)?;
        self.cipher()?
            .decrypt(&Nonce::from(*nonce), Payload { msg: text, aad: self.scope.as_bytes() })
            .map_err(|_e| wrong())
    }
}

/// How a request with a key ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The effect stands, and its answer with it.
    Kept,
    /// There was nothing to keep: a refusal, a fault, or nothing was written.
    NotKept,
    /// The effect stood already; this was its answer.
    Repeated(Answer),
}

fn running() -> Error {
    Error::refused(
        Code::IdempotencyRunning,
        "A request with this Idempotency-Key is still running. Repeat it in a moment.",
    )
}

/// Removes answers that are older than a day.
pub async fn prune(db: &Db) -> Result<()> {
    let tx = db.system().await?;
    let sql = "DELETE FROM idempotency WHERE created_at < now() - make_interval(secs => $1)";
    tx.conn().execute_raw(statement(sql, [KEPT_SECS.into()])).await?;
    tx.commit().await
}
