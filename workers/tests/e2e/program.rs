//! The one door through which the tests start programs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A program that is not started yet.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the one door of these tests")]
    Command::new(path)
}

/// Runs it to its end with this text on its standard input.
pub fn run_with(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let bytes = input.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    // A program that ends without reading all of its input has its reasons.
    drop(feeding.join().unwrap());
    output
}

/// Runs it to its end; what it printed. One that fails ends the test with its words.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = run_with(command, b"");
    said(command, &output)
}

#[track_caller]
pub fn said(command: &Command, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}):\n{text}\n{errors}", output.status);
    text
}

/// A process of the stack, killed when it is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it; what it says is appended to the log.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let errors = log.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap();
        Self(child)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`, and gone when this returns.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends it a signal by name; nothing waits for what it does.
    pub fn signal(&self, name: &str) {
        run(program("kill").arg(format!("-{name}")).arg(self.0.id().to_string()));
    }

    /// Waits until it has ended by itself; ends the test when it does not in time.
    pub async fn ended(mut self, limit: Duration) {
        let child = &mut self.0;
        wait_for("the end of a process", limit, async || child.try_wait().unwrap().map(drop)).await;
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for something that happens by itself; ends the test when it does not come in time.
pub async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
