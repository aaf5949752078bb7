//! The processes that work on containers: a relay, and a provisioner that is killed.

use super::bed::Bed;
use crate::bed::sandbox;
use crate::gates::{self, Database};
use crate::processes::{process, show_logs};
use crate::program::{Process, program, run, run_with, wait_for};
use entities::cloudpods::{self, Act, Desired, Status};
use entities::ids::CloudpodId;
use entities::tables::cloudpod;
use entities::values::Title;
use secrecy::ExposeSecret;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than a node needs for what it is asked here.
const LIMIT: Duration = Duration::from_secs(120);

pub struct Crew {
    vhost: String,
    urls: [String; 2],
    dir: TempDir,
    relay: Option<Process>,
    provisioner: Option<Process>,
}

impl Crew {
    /// Both run, for a bed of this name.
    pub fn start(bed: &Bed, name: &str) -> Self {
        let vhost = format!("e2e-pods-{name}");
        let amqp = run(program(sandbox("services")).args(["vhost", &vhost])).trim().to_owned();
        let mut crew = Self {
            vhost,
            urls: [bed.db.url.expose_secret().to_owned(), amqp],
            dir: tempfile::Builder::new().prefix("migrapanel-e2e-").tempdir().unwrap(),
            relay: None,
            provisioner: None,
        };
        let log = crew.dir.path().join("relay.log");
        crew.relay = Some(Process::start(&mut crew.process("relay"), &log));
        crew.hire();
        crew
    }

    fn process(&self, name: &str) -> Command {
        let mut command = process(name, &self.urls[0], &self.urls[1]);
        command
            .env("MIGRAPANEL__LEASE_SECS", "5")
            .env("MIGRAPANEL__NODE_LIMIT_SECS", "20")
            .env("MIGRAPANEL__READY_SECS", "30")
            .env("MIGRAPANEL__ACME_DIRECTORY", "https://127.0.0.1:1/dir");
        command
    }

    fn hire(&mut self) {
        let log = self.log();
        self.provisioner = Some(Process::start(&mut self.process("provisioner"), &log));
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("provisioner.log")
    }

    /// `kill -9` of the provisioner, and another one.
    pub fn replace(&mut self) {
        self.provisioner.take().unwrap().kill();
        self.hire();
    }

    /// Follows the jobs from boundary to boundary, and kills the provisioner at each.
    pub async fn die_at(&mut self, bed: &Bed, boundaries: &[String]) {
        for boundary in boundaries {
            gates::reached(bed, boundary).await;
            self.replace();
            gates::open_for_others(bed, boundary);
            // The lease need not be waited for: the tests of commands that are cut off do that.
            bed.sql(
                "UPDATE job SET lease_until = now() - interval '1 second' WHERE state IN ('running', 'unwinding');
                 INSERT INTO outbox (id, tenant_id, kind, payload)
                 SELECT gen_random_uuid(), tenant_id, 'pod_job_ready',
                    jsonb_build_object('kind', 'pod_job_ready', 'job', id)
                 FROM job WHERE state IN ('running', 'unwinding')",
            );
        }
    }

    pub async fn idle(&self, bed: &Bed) {
        let open = "SELECT count(*) FROM job WHERE state IN ('queued', 'running', 'unwinding')";
        wait_for("the end of all jobs", LIMIT, async || (bed.sql_text(open) == "0").then_some(()))
            .await;
    }

    /// Begins to do something with a pod.
    pub async fn ask(&self, bed: &Bed, id: CloudpodId, what: Act) {
        cloudpods::act(bed.db(), &bed.ctx, id, what).await.unwrap();
    }

    /// Makes pods, at once.
    pub async fn make<const N: usize>(&self, bed: &Bed, names: [&str; N]) -> [cloudpod::Model; N] {
        let mut ids = Vec::new();
        for name in names {
            ids.push(bed.ask_for(name).await);
        }
        self.idle(bed).await;
        let mut made = Vec::new();
        for id in ids {
            let pod = bed.pod(id).await;
            assert_eq!(pod.status, Status::Active, "{pod:?}");
            made.push(pod);
        }
        made.try_into().unwrap()
    }

    pub async fn delete(&self, bed: &Bed, id: CloudpodId) {
        let why = Title::parse("A test wants it").unwrap();
        let wish = (id, Desired::Deleted);
        cloudpods::request(bed.db(), &bed.ctx, wish, Some(&why)).await.unwrap();
        self.idle(bed).await;
        let pod = bed.pod(id).await;
        assert_eq!(pod.status, Status::Deleted, "{pod:?}");
    }

    /// Ends a test that passed.
    pub async fn end(mut self, bed: Bed) {
        self.stop();
        bed.end().await;
    }

    fn stop(&mut self) {
        drop((self.provisioner.take(), self.relay.take()));
        run_with(program(sandbox("services")).args(["vhost-delete", &self.vhost]), b"");
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.stop();
            show_logs(self.dir.path(), &["provisioner"]);
        }
    }
}
