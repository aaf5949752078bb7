//! SSH: one pinned, authenticated connection a server, and commands as a program of a closed list
//! with an array of arguments. SSH's exec request is one string that a login shell reads, so quoting
//! exists here, once.

use crate::error::{Result, unreachable_server};
use entities::error::{Code, Error};
use entities::values::AbsPath;
use russh::client::{self, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use secrecy::{ExposeSecret, SecretString};
use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(15);
/// How often a silent connection is asked for a sign of life. Without three in a row it is given up:
/// a network that has gone without a word is noticed within half a minute.
const KEEPALIVE: Duration = Duration::from_secs(7);

/// What terminals of today understand, whichever the user's is.
const TERMINAL: &str = "xterm-256color";
/// What a terminal's connection keeps for its reader, in bytes and in messages.
const TERMINAL_WINDOW: u32 = 128 << 10;
const TERMINAL_MESSAGES: usize = 8;

/// The programs that may be started on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The agent; once enrolled, the key can start nothing else.
    Agent,
    /// coreutils' `install`, with which the agent first comes to a server, and small files to a node.
    Install,
    /// coreutils' `rm`, for those files.
    Remove,
    /// Proxmox VE: containers of a node.
    Pct,
    /// Proxmox VE: its API from the shell.
    Pvesh,
    /// Proxmox VE: archives that containers are installed from.
    Pveam,
    /// Proxmox VE: storages.
    Pvesm,
}

impl Program {
    fn path(self) -> &'static str {
        match self {
            Self::Agent => "/usr/local/lib/migrapanel/migrapanel-agent",
            Self::Install => "/usr/bin/install",
            Self::Remove => "/usr/bin/rm",
            Self::Pct => "/usr/sbin/pct",
            Self::Pvesh => "/usr/bin/pvesh",
            Self::Pveam => "/usr/bin/pveam",
            Self::Pvesm => "/usr/sbin/pvesm",
        }
    }
}

/// A command: a program and its arguments, which are literals of this code or checked values. It
/// cannot be made from a `String`:
///
/// ```compile_fail
/// use workers::ssh::{Program, RemoteCommand};
/// let input = String::from("serve; reboot");
/// RemoteCommand::new(Program::Agent).value(&input);
/// ```
///
/// ```compile_fail
/// use workers::ssh::{Program, RemoteCommand};
/// let input = String::from("serve; reboot");
/// RemoteCommand::new(Program::Agent).literal(&input);
/// ```
#[derive(Debug, Clone)]
pub struct RemoteCommand {
    program: Program,
    arguments: Vec<String>,
}

/// A value that was checked where it entered and may stand as an argument.
pub trait Argument {
    /// The argument's text. It never begins with a hyphen.
    fn text(&self) -> Cow<'_, str>;
}

impl Argument for AbsPath {
    fn text(&self) -> Cow<'_, str> {
        self.as_str().into()
    }
}

impl RemoteCommand {
    /// A command without arguments.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self { program, arguments: Vec::new() }
    }

    /// With an argument that stands in this code.
    #[must_use]
    pub fn literal(mut self, argument: &'static str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// With a checked value.
    #[must_use]
    pub fn value(mut self, argument: &impl Argument) -> Self {
        self.arguments.push(argument.text().into_owned());
        self
    }

    /// With an option of this code and its checked value.
    #[must_use]
    pub fn option(self, name: &'static str, value: &impl Argument) -> Self {
        self.literal(name).value(value)
    }

    /// The program and its arguments, for logs and for tests against others' parsers.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let program = self.program.path().rsplit('/').next().unwrap_or_default().to_owned();
        std::iter::once(program).chain(self.arguments.iter().cloned()).collect()
    }

    /// The one string that sshd's shell reads.
    fn rendered(&self) -> String {
        let mut text = quoted(self.program.path());
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(&quoted(argument));
        }
        text
    }
}

/// In single quotes, where a shell takes every byte as it is (POSIX 2.2.2).
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Where to connect to and whom to expect.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The server's name, for messages.
    pub name: String,
    pub host: String,
    pub port: u16,
    /// `SHA256:…`; any other key is refused.
    pub fingerprint: String,
}

/// A connection as root. Cheap to share; many channels at once.
pub struct Session {
    handle: Handle<HostKeyPin>,
    name: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Refuses every host key but the pinned one, before anything is sent.
struct HostKeyPin {
    expected: String,
    seen: Arc<Mutex<Option<String>>>,
}

impl client::Handler for HostKeyPin {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> std::result::Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let shown = key.fingerprint(HashAlg::Sha256).to_string();
        let right = shown == self.expected;
        if !right && let Ok(mut seen) = self.seen.lock() {
            *seen = Some(shown);
        }
        Ok(right)
    }
}

impl Session {
    /// Connects, compares the host key with the pinned one, and logs in. Errors: `host_key_changed`,
    /// `server_unreachable`.
    pub async fn connect(endpoint: &Endpoint, key: &SecretString) -> Result<Self> {
        Self::connect_with(endpoint, key, client::Config::default()).await
    }

    /// The same for one terminal: little is kept for a reader that is slow. Such a reader holds up its
    /// whole connection, so that nothing else goes over it.
    pub async fn connect_for_terminal(endpoint: &Endpoint, key: &SecretString) -> Result<Self> {
        let small = client::Config {
            window_size: TERMINAL_WINDOW,
            channel_buffer_size: TERMINAL_MESSAGES,
            ..client::Config::default()
        };
        Self::connect_with(endpoint, key, small).await
    }

    async fn connect_with(
        endpoint: &Endpoint,
        key: &SecretString,
        config: client::Config,
    ) -> Result<Self> {
        let seen = Arc::new(Mutex::new(None));
        let pin = HostKeyPin { expected: endpoint.fingerprint.clone(), seen: Arc::clone(&seen) };
        let config = Arc::new(client::Config {
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: 3,
            nodelay: true,
            ..config
        });
        let address = (endpoint.host.clone(), endpoint.port);
        let connected = tokio::time::timeout(CONNECT, client::connect(config, address, pin)).await;
        let mut handle = match connected {
            Ok(Ok(handle)) => handle,
            failed => {
                if let Ok(Some(shown)) = seen.lock().map(|seen| seen.clone()) {
                    return Err(host_key_changed(endpoint, &shown));
                }
                let cause = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("no answer within {} seconds", CONNECT.as_secs()),
                };
                return Err(unreachable_server(&endpoint.name, &cause));
            }
        };
        let key = PrivateKey::from_openssh(key.expose_secret()).map_err(Error::internal)?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let login = handle.authenticate_publickey("root", key);
        match tokio::time::timeout(CONNECT, login).await {
            Ok(Ok(result)) if result.success() => Ok(Self { handle, name: endpoint.name.clone() }),
            Ok(Ok(_)) => Err(unreachable_server(&endpoint.name, &"it refused the worker's key")),
            Ok(Err(error)) => Err(unreachable_server(&endpoint.name, &error)),
            Err(elapsed) => Err(unreachable_server(&endpoint.name, &elapsed)),
        }
    }

    /// The server's name, for logs and traces.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Starts a command on a channel of its own.
    pub async fn start(&self, command: &RemoteCommand) -> Result<Channel<client::Msg>> {
        let rendered = command.rendered();
        tracing::debug!(server = %self.name, command = %rendered, "ssh.start");
        let starting = async {
            let channel = self.handle.channel_open_session().await?;
            channel.exec(true, rendered).await?;
            Ok(channel)
        };
        self.answered(starting).await
    }

    async fn answered<T>(
        &self,
        asking: impl Future<Output = Result<T, russh::Error>>,
    ) -> Result<T> {
        match tokio::time::timeout(CONNECT, asking).await {
            Ok(answered) => answered.map_err(|error| unreachable_server(&self.name, &error)),
            Err(elapsed) => Err(unreachable_server(&self.name, &elapsed)),
        }
    }

    /// Starts a command on a terminal of its own, which hangs up when the channel is closed.
    pub async fn start_on_terminal(
        &self,
        command: &RemoteCommand,
        (cols, rows): (u32, u32),
    ) -> Result<Channel<client::Msg>> {
        let rendered = command.rendered();
        tracing::debug!(server = %self.name, command = %rendered, "ssh.start_on_terminal");
        let starting = async {
            let channel = self.handle.channel_open_session().await?;
            channel.request_pty(false, TERMINAL, cols, rows, 0, 0, &[]).await?;
            channel.exec(false, rendered).await?;
            Ok(channel)
        };
        self.answered(starting).await
    }

    /// Ends the connection, so that whatever was started on it hangs up.
    pub async fn disconnect(self) {
        let farewell = self.handle.disconnect(russh::Disconnect::ByApplication, "", "en");
        match tokio::time::timeout(CONNECT, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(server = %self.name, %error, "ssh.was_gone"),
            Err(_elapsed) => tracing::debug!(server = %self.name, "ssh.does_not_end"),
        }
    }

    /// Runs a command to its end with `input` on its standard input. Errors: `server_unreachable` when
    /// it was not started, `node_unknown` when it is not known what became of it.
    pub async fn run(&self, command: &RemoteCommand, input: &[u8], limit: Duration) -> Result<Ran> {
        let mut channel = self.start(command).await?;
        let began = std::time::Instant::now();
        let talk = async {
            channel.data(input).await?;
            channel.eof().await?;
            let (mut status, mut out, mut err) = (None, Vec::new(), Vec::new());
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Data { data } => keep(&mut out, &data),
                    ChannelMsg::ExtendedData { data, .. } => keep(&mut err, &data),
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    _ => {}
                }
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok::<_, russh::Error>((status, text(&out), text(&err)))
        };
        let unknown = |cause: &dyn std::fmt::Display| self.unknown(command, cause);
        let (status, out, err) = match tokio::time::timeout(limit, talk).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return Err(unknown(&error)),
            Err(_elapsed) => {
                return Err(unknown(&format!("no answer within {} s", limit.as_secs())));
            }
        };
        tracing::info!(
            server = %self.name,
            command = %command.rendered(),
            status = ?status,
            duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "ssh.ran"
        );
        let status =
            status.ok_or_else(|| unknown(&"the connection ended without an exit status"))?;
        Ok(Ran { status, out, err })
    }

    /// It was started, and nobody knows what became of it.
    pub(crate) fn unknown(&self, command: &RemoteCommand, cause: &dyn std::fmt::Display) -> Error {
        tracing::warn!(server = %self.name, command = %command.rendered(), cause = %cause, "ssh.unknown");
        let name: Vec<String> = command.words().into_iter().take(2).collect();
        let text = format!(
            "It is not known what became of {} on {} ({cause}): it is looked at before anything else is done.",
            name.join(" "),
            self.name
        );
        Error::refused(Code::NodeUnknown, text)
    }
}

/// What a command said until its end.
#[derive(Debug, Clone)]
pub struct Ran {
    pub status: u32,
    /// At most [`OUTPUT_MAX`] bytes of each.
    pub out: String,
    pub err: String,
}

/// How much of a command's output is kept.
const OUTPUT_MAX: usize = 4 << 20;

fn keep(kept: &mut Vec<u8>, data: &[u8]) {
    let room = OUTPUT_MAX.saturating_sub(kept.len());
    kept.extend(data.iter().take(room));
}

fn host_key_changed(endpoint: &Endpoint, shown: &str) -> Error {
    Error::refused(
        Code::HostKeyChanged,
        format!(
            "The server {} shows the host key {shown}, but {} is pinned. If you know why, give the server the new fingerprint; otherwise somebody may be in between.",
            endpoint.name, endpoint.fingerprint
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_and_quoted_once() {
        let command = RemoteCommand::new(Program::Install)
            .literal("-D")
            .value(&AbsPath::parse("/tmp/it's $(here); `x` \"y\" *").unwrap());
        assert_eq!(
            command.rendered(),
            r#"'/usr/bin/install' '-D' '/tmp/it'\''s $(here); `x` "y" *'"#
        );
    }

    #[test]
    fn quoting_survives_sh_and_bash() {
        let mut text: String = (1u8..128).map(char::from).collect();
        text.push_str("-rf ~ é \u{1F600} ''' \\ \\' $HOME $(id) `id` ! # & | ; < > * ? [a] {b,c}");
        for shell in ["sh", "bash"] {
            #[expect(clippy::disallowed_methods, reason = "a shell is what is tested against")]
            let output = std::process::Command::new(shell)
                .arg("-c")
                .arg(format!("printf %s {}", quoted(&text)))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text, "{shell}");
        }
    }
}
