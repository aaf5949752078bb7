//! Real DNS servers of a test's own, which it can kill and start again.

use entities::config;
use entities::ids::RowId;
use secrecy::{ExposeSecret, SecretString};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const KEY: &str = "key of a test";

/// Where a PowerDNS keeps its zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A server process with a directory of its own.
pub struct Server {
    pub dns: u16,
    pub api: u16,
    data: tempfile::TempDir,
    command: Vec<String>,
    process: Option<Child>,
}

/// The tests' one door to programs.
#[expect(
    clippy::disallowed_methods,
    reason = "tests start servers and ask them with others' tools"
)]
pub fn program(name: &str) -> Command {
    Command::new(name)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Server {
    /// A PowerDNS that is the first server.
    pub async fn powerdns(backend: Backend) -> Self {
        Self::powerdns_with(backend, "primary=yes\n").await
    }

    /// One that transfers its zones from elsewhere.
    pub async fn secondary() -> Self {
        Self::powerdns_with(Backend::Sqlite, "secondary=yes\nprimary=no\nxfr-cycle-interval=1\n")
            .await
    }

    async fn powerdns_with(backend: Backend, more: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().display();
        let (dns, api) = (free_port(), free_port());
        let backend = match backend {
            Backend::Sqlite => {
                let schema = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";
                let file = data.path().join("zones.sqlite3");
                run(program("sqlite3").arg(&file).arg(format!(".read {schema}")));
                format!(
                    "launch=gsqlite3\ngsqlite3-database={path}/zones.sqlite3\ngsqlite3-dnssec=yes\n"
                )
            }
            Backend::Postgres => postgres(),
        };
        let text = format!(
            "{backend}{more}local-address=127.0.0.1\nlocal-port={dns}\napi=yes\napi-key={KEY}\n\
             webserver=yes\nwebserver-address=127.0.0.1\nwebserver-port={api}\n\
             webserver-allow-from=127.0.0.1\nsocket-dir={path}\nsecurity-poll-suffix=\n\
             disable-syslog=yes\nwrite-pid=no\nonly-notify=\nexpand-alias=yes\nresolver=127.0.0.1:{dns}\n"
        );
        std::fs::write(data.path().join("pdns.conf"), text).unwrap();
        let command = ["/usr/sbin/pdns_server", "--daemon=no", "--guardian=no"].map(str::to_owned);
        let mut command = command.to_vec();
        command.push(format!("--config-dir={path}"));
        let mut server = Self { dns, api, data, command, process: None };
        server.start().await;
        server
    }

    /// An NSD that transfers this zone, as somebody else's server would.
    pub async fn nsd(zone: &str, from: u16) -> Self {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().display();
        let dns = free_port();
        let text = format!(
            "server:\n  ip-address: 127.0.0.1@{dns}\n  username: \"\"\n  zonesdir: \"{path}\"\n  \
             pidfile: \"\"\n  xfrdfile: \"{path}/xfrd.state\"\n  database: \"\"\n  \
             zonelistfile: \"{path}/zones.list\"\n  xfrdir: \"{path}\"\n  cookie-secret-file: \"{path}/cookie\"\n  \
             server-count: 1\n\
             remote-control:\n  control-enable: no\n\
             zone:\n  name: \"{zone}\"\n  request-xfr: AXFR 127.0.0.1@{from} NOKEY\n  \
             allow-notify: 127.0.0.1 NOKEY\n  max-refresh-time: 1\n  max-retry-time: 1\n"
        );
        let file = data.path().join("nsd.conf");
        std::fs::write(&file, text).unwrap();
        let command = ["/usr/sbin/nsd", "-d", "-c", &file.display().to_string()].map(str::to_owned);
        let command = command.to_vec();
        let mut server = Self { dns, api: 0, data, command, process: None };
        server.start().await;
        server
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.dns))
    }

    pub fn config(&self, name: &str) -> config::DnsServer {
        let api = (self.api != 0).then(|| {
            (format!("http://127.0.0.1:{}", self.api), SecretString::from(KEY.to_owned()))
        });
        config::DnsServer { name: name.to_owned(), address: self.address(), api }
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self) {
        let log = std::fs::File::create(self.data.path().join("log")).unwrap();
        let child = program(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        let begun = Instant::now();
        while !self.answers().await {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn answers(&self) -> bool {
        let api =
            self.api == 0 || tokio::net::TcpStream::connect(("127.0.0.1", self.api)).await.is_ok();
        api && tokio::net::TcpStream::connect(self.address()).await.is_ok()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default()
    }

    /// Takes its power away.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// What `dig` says, over UDP unless it is told otherwise.
    pub fn dig(&self, arguments: &[&str]) -> String {
        let output = program("dig")
            .args(["@127.0.0.1", "-p", &self.dns.to_string(), "+norec", "+tries=2", "+time=5"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The answers of `dig` as lines of a zone file.
    pub fn answers_of(&self, name: &str, rtype: &str) -> String {
        self.dig(&["+noall", "+answer", name, rtype])
    }

    /// Asks the server's own API.
    pub async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        body: serde_json::Value,
    ) -> serde_json::Value {
        let url = format!("http://127.0.0.1:{}/api/v1/servers/localhost{path}", self.api);
        let request = reqwest::Client::new().request(method, url).header("X-API-Key", KEY);
        let response = request.json(&body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A database of PowerDNS' own on the tests' Postgres.
fn postgres() -> String {
    let url = config::secret("TEST_DATABASE_URL").unwrap();
    let url = url.expose_secret();
    let name = format!("pdns_{}", RowId::new().0.simple());
    let psql = |database: &str, arguments: &[&str]| {
        let (before, _) = url.rsplit_once('/').unwrap();
        run(program("psql").args(["-q", "-X", &format!("{before}/{database}")]).args(arguments));
    };
    let own = url.rsplit_once('/').unwrap().1;
    psql(own, &["-c", &format!("CREATE DATABASE {name}")]);
    psql(&name, &["-f", "/usr/share/pdns-backend-pgsql/schema/schema.pgsql.sql"]);
    let rest = url.split_once("://").unwrap().1;
    let (login, place) = rest.rsplit_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let (host, port) = place.split_once('/').unwrap().0.split_once(':').unwrap();
    format!(
        "launch=gpgsql\ngpgsql-host={host}\ngpgsql-port={port}\ngpgsql-dbname={name}\n\
         gpgsql-user={user}\ngpgsql-password={password}\ngpgsql-dnssec=yes\n"
    )
}
