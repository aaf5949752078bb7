//! Ordinary clients: HTTP, IMAP, SMTP, SQL and TLS, spoken as plainly as they can be.

use crate::target::Target;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn connect(target: &Target, port: u16) -> TcpStream {
    let stream = TcpStream::connect((target.host.as_str(), port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Status and body of a GET.
pub fn get(target: &Target, host: &str, path: &str) -> (u16, String) {
    let mut stream = connect(target, 80);
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Lines of the answer to each command, after a login; none when the login is refused.
pub fn imap(target: &Target, user: &str, password: &str, commands: &[&str]) -> Option<Vec<String>> {
    let mut stream = BufReader::new(connect(target, 143));
    let mut said = Vec::new();
    let user = user.replace('\\', "\\\\").replace('"', "\\\"");
    let password = password.replace('\\', "\\\\").replace('"', "\\\"");
    let login = format!("LOGIN \"{user}\" \"{password}\"");
    read_until(&mut stream, "* OK");
    for command in [&[login.as_str()], commands].concat() {
        write!(stream.get_mut(), "a {command}\r\n").unwrap();
        let answer = read_until(&mut stream, "a ");
        if answer.lines().last().is_none_or(|l| !l.starts_with("a OK")) && command == login {
            return None;
        }
        said.push(answer);
    }
    said.remove(0);
    Some(said)
}

fn read_until(stream: &mut BufReader<TcpStream>, start: &str) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the server hung up: {all}");
        all.push_str(&line);
        if line.starts_with(start) {
            return all;
        }
    }
}

/// Messages in a folder, or why it does not open.
pub fn messages(target: &Target, user: &str, password: &str, folder: &str) -> Result<u64, String> {
    let examine = format!("EXAMINE {folder}");
    let said = imap(target, user, password, &[&examine]).ok_or("the login is refused")?;
    let exists = said[0].lines().find_map(|l| l.strip_prefix("* ")?.strip_suffix(" EXISTS"));
    exists.and_then(|n| n.parse().ok()).ok_or_else(|| said[0].clone())
}

/// The server's answer to the recipient, and to the message if that was taken.
pub fn send_mail(target: &Target, to: &str) -> u16 {
    let mut stream = BufReader::new(connect(target, 25));
    let mut code = reply(&mut stream);
    let commands =
        ["EHLO client.example", "MAIL FROM:<a@elsewhere.example>", &format!("RCPT TO:<{to}>")];
    for command in commands.into_iter().chain(["DATA", "Subject: hello\r\n\r\nhello\r\n.", "QUIT"])
    {
        write!(stream.get_mut(), "{command}\r\n").unwrap();
        let answer = reply(&mut stream);
        if command == "QUIT" {
            break;
        }
        code = answer;
        if answer >= 400 {
            break;
        }
    }
    code
}

fn reply(stream: &mut BufReader<TcpStream>) -> u16 {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0);
        if line.as_bytes().get(3) != Some(&b'-') {
            return line.split([' ', '-']).next().unwrap().parse().unwrap();
        }
    }
}

/// Rows that a database user sees, with its own password.
pub fn sql(target: &Target, database: &Value, statement: &str) -> String {
    let field = |name: &str| database[name].as_str().unwrap();
    let command = format!(
        "read -r MYSQL_PWD; export MYSQL_PWD; exec mariadb -h 127.0.0.1 -N -u {} {} 2>&1",
        field("user"),
        field("name")
    );
    let input = format!("{}\n{statement};\n", field("password"));
    target.shell(&command, input.as_bytes())
}

/// SHA-256 of the certificate that a TLS port shows for a name.
pub fn certificate(target: &Target, port: u16, name: &str) -> String {
    let command = format!(
        "openssl s_client -connect {}:{port} -servername {name} </dev/null 2>/dev/null \
         | openssl x509 -outform DER | base64 -w0",
        target.host
    );
    let text = target.shell(&command, b"");
    hex::encode(Sha256::digest(decode_base64(text.trim())))
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for c in text.chars().filter(|c| *c != '=') {
        bits = bits << 6 | u32::try_from(digits.find(c).unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    out
}
