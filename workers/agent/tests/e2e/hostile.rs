//! An archive whose members try to get out of the home: what is harmless comes in, the rest stays out.

use crate::clients::get;
use crate::target::{BACKUPS, Job, Target, fixture};
use cpanel::plan::{Options, Ownership};
use std::io::Read;
use tar::{EntryType, Header};

/// The plain account with further members in its home.
fn archive(more: &[(&str, EntryType, &str, &[u8], u32)]) -> Vec<u8> {
    let plain = std::fs::File::open(fixture("cpmove-plain.tar")).unwrap();
    let mut out = tar::Builder::new(Vec::new());
    let mut old = tar::Archive::new(plain);
    for entry in old.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        out.append(&entry.header().clone(), body.as_slice()).unwrap();
    }
    for (path, kind, link, body, mode) in more {
        let mut header = Header::new_gnu();
        header.set_path(format!("cpmove-plain/homedir/{path}")).unwrap();
        header.set_entry_type(*kind);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_mode(*mode);
        header.set_size(u64::try_from(body.len()).unwrap());
        header.set_cksum();
        out.append(&header, *body).unwrap();
    }
    out.into_inner().unwrap()
}

#[test]
fn what_leads_out_of_the_home_stays_out() {
    let target = Target::enrolled("hostile");
    let (file, link, hard) = (EntryType::Regular, EntryType::Symlink, EntryType::Link);
    let htaccess = b"AddHandler application/x-httpd-ea-php81 .php\nphp_value memory_limit 77M\n\
                     php_value auto_prepend_file /etc/passwd\nAuthUserFile /home/plain/.htpasswds/x\n";
    let bytes = archive(&[
        ("public_html/out", link, "/etc/passwd", b"", 0o777),
        ("up", link, "public_html/../../../etc", b"", 0o777),
        ("inside", link, "public_html/index.html", b"", 0o777),
        ("absolute", link, "/home/plain/public_html", b"", 0o777),
        ("suid", file, "", b"x", 0o6777),
        ("closed", file, "", b"x", 0),
        ("shadow", hard, "/etc/shadow", b"", 0o600),
        ("twin", hard, "cpmove-plain/homedir/suid", b"", 0o600),
        ("device", EntryType::Char, "", b"", 0o666),
        ("pipe", EntryType::Fifo, "", b"", 0o666),
        (".ssh/authorized_keys", file, "", b"ssh-ed25519 AAAA evil", 0o600),
        ("public_html/memory.php", file, "", b"<?php echo ini_get('memory_limit');", 0o644),
        ("public_html/.htaccess", file, "", htaccess, 0o644),
    ]);
    target.shell(&format!("cat > {BACKUPS}/cpmove-plain.tar"), &bytes);
    let before = target.snapshot();
    let job = Job::new(&target, &format!("{BACKUPS}/cpmove-plain.tar"), "plain");
    job.begin(Options::default(), Ownership::Free);
    let reports = job.apply();
    let files = reports.iter().flat_map(|r| &r.items).find(|i| i.id == "files:home").unwrap();
    for part in ["3 links that led out", "2 special files", "1 .htaccess", "1 PHP settings moved"] {
        assert!(files.detail.contains(part), "{}", files.detail);
    }
    let seen = target.shell(
        "cd /home/plain; for f in public_html/out up inside absolute suid closed shadow twin device \
         pipe .ssh/authorized_keys; do find $f -maxdepth 0 -printf '%p %y %m %u %n %l\\n' 2>/dev/null; \
         done",
        b"",
    );
    let expected = [
        "inside l 777 plain 1 public_html/index.html",
        "absolute l 777 plain 1 /home/plain/public_html",
        "suid f 770 plain 2 ",
        "closed f 0 plain 1 ",
        "twin f 770 plain 2 ",
    ];
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
    assert_eq!(get(&target, "plain.example", "/memory.php"), (200, "77M".to_owned()));
    job.undo(false);
    assert_eq!(before, target.snapshot());
}
