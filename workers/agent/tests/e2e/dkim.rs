//! What an account sends is signed with the key that it brought, and a verifier of another house says
//! so; nobody else's mail is.

use crate::target::{Job, Target, eventually};
use cpanel::plan::{Options, Ownership, Resource};
use cpanel::protocol::Preview;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Dkimpy, which answers with the domain that a good signature vouches for. Its DNS is the record of
/// the migrated zone, the arguments: a name and a text.
const VERIFIER: &str = r#"
import dkim, sys
name, text = (a.encode() for a in sys.argv[1:])
message = sys.stdin.buffer.read()
verifier = dkim.DKIM(message)
records = {name.rstrip(b'.'): text}
try:
    good = verifier.verify(dnsfunc=lambda asked, timeout=5: records.get(asked.rstrip(b'.')))
except dkim.ValidationError:
    good = False
print(verifier.domain.decode() if good else 'none')
"#;

/// Logs in as a mail program does and sends: server, login, password, From.
const SUBMIT: &str = r#"
import smtplib, ssl, sys
host, login, password, sender = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
smtp = smtplib.SMTP(host, 587, timeout=20)
smtp.starttls(context=context)
smtp.login(login, password)
text = f'From: {sender}\r\nTo: x@sink.example\r\nSubject: signed?\r\n\r\nA line.\r\n.dot\r\n'
smtp.sendmail(login if '@' in login else sender, 'x@sink.example', text)
smtp.quit()
"#;

#[expect(clippy::disallowed_methods, reason = "tests start mail programs themselves")]
fn python(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut python = Command::new("/usr/bin/python3");
    python.arg("-c").arg(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Another mail server: takes everything, and gives the messages as they came over the wire.
fn sink() -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (taken, messages) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if taken.send(take(BufReader::new(stream.unwrap()))).is_err() {
                return;
            }
        }
    });
    (port, messages)
}

fn take(mut stream: BufReader<TcpStream>) -> Vec<u8> {
    let (mut message, mut data, mut line) = (Vec::new(), false, Vec::new());
    stream.get_mut().write_all(b"220 sink.example\r\n").unwrap();
    while stream.read_until(b'\n', &mut line).unwrap() > 0 {
        let answer: &[u8] = match (data, line.as_slice()) {
            (true, b".\r\n") => {
                data = false;
                b"250 taken\r\n"
            }
            (true, text) => {
                message.extend_from_slice(text.strip_prefix(b".").unwrap_or(text));
                b""
            }
            (false, b"DATA\r\n") => {
                data = true;
                b"354 go on\r\n"
            }
            (false, b"QUIT\r\n") => b"221 bye\r\n",
            (false, _) => b"250 ok\r\n",
        };
        stream.get_mut().write_all(answer).unwrap();
        line.clear();
    }
    message
}

/// Mail for elsewhere goes to the sink. Only the way is another: the transport, which signs, is not.
fn redirect(target: &Target, port: u16) {
    let here = TcpStream::connect((target.host.as_str(), 25)).unwrap().local_addr().unwrap().ip();
    let change = format!(
        "cd /etc/exim4; sed -i '/^elsewhere:/,/no_more/{{s/dnslookup/manualroute/;\
         s/ignore_target_hosts.*/route_data = {here}::{port}/}}' exim4.conf; \
         exim4 -bV >/dev/null && systemctl restart exim4 && grep -c route_data exim4.conf"
    );
    assert_eq!(target.shell(&change, b"").trim(), "1");
    eventually("Exim is back", || TcpStream::connect((target.host.as_str(), 587)).is_ok());
}

/// The key's record in the zone as it will be published.
fn published(preview: &Preview, domain: &str) -> (String, String) {
    let name = format!("default._domainkey.{domain}.");
    let sets = preview.plan.operations.iter().filter_map(|o| match &o.resource {
        Resource::Zone { records, .. } => Some(records),
        _ => None,
    });
    let set = sets.flatten().find(|s| s.name == name && s.rtype == "TXT").unwrap();
    let strings = set.records.first().unwrap().trim_matches('"').replace("\" \"", "");
    (name, strings.replace("\\;", ";"))
}

#[test]
fn mail_is_signed_with_the_imported_key_and_by_nobody_else() {
    let target = Target::enrolled("dkim");
    let previews = ["cpmove-shopco.tar.gz", "cpmove-plain.tar"].map(|archive| {
        let user = if archive.contains("shopco") { "shopco" } else { "plain" };
        let job = Job::new(&target, &target.put_archive(archive), user);
        let preview = job.begin(Options::default(), Ownership::Free);
        job.apply();
        preview
    });
    let (port, messages) = sink();
    redirect(&target, port);
    let next = || {
        let message = messages.recv_timeout(std::time::Duration::from_secs(20));
        message.expect("the message arrives")
    };
    let submit = |login: &str, password: &str, from: &str| {
        python(SUBMIT, &[&target.host, login, password, from], b"");
        next()
    };
    let hand_over = |user: &str, from: &str| {
        let text = format!("From: {from}\nTo: x@sink.example\nSubject: signed?\n\nA line.\n");
        let send = format!("runuser -u {user} -- /usr/sbin/sendmail -i -f {from} x@sink.example");
        target.shell(&send, text.as_bytes());
        next()
    };
    let verified = |message: &[u8], preview: &Preview, domain: &str| {
        let (name, text) = published(preview, domain);
        python(VERIFIER, &[&name, &text], message)
    };

    let [shop, plain] = &previews;
    let by_login = submit("info@shopco.example", "Mail-Pass-1!", "info@shopco.example");
    let by_program = hand_over("shopco", "info@shopco.example");
    for message in [&by_login, &by_program] {
        assert_eq!(verified(message, shop, "shopco.example"), "shopco.example");
    }
    let addon = submit("ann@gadgets.example", "Mail-Pass-3!", "ann@gadgets.example");
    assert_eq!(verified(&addon, shop, "gadgets.example"), "gadgets.example");
    let own = submit("plain@plain.example", "PlainPass9", "plain@plain.example");
    assert_eq!(verified(&own, plain, "plain.example"), "plain.example");

    // The verifier tells a changed text, and another key.
    let text = String::from_utf8(by_login).unwrap();
    let changed = text.replace("A line.", "Another line.");
    assert_eq!(verified(changed.as_bytes(), shop, "shopco.example"), "none");
    let (name, _) = published(shop, "shopco.example");
    let (_, others) = published(plain, "plain.example");
    assert_eq!(python(VERIFIER, &[&name, &others], text.as_bytes()), "none");

    // Another account in the shop's name: by login, by a program, and with two senders.
    let forged = [
        submit("plain@plain.example", "PlainPass9", "info@shopco.example"),
        submit(
            "plain@plain.example",
            "PlainPass9",
            "\"info@shopco.example\" <info@shopco.example>",
        ),
        submit("plain@plain.example", "PlainPass9", "x@plain.example, info@shopco.example"),
        hand_over("plain", "info@shopco.example"),
        hand_over("www-data", "info@shopco.example"),
    ];
    for message in forged {
        let text = String::from_utf8(message).unwrap();
        let signed = text.lines().any(|l| l.contains("d=shopco.example"));
        assert!(text.contains("info@shopco.example") && !signed, "{text}");
    }
}
