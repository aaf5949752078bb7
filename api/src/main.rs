//! The API's binary: `serve`, and the commands of the operator at the machine.

use actix_web::rt::net::TcpStream;
use actix_web::{HttpServer, web};
use api::access;
use api::app;
use api::ask::Asker;
use api::auth::TokenKeys;
use api::contract;
use api::ends::Ends;
use api::gcra::Counts;
use api::import;
use api::limits::Memory;
use api::password::{Passwords, is_importable};
use api::progress::Progress;
use api::state::{Redis, State};
use billing::Billing;
use entities::config::{self, Api};
use entities::db::Db;
use entities::dns::signing;
use entities::error::{Code, Error};
use entities::mfa::{self, Resealed};
use entities::{accounts, certificates, servers, telemetry, webhooks};
use rustix::net::sockopt::set_tcp_user_timeout;
use secrecy::ExposeSecret;
use std::any::Any;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const USAGE: &str = "migrapanel-api COMMAND
  serve      answers HTTP on MIGRAPANEL__LISTEN
  migrate    brings the database of DATABASE_URL to this version's schema
  bootstrap  makes the platform and its owner (MIGRAPANEL__OWNER_EMAIL, MIGRAPANEL__OWNER_PASSWORD, or
             MIGRAPANEL__OWNER_PASSWORD_HASH of the old system, pbkdf2_sha512$ITERATIONS$SALT$HASH); for an owner who exists it sets the
             password
  import-users
             takes over people of an old system: on standard input a JSON object a line, of email,
             name, password_hash (as above, or of bcrypt), tenant_id and role. Says which lines it
             cannot take, and fails when there are any. May be run again: whoever has a login stays
             as they are
  reseal     seals what is under an old key under the newest of MIGRAPANEL__TOKEN_KEYS, and, when it is
             given MIGRAPANEL__SEALING_KEYS, the workers' SSH key, too. Says how many secrets it
             was, and fails when one is under a key that is not there
  audit verify [TENANT-ID [--head SEQ:HASH]]
             checks the audit trail's chains: how many entries are sealed, how many not yet, and the
             head. Fails when an entry was changed, removed, moved or put in beside, and, with a
             head that was noted earlier, when the end was cut off
  openapi    prints the contract
  roles      prints the table of who may do what
";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().skip(1).any(|word| matches!(word.as_str(), "--help" | "-h" | "help")) {
        return match print(USAGE) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let command = std::env::args().nth(1).unwrap_or_default();
    let done = match command.as_str() {
        "serve" => serve().await,
        "migrate" => migrate().await,
        "bootstrap" => bootstrap().await,
        "import-users" => import_users().await,
        "reseal" => reseal().await,
        "audit" => verify_audit().await,
        "roles" => print(&access::page()),
        "openapi" => contract::text().map_err(Error::from).and_then(|text| print(&text)),
        _ => {
            return match print(USAGE) {
                Ok(()) => ExitCode::from(2),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("migrapanel-api {command}: {}\n", error.chain());
            match std::io::stderr().write_all(text.as_bytes()) {
                Ok(()) | Err(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn print(text: &str) -> Result<(), Error> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::internal)
}

async fn serve() -> Result<(), Error> {
    let _telemetry = telemetry::start("migrapanel-api")?;
    let config = Api::read()?;
    let db = Db::connect(config.base.database_url.expose_secret(), 16).await?;
    let state = web::Data::new(State {
        db: db.clone(),
        redis: Redis::open(&config.redis_url, &config.base.database_url)?,
        tokens: TokenKeys::parse(&config.jwt_keys)?,
        secrets: config.token_keys,
        ends: Ends::start(db.clone(), config.base.database_url.clone()),
        registration: config.registration,
        passwords: Passwords::new(),
        asker: Asker::new(
            config.base.amqp_url.clone(),
            Duration::from_secs(config.ask_timeout_secs),
        ),
        progress: Progress::start(config.base.database_url.clone()),
        edge: config.edge,
        counts: Counts::default(),
        limits: Memory::default(),
        billing: Billing::open(db.clone(), config.stripe)?,
        stripe_webhook_secrets: config.stripe_webhook_secrets,
        webhooks: config.webhooks,
        accounts_domain: config.accounts_domain,
        zones: config.zones,
        ending: asked_to_end(),
    });
    let server = HttpServer::new(move || app::build(state.clone()).0)
        .shutdown_timeout(10)
        // For the head of a request, which a slow client could send for ever; and longer than proxies
        // keep an idle connection, so that it is they who close it.
        .client_request_timeout(Duration::from_secs(10))
        .keep_alive(Duration::from_secs(75))
        .on_connect(|connection, _| give_up_deaf(connection))
        .bind(config.listen)
        .map_err(|error| {
            Error::internal(format!("the address {} cannot be used: {error}", config.listen))
        })?
        .run();
    tracing::info!(listen = %config.listen, "api.serving");
    server.await.map_err(Error::internal)
}

/// How long a client may take nothing of what is sent to it, in milliseconds. A connection whose client
/// never reads would otherwise stay for as long as the client likes.
const DEAF_MILLIS: u32 = 90_000;

fn give_up_deaf(connection: &dyn Any) {
    if let Some(socket) = connection.downcast_ref::<TcpStream>()
        && let Err(error) = set_tcp_user_timeout(socket, DEAF_MILLIS)
    {
        tracing::debug!(%error, "connection.no_timeout");
    }
}

/// Cancelled when the process is asked to end. The server hears of that by itself, and waits for what
/// is open; consoles would stay so.
fn asked_to_end() -> CancellationToken {
    let ending = CancellationToken::new();
    let heard = ending.clone();
    tokio::spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        heard.cancel();
    });
    ending
}

async fn migrate() -> Result<(), Error> {
    let url = config::secret("DATABASE_URL")?;
    let db = Db::connect(url.expose_secret(), 2).await?;
    db.migrate().await?;
    print("The schema is up to date.\n")
}

async fn import_users() -> Result<(), Error> {
    let url = config::secret("DATABASE_URL")?;
    let db = Db::connect(url.expose_secret(), 2).await?;
    let mut input = BufReader::new(tokio::io::stdin());
    let tally = import::run(&db, &mut input, &mut std::io::stdout()).await?;
    if tally.refused == 0 {
        return Ok(());
    }
    let text = "Some lines were refused: mend them, and run it again with all lines or with these.";
    Err(Error::refused(Code::InvalidRequest, text))
}

async fn reseal() -> Result<(), Error> {
    let url = config::secret("DATABASE_URL")?;
    let (tokens, sealing) = (config::token_keys()?, config::sealing_keys()?);
    let db = Db::connect(url.expose_secret(), 2).await?;
    let Resealed { count, unreadable } = mfa::reseal(&db, tokens.sealing()).await?;
    print(&format!("Second factors: {count} sealed anew, {unreadable} under a missing key.\n"))?;
    let hooks = webhooks::reseal(&db, tokens.sealing()).await?;
    print(&format!(
        "Webhook secrets: {} sealed anew, {} under a missing key.\n",
        hooks.count, hooks.unreadable
    ))?;
    let mut keys_left = 0;
    if let Some(keys) = sealing {
        let kept = certificates::reseal(&db, &keys).await?;
        keys_left = kept.unreadable;
        print(&format!(
            "Keys of certificates: {} sealed anew, {} under a missing key.\n",
            kept.count, kept.unreadable
        ))?;
        let count = u8::from(servers::reseal_identity(&db, &keys).await?);
        print(&format!("SSH keys: {count} sealed anew.\n"))?;
        let tx = db.system().await?;
        let count = signing::reseal(&tx, &keys).await?;
        tx.commit().await?;
        print(&format!("Keys of signed zones: {count} sealed anew.\n"))?;
    }
    if unreadable == 0 && hooks.unreadable == 0 && keys_left == 0 {
        return Ok(());
    }
    let text = "Add the missing key behind the newest one, and run it again. Whoever has such a \
                second factor logs in with a recovery code meanwhile.";
    Err(Error::refused(Code::Conflict, text))
}

async fn verify_audit() -> Result<(), Error> {
    let url = config::secret("DATABASE_URL")?;
    let db = Db::connect(url.expose_secret(), 2).await?;
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let report = api::audit::run(&db, &arguments).await?;
    print(&report.text)?;
    if report.whole {
        return Ok(());
    }
    Err(Error::refused(Code::Conflict, "A chain is broken: look into what its line names."))
}

async fn bootstrap() -> Result<(), Error> {
    let url = config::secret("DATABASE_URL")?;
    let email = config::text("MIGRAPANEL__OWNER_EMAIL", "");
    let email = entities::values::MailAddress::parse(&email)
        .map_err(|error| Error::internal(format!("MIGRAPANEL__OWNER_EMAIL: {error}")))?;
    let hash = match config::optional("MIGRAPANEL__OWNER_PASSWORD_HASH") {
        Some(hash) if is_importable(&hash) => hash,
        Some(_) => {
            let text = "MIGRAPANEL__OWNER_PASSWORD_HASH must be pbkdf2_sha512$ITERATIONS$SALT$HASH, or bcrypt";
            return Err(Error::internal(text));
        }
        None => {
            let password = config::secret("MIGRAPANEL__OWNER_PASSWORD")?;
            Passwords::new().hash_new("password", &password, &[email.as_str()]).await?
        }
    };
    let db = Db::connect(url.expose_secret(), 2).await?;
    let name = config::text("MIGRAPANEL__PLATFORM_NAME", "Platform");
    accounts::bootstrap_platform(&db, &name, email.as_str(), hash).await?;
    print(&format!("The platform {name} belongs to {email}.\n"))
}
