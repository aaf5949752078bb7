//! The program behind `pct`, `pvesh`, `pveam` and `pvesm`.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::exit;

fn main() {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let name = Path::new(&called)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let words: Vec<String> = words.collect();
    match pve_sandbox::run(&name, &words) {
        Ok(code) => exit(code),
        Err(why) => {
            drop(writeln!(std::io::stderr(), "{why}"));
            exit(255);
        }
    }
}
