//! People of an old system, who come with the hashes of their passwords.

use crate::Result;
use crate::accounts;
use crate::audit::Audit;
use crate::db::Db;
use crate::error::{Code, Error};
use crate::ids::{RequestId, TenantId};
use crate::members;
use crate::tenancy::{Actor, Origin, Role, StoredActor, TenantCtx};
use crate::tenants;
use secrecy::{ExposeSecret, SecretString};

/// Somebody of an old system. The hash is one that a login can be compared with.
#[derive(Debug)]
pub struct Person {
    pub email: String,
    pub name: String,
    pub password_hash: SecretString,
    pub tenant: TenantId,
    pub role: Role,
}

/// What became of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    Made,
    /// The address has a login, which stays as it is: so importing again changes nothing.
    KnownAlready,
}

/// Makes a person a member of a tenant, with the old password. The address counts as verified. One
/// transaction: whoever is in is in the trail.
pub async fn import_person(db: &Db, person: &Person) -> Result<Import> {
    let tx = db.system().await?;
    if accounts::is_known(&tx, &person.email).await? {
        return Ok(Import::KnownAlready);
    }
    let tenant = tenants::row(&tx, person.tenant).await?.id;
    members::room_for_one(&tx, tenant).await?;
    let hash = person.password_hash.expose_secret().to_owned();
    let made = accounts::insert_user(&tx, &person.email, &person.name, hash, true).await;
    let user = match made {
        // Somebody else was faster.
        Err(error) if error.code() == Code::Conflict => return Ok(Import::KnownAlready),
        made => made?,
    };
    accounts::insert_membership(&tx, tenant, user, person.role).await?;
    let stored = StoredActor::new(Actor::Bootstrap, Role::Owner, true);
    let ctx = TenantCtx::new(tenant, &stored, RequestId::new(), Origin::default());
    let (email, role) = (person.email.clone(), person.role.to_string());
    tx.audit(&ctx, Audit::UserCreated { user, email: email.clone() }).await?;
    tx.audit(&ctx, Audit::MemberAdded { email, role }).await?;
    tx.commit().await?;
    Ok(Import::Made)
}

/// Whether an error is about this person, so that the next may be imported all the same.
#[must_use]
pub fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Refused { .. } | Error::NotFound(_))
}
