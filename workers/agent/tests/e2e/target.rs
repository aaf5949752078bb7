//! A server of a test's own, and calls to the agent on it.

use cpanel::plan::{ControlFacts, Options, Ownership, StepName};
use cpanel::protocol::{
    Analysis, Call, Event, Hello, JobRef, Preview, Request, Source, StepReport,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const AGENT: &str = "/usr/local/lib/migrapanel/migrapanel-agent";
/// Outside of all that is compared.
const STRACE: &str = "/usr/local/lib/strace";
pub const BACKUPS: &str = "/var/backups/migrations";
pub const STEPS: [StepName; 8] = [
    StepName::CreateUser,
    StepName::CreateDirectories,
    StepName::RestoreHome,
    StepName::Databases,
    StepName::Mail,
    StepName::Dns,
    StepName::Certificates,
    StepName::PostValidation,
];

#[expect(clippy::disallowed_methods, reason = "tests start the sandbox and ssh themselves")]
fn program(name: &str) -> Command {
    Command::new(name)
}

/// Cargo runs tests in their package's directory. A path fixed at compile time could name another
/// checkout, since checkouts share compiled crates.
fn checkout() -> PathBuf {
    Path::new("../..").canonicalize().unwrap()
}

/// Where an archive of the tests lies in the checkout.
pub fn fixture(name: &str) -> PathBuf {
    Path::new("../cpanel/tests/fixtures").join(name).canonicalize().unwrap()
}

/// What must be seen after an archive's restore.
pub fn expectations(name: &str) -> Value {
    let path = fixture(&format!("{name}.expect.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A running server, which is thrown away with this value.
pub struct Target {
    name: String,
    pub host: String,
    dir: PathBuf,
    /// Every line that the agent said.
    pub said: Rc<RefCell<String>>,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.admin("-O exit").status().unwrap();
        sandbox(&["stop", &self.name]);
    }
}

fn sandbox(arguments: &[&str]) {
    let script = checkout().join("deploy/sandbox/target");
    let status = program(script.to_str().unwrap()).args(arguments).status().unwrap();
    assert!(status.success(), "target {arguments:?}");
}

impl Target {
    /// Boots a server with the agent on it, not enrolled.
    pub fn bare(name: &str) -> Self {
        let name = format!("e2e-agent-{name}");
        sandbox(&["stop", &name]);
        sandbox(&["start", &name]);
        let dir = checkout().join(".local/targets").join(&name);
        let env = std::fs::read_to_string(dir.join("env")).unwrap();
        let host = env.lines().find_map(|l| l.strip_prefix("TARGET_HOST=")).unwrap();
        let host = host.trim_matches('\'').to_owned();
        let target = Self { name, host, dir, said: Rc::default() };
        // One connection for all that follows.
        assert!(target.admin("-M -N -f").status().unwrap().success());
        let binary = std::fs::read(env!("CARGO_BIN_EXE_migrapanel-agent")).unwrap();
        let put = format!("mkdir -p $(dirname {AGENT}) && cat > {AGENT} && chmod 755 {AGENT}");
        target.shell(&put, &binary);
        target
    }

    /// Boots a server and enrols it.
    pub fn enrolled(name: &str) -> Self {
        let target = Self::bare(name);
        target.ask::<Value>(None, target.enrolment());
        target
    }

    /// Enrolment with a key of the test's own.
    pub fn enrolment(&self) -> Call {
        let key = self.dir.join("worker_key");
        if !key.exists() {
            let mut make = program("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-C", "worker", "-f"]).arg(&key);
            assert!(make.status().unwrap().success());
        }
        Call::Enroll(cpanel::protocol::Enroll {
            public_key: std::fs::read_to_string(key.with_extension("pub")).unwrap(),
            backup_dirs: vec![BACKUPS.parse().unwrap()],
            hostname: "web1.panel.example".to_owned(),
        })
    }

    /// The administrator's ssh with further words; silent.
    fn admin(&self, words: &str) -> Command {
        let socket = std::env::temp_dir().join(format!("{}-%C", self.name));
        let mut ssh = program("sh");
        let line =
            ". \"$0\"; eval \"exec $TARGET_ADMIN_SSH -S \\\"\\$1\\\" $2 \\\"\\${3-true}\\\"\"";
        ssh.arg("-c").arg(line).arg(self.dir.join("env")).arg(socket).arg(words);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        ssh
    }

    fn ssh(&self, command: &str) -> Command {
        let mut ssh = self.admin("");
        ssh.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        ssh
    }

    /// A connection with the worker's key; whatever is asked for, the agent answers.
    pub fn as_worker(&self, command: &str) -> String {
        let mut ssh = program("ssh");
        ssh.arg("-i").arg(self.dir.join("worker_key"));
        let hosts = format!("UserKnownHostsFile={}", self.dir.join("known_hosts").display());
        ssh.args(["-o", &hosts, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
        ssh.arg(format!("root@{}", self.host)).arg(command).stdin(Stdio::null());
        String::from_utf8(ssh.output().unwrap().stdout).unwrap()
    }

    /// Runs a command on the server as its administrator; gives its output, whatever its status.
    pub fn shell(&self, command: &str, input: &[u8]) -> String {
        let mut child = self.ssh(command).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a command writes.
    pub fn bytes(&self, command: &str) -> Vec<u8> {
        let output = self.ssh(command).output().unwrap();
        assert!(output.status.success(), "{command}");
        output.stdout
    }

    /// Copies an archive of the tests onto the server.
    pub fn put_archive(&self, name: &str) -> String {
        let path = format!("{BACKUPS}/{name}");
        let bytes = std::fs::read(fixture(name)).unwrap();
        self.shell(&format!("umask 077; cat > {path}"), &bytes);
        path
    }

    /// Copies strace with what it needs onto the server.
    pub fn put_strace(&self) {
        let mut needs = program("ldd");
        let listed = String::from_utf8(needs.arg("/usr/bin/strace").output().unwrap().stdout);
        let files = listed.unwrap();
        let files = files.split_whitespace().filter(|word| word.starts_with('/'));
        self.shell(&format!("mkdir -p {STRACE}"), b"");
        for file in files.chain(["/usr/bin/strace"]) {
            let name = Path::new(file).file_name().unwrap().to_str().unwrap();
            let put = format!("cat > {STRACE}/{name}; chmod 755 {STRACE}/{name}");
            self.shell(&put, &std::fs::read(file).unwrap());
        }
    }

    /// Opens a conversation with an agent that dies just before its `nth` change to the disk, or
    /// while it waits for a program. Programs that it has started live on.
    pub fn converse_dying(&self, job: Option<JobRef>, call: Call, nth: u64) -> Conversation {
        let calls = "fsync,fdatasync,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,symlinkat,\
                     linkat,fchown,fchownat,fallocate,ftruncate,syncfs,clock_nanosleep"
            .replace(char::is_whitespace, "");
        let strace =
            format!("{STRACE}/ld-linux-x86-64.so.2 --library-path {STRACE} {STRACE}/strace");
        let options = format!("-f -b execve -qqq -o /dev/null -e trace={calls}");
        let kill = format!("-e inject={calls}:signal=KILL:when={nth}");
        self.converse_with(&format!("{strace} {options} {kill} {AGENT}"), job, call)
    }

    /// Opens a conversation with the agent.
    pub fn converse(&self, job: Option<JobRef>, call: Call) -> Conversation {
        self.converse_with(AGENT, job, call)
    }

    fn converse_with(&self, agent: &str, job: Option<JobRef>, call: Call) -> Conversation {
        let command = format!("exec {agent} serve");
        let mut child = self.ssh(&command).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let _: Hello = serde_json::from_str(&line).unwrap();
        let mut input = child.stdin.take().unwrap();
        let request = Request { job, traceparent: None, call };
        let mut text = serde_json::to_vec(&request).unwrap();
        text.push(b'\n');
        input.write_all(&text).unwrap();
        Conversation { child, input, out, said: Rc::clone(&self.said) }
    }

    /// The last event of a call; none when the agent died.
    pub fn event(&self, job: Option<JobRef>, call: Call) -> Option<Event> {
        self.converse(job, call).end()
    }

    /// The result of a call that must end well.
    pub fn ask<T: DeserializeOwned>(&self, job: Option<JobRef>, call: Call) -> T {
        match self.event(job, call) {
            Some(Event::Done { result }) => serde_json::from_value(result).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The code of a call that must fail.
    pub fn refusal(&self, job: Option<JobRef>, call: Call) -> String {
        match self.event(job, call) {
            Some(Event::Failed { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    /// Files, users and databases as they are, without logs and what belongs to finished jobs.
    pub fn snapshot(&self) -> String {
        let pruned = ["/var/lib/migrapanel/jobs", "/var/lib/migrapanel/parked"]
            .map(|p| format!("-path {p} -o "))
            .concat();
        let seen = self.shell(
            &format!(
                "export LC_ALL=C; find /etc /home /root /var/lib/migrapanel /var/backups /run/php \
                 -xdev \\( {pruned} -name '*-' -o -name '.*.lock' -o -name .lines \\
                 -o -path '/var/lib/migrapanel/locks/*' \\) -prune -o -printf '%p %y %m %U:%G %l\\n' \
                 -type f -exec md5sum {{}} \\; | sort; getent passwd; getent group; \
                 ls /var/log/apache2 | grep example; \
                 mariadb -e 'show databases; select user, host from mysql.user; \
                 select host, db, user from mysql.db'"
            ),
            b"",
        );
        assert!(seen.lines().count() > 1000, "{seen}");
        seen
    }
}

/// A call that is being answered.
pub struct Conversation {
    child: Child,
    input: ChildStdin,
    out: BufReader<ChildStdout>,
    said: Rc<RefCell<String>>,
}

impl Conversation {
    /// Reads to the end.
    pub fn end(mut self) -> Option<Event> {
        let mut last = None;
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            self.said.borrow_mut().push_str(&line);
            let event = serde_json::from_str(&line).unwrap();
            if matches!(event, Event::Done { .. } | Event::Failed { .. }) {
                last = Some(event);
            }
            line.clear();
        }
        drop(self.input);
        self.child.wait().unwrap();
        last
    }

    /// Hangs up, as a worker that dies does.
    pub fn hang_up(mut self) -> Option<Event> {
        drop(self.input);
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap();
        rest.lines().last().and_then(|l| serde_json::from_str(l).ok())
    }
}

/// A job as the worker runs it.
pub struct Job<'t> {
    pub target: &'t Target,
    pub id: JobRef,
    source: Source,
}

impl<'t> Job<'t> {
    pub fn new(target: &'t Target, archive: &str, user: &str) -> Self {
        let source = Source {
            path: archive.parse().unwrap(),
            target_user: user.parse().unwrap(),
            backup_dirs: vec![BACKUPS.parse().unwrap()],
        };
        Self { target, id: JobRef { id: Uuid::now_v7(), fence: 1 }, source }
    }

    /// The archive, and the user that it becomes.
    pub fn source(&self) -> Source {
        self.source.clone()
    }

    /// Asks the agent for this job.
    pub fn ask<T: DeserializeOwned>(&self, call: Call) -> T {
        self.target.ask(Some(self.id), call)
    }

    /// From inspection to the beginning of apply.
    pub fn begin(&self, options: Options, account: Ownership) -> Preview {
        let _: Value = self.target.ask(None, Call::Inspect(self.source()));
        let analysis: Analysis = self.ask(Call::Analyze(self.source()));
        let names = analysis.summary.domains.iter().map(|d| d.name.clone());
        let control = ControlFacts {
            ipv4: self.target.host.parse().unwrap(),
            ipv6: None,
            nameservers: vec!["ns1.panel.example".parse().unwrap()],
            ownership: names.map(|n| (n, account)).collect::<BTreeMap<_, _>>(),
            account,
            activate_domains: true,
            answer_zones: false,
            proven: BTreeSet::new(),
        };
        let preview: Preview =
            self.ask(Call::Preview { control: control.clone(), options: options.clone() });
        assert_eq!(preview.plan.conflicts, []);
        self.ask(Call::Begin { control, options, digest: preview.digest.clone() })
    }

    /// All steps.
    pub fn apply(&self) -> Vec<StepReport> {
        STEPS.iter().map(|step| self.ask(Call::Apply { step: *step })).collect()
    }

    /// All steps back.
    pub fn undo(&self, park: bool) {
        for step in STEPS.iter().rev() {
            let _: StepReport = self.ask(Call::Undo { step: *step, park });
        }
        let _: Value = self.ask(Call::Cleanup);
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
