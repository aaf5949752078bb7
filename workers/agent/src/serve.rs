//! One request on standard input, answered on standard output.

use crate::error::{Error, Result};
use crate::events::Events;
use crate::guard::Stop;
use crate::job::Job;
use cpanel::protocol::{Call, Event, Hello, JobRef, LINE_BYTES_MAX, PROTOCOL, Request};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::process::ExitCode;
use std::thread;

/// Serves one request. The exit status tells whether the answer could be given, not what it was.
pub fn serve() -> ExitCode {
    let events = Events::new(io::stdout());
    let answer = match converse(&events) {
        Ok(result) => Event::Done { result },
        Err(e) => Event::Failed {
            code: e.code().to_owned(),
            message: e.to_string(),
            cause: e.cause().map(ToOwned::to_owned),
        },
    };
    match events.line(&answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn converse(events: &Events) -> Result<Value> {
    events.line(&Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: own_hash()?,
    })?;
    let mut input = BufReader::new(io::stdin());
    let request = read_request(&mut input)?;
    if let Call::Upgrade { sha256, size } = &request.call {
        return value(crate::upgrade::upgrade(&mut input, sha256, *size));
    }
    let stop = watch_input(input);
    answer(request, events, &stop)
}

/// SHA-256 of the binary that runs, in hex.
fn own_hash() -> Result<String> {
    let path = "/proc/self/exe";
    let mut own = std::fs::File::open(path).map_err(Error::at(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 256 << 10];
    loop {
        let n = own.read(&mut buffer).map_err(Error::at(path))?;
        match buffer.get(..n) {
            Some(chunk) if n > 0 => hash.update(chunk),
            _ => return Ok(hex::encode(hash.finalize())),
        }
    }
}

fn read_request(input: &mut impl BufRead) -> Result<Request> {
    let mut line = Vec::new();
    let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    input.by_ref().take(most).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(Error::new("bad_request", "The request is cut off or too long."));
    }
    serde_json::from_slice(&line)
        .map_err(|e| Error::new("bad_request", "The request is not understood.").because(e))
}

/// Reads on until the worker closes its side, which asks the work to stop.
fn watch_input(mut input: impl Read + Send + 'static) -> Stop {
    let stop = Stop::default();
    let asked = stop.clone();
    thread::spawn(move || {
        let mut rest = [0_u8; 512];
        while matches!(input.read(&mut rest), Ok(1..)) {}
        asked.set();
    });
    stop
}

fn answer(request: Request, events: &Events, stop: &Stop) -> Result<Value> {
    let job = request.job;
    match request.call {
        Call::Health => value(crate::health::health()),
        Call::Enroll(enroll) => value(crate::enroll::enroll(&enroll, events, stop)),
        Call::Inspect(source) => value(crate::inspect::inspect(&source)),
        Call::Upgrade { .. } => Err(Error::new("bad_request", "An upgrade begins a conversation.")),
        call => claimed(job, events, stop)
            .and_then(|job| answer_for(&job, call))
            .map_err(crate::space::diagnosed),
    }
}

fn claimed<'a>(job: Option<JobRef>, events: &'a Events, stop: &'a Stop) -> Result<Job<'a>> {
    let job = job.ok_or_else(|| Error::new("bad_request", "This request needs a job."))?;
    Job::claim(job, events, stop)
}

fn answer_for(job: &Job<'_>, call: Call) -> Result<Value> {
    match call {
        Call::Analyze(source) => {
            crate::priority::lower()?;
            value(crate::analyze::analyze(job, &source))
        }
        Call::Preview { control, options } => {
            value(crate::preview::preview(job, &control, &options))
        }
        Call::Begin { control, options, digest } => {
            value(crate::preview::begin(job, &control, &options, &digest))
        }
        Call::Prepare { user, domain, control } => {
            value(crate::template::prepare(job, &user, &domain, &control))
        }
        Call::Apply { step } => {
            crate::priority::lower()?;
            value(crate::steps::apply(job, step))
        }
        Call::Undo { step, park } => value(crate::steps::undo(job, step, park)),
        Call::Confirm { items } => value(crate::steps::confirm(job, &items)),
        Call::Changes => value(crate::changes::changes(job)),
        Call::Verify { ipv4 } => {
            crate::space::check()?;
            value(crate::verify::verify(job, ipv4))
        }
        Call::Suspend { user } => value(crate::suspend::suspend(job, &user)),
        Call::Unsuspend { user } => value(crate::suspend::unsuspend(job, &user)),
        Call::Terminate(wanted) => value(crate::terminate::terminate(job, &wanted)),
        Call::ActivateMail { user, domains } => {
            value(crate::activate::activate(job, &user, &domains))
        }
        Call::PutChallenge { token, content } => {
            value(crate::certificates::put_challenge(&token, &content))
        }
        Call::RemoveChallenge { token } => value(crate::certificates::remove_challenge(&token)),
        Call::InstallCertificate(wanted) => value(crate::certificates::install(job, &wanted)),
        Call::UninstallCertificate { user, certificate } => {
            value(crate::certificates::uninstall(job, &user, certificate))
        }
        Call::Cleanup => value(crate::steps::cleanup(job)),
        _ => Err(Error::new("bad_request", "This request needs no job.")),
    }
}

fn value<T: Serialize>(result: Result<T>) -> Result<Value> {
    Ok(serde_json::to_value(result?)?)
}
