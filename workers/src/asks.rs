//! Answering what the API asks and waits for.

use crate::error::{Result, amqp as amqp_error};
use crate::facts::{Named, control_facts};
use crate::saga::{Cx, Undoing};
use crate::sagas::apply;
use crate::world::World;
use crate::{agent, amqp, dead_letters};
use cpanel::plan::{Operation, Ownership};
use cpanel::protocol::{
    Call, Changes, Check, CheckStatus, InspectReport, JobRef, Preview, Source, Verification,
};
use entities::asks::{Answer, Ask, QUEUE, Question};
use entities::dead_letters::Reason;
use entities::error::Error;
use entities::ids::{JobId, ServerId};
use entities::jobs::Claim;
use entities::tables::{job, migration, server};
use entities::tenancy::Permission;
use entities::values::{AbsPath, Username};
use entities::{hosting, migrations, servers, telemetry};
use lapin::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tracing::Instrument;

/// Answers one question of those that a migrator is asked.
pub async fn handle(world: &World, channel: &Channel, delivery: Delivery) -> Result<()> {
    handle_with(world, (QUEUE, channel), delivery, async |ask| answer(world, ask).await).await
}

/// Answers one question of a queue. It is taken off the queue first: who asks waits only so long, and
/// asks again. What is no question is kept before that.
pub async fn handle_with(
    world: &World,
    (queue, channel): (&str, &Channel),
    delivery: Delivery,
    answer: impl AsyncFnOnce(&Ask) -> Result<Value>,
) -> Result<()> {
    let properties = &delivery.properties;
    let address = properties.reply_to().as_ref().zip(properties.correlation_id().as_ref());
    let ask = match read(world, queue, &delivery.data, address.is_some()).await {
        Ok(ask) => ask,
        Err(error) => {
            // It could not be kept: somebody takes it again.
            amqp::give_back(&delivery).await?;
            return Err(error);
        }
    };
    amqp::acknowledge(&delivery).await?;
    let Some((reply_to, id)) = address else { return Ok(()) };
    let answer = match ask {
        Some(ask) => {
            let span = tracing::info_span!(
                "ask.answer", tenant.id = %ask.tenant, request.id = %ask.request
            );
            telemetry::join(&span, ask.traceparent.as_deref());
            answer(&ask).instrument(span).await
        }
        None => Err(Error::internal("a question that nobody can read")),
    };
    let answer = match answer {
        Ok(value) => Answer::Ok { value },
        Err(error) => {
            tracing::warn!(code = %error.code().as_str(), cause = %error.chain(), "ask.refused");
            Answer::refusal(&error)
        }
    };
    channel
        .basic_publish(
            "".into(),
            reply_to.clone(),
            BasicPublishOptions::default(),
            &serde_json::to_vec(&answer)?,
            BasicProperties::default().with_correlation_id(id.clone()),
        )
        .await
        .map_err(amqp_error)?;
    Ok(())
}

/// The question; what is none, or does not say who waits for the answer, is a dead letter.
async fn read(world: &World, queue: &str, bytes: &[u8], has_address: bool) -> Result<Option<Ask>> {
    let ask = dead_letters::read_any(&world.db, queue, bytes).await?;
    if !has_address && ask.is_some() {
        let why = (Reason::Unreadable, "It does not say where the answer is to go.");
        dead_letters::keep(&world.db, queue, bytes, why).await?;
    }
    Ok(ask)
}

/// A question that came by a queue of others.
pub(crate) fn for_others(question: &Question) -> Error {
    Error::internal(format!("a question for {}", question.answered_by()))
}

async fn answer(world: &World, ask: &Ask) -> Result<Value> {
    match &ask.question {
        Question::Validate { server, path, target_user } => {
            value(&validate(world, ask, *server, path, target_user).await?)
        }
        Question::Preview { job, options } => {
            let (job, row, server) = load(world, ask, *job).await?;
            let named = Named::of_migration(&row)?;
            let control = control_facts(world, ask.tenant, &named, &server).await?;
            let call = Call::Preview { control, options: options.clone() };
            value(&ask_agent::<Preview>(world, &server, Some(&job), call).await?)
        }
        Question::Changes { job } => {
            let (job, _, server) = load(world, ask, *job).await?;
            value(&ask_agent::<Changes>(world, &server, Some(&job), Call::Changes).await?)
        }
        Question::Verify { job } => {
            let (job, row, server) = load(world, ask, *job).await?;
            let operations: Vec<Operation> =
                serde_json::from_value(row.operations.unwrap_or_else(|| json!([])))?;
            let cx = looking(world, &job, server);
            value(&Verification { checks: apply::verify(&cx?, &operations).await? })
        }
        Question::Console { .. } => Err(for_others(&ask.question)),
    }
}

pub(crate) fn value<T: Serialize>(answer: &T) -> Result<Value> {
    Ok(serde_json::to_value(answer)?)
}

/// The migration and its server, as far as the asker may see them.
async fn load(
    world: &World,
    ask: &Ask,
    id: JobId,
) -> Result<(job::Model, migration::Model, server::Model)> {
    let tx = world.db.read(&ask.ctx(), Permission::MigrationsRead).await?;
    let (job, row) = migrations::find_migration(&tx, id).await?;
    let server = servers::find_server(&tx, job.server_id).await?;
    Ok((job, row, server))
}

/// A context that looks at a job's things without a claim of its own.
fn looking(world: &World, job: &job::Model, server: server::Model) -> Result<Cx> {
    let claim = Claim {
        job: job.id,
        tenant: job.tenant_id,
        server: job.server_id,
        kind: job.kind.clone(),
        phase: job.phase.clone(),
        run: job.run,
        fence: job.fence,
        attempts: 0,
        unwinding: false,
        error: None,
        actor: serde_json::from_value(job.actor.clone())?,
        request: job.request_id,
        traceparent: None,
    };
    Ok(Cx {
        world: world.clone(),
        claim: Arc::new(claim),
        server: Arc::new(server),
        undoing: Undoing::Discard,
    })
}

async fn ask_agent<T: serde::de::DeserializeOwned>(
    world: &World,
    server: &server::Model,
    job: Option<&job::Model>,
    call: Call,
) -> Result<T> {
    let session = world.fleet.session(world, server).await?;
    let job = job.map(|job| JobRef { id: job.id.0, fence: job.fence });
    agent::call(&session, job, call, None).await
}

async fn validate(
    world: &World,
    ask: &Ask,
    id: ServerId,
    path: &AbsPath,
    target_user: &Username,
) -> Result<InspectReport> {
    let tx = world.db.read(&ask.ctx(), Permission::MigrationsWrite).await?;
    let server = servers::usable_server(&tx, id).await?;
    drop(tx);
    let source = Source {
        path: path.clone(),
        target_user: target_user.clone(),
        backup_dirs: servers::backup_dirs(&server)?,
    };
    let mut report: InspectReport = ask_agent(world, &server, None, Call::Inspect(source)).await?;
    let tx = world.db.system().await?;
    let (ownership, _) = hosting::account_ownership(&tx, ask.tenant, id, target_user).await?;
    let (status, message) = match ownership {
        Ownership::Free => (CheckStatus::Pass, format!("no account here is called {target_user}")),
        Ownership::Own => (
            CheckStatus::Warn,
            format!(
                "{target_user} is an account of yours already: the archive is restored into it"
            ),
        ),
        Ownership::Taken => (
            CheckStatus::Fail,
            format!("{target_user} is somebody else's account: choose another target_user"),
        ),
    };
    report.checks.push(Check { name: "account_owner".to_owned(), status, message });
    Ok(report)
}
