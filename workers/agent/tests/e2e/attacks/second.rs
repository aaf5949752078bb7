//! The enemy's account once more: merged while its own processes race, and rolled back over what it
//! planted meanwhile.

use super::enemy::PASSWORD;
use super::scene::{Failures, Restored};
use super::table::Row;
use crate::clients::{messages, send_mail};
use crate::target::{Job, eventually};
use cpanel::plan::{Component, Options, Ownership};
use std::collections::BTreeSet;

fn row(number: u16, name: &'static str) -> Row {
    Row { number, name, attacks: &[] }
}

/// Rows 29, 61, 69, 75 and 120.
pub fn merged_again(restored: &Restored<'_, '_>, failures: &mut Failures) {
    let target = restored.stage.target;
    let look = "cd /etc/migrapanel; cat mail/enemy.example/* | sort; cat dkim/* | md5sum; find /etc /home/shopco -xdev -type f ! -path '*/dovecot*' ! -name '.*lock' ! -name '*-' -exec md5sum {} + | sort -k2 | md5sum";
    let before = restored.seen(look);
    assert_eq!(send_mail(target, "ann@enemy.example"), 250);
    let count = || messages(target, "ann@enemy.example", PASSWORD, "INBOX").unwrap();
    let mut arrived = 0;
    eventually("mail arrives", || {
        let now = count();
        let same = now == arrived && now > 1;
        arrived = now;
        same
    });
    restored.seen("echo mine > /home/enemy/public_html/index.html; mkdir -p /home/enemy/flood134x; rm -rf /home/enemy/many29; mkdir /home/enemy/many29; mount -t tmpfs none /home/enemy/many29 && chown enemy: /home/enemy/many29");
    // A directory of the account is a link to another place every other moment.
    let race = "cd /home/enemy; while :; do mv alike10 x10; ln -s /etc alike10; rm alike10; ln -s /home/shopco/public_html alike10; rm alike10; mv x10 alike10; done";
    let pid = target.shell(
        &format!("setsid su -s /bin/sh enemy -c '{race}' >/dev/null 2>&1 </dev/null & echo $!"),
        b"",
    );
    let path = restored.stage.planted("again.tar", |a| {
        a.file("alike10/new120", "x");
        a.file("many29/x", "x");
        a.file("after75", "x");
    });
    let job = Job::new(target, &path, "enemy");
    // Databases that stand would each need a decision.
    let components =
        [Component::Files, Component::Email].map(|c| (c, BTreeSet::new())).into_iter().collect();
    job.begin(Options { components, ..Options::default() }, Ownership::Own);
    let events: Vec<_> = crate::target::STEPS
        .iter()
        .map(|step| target.event(Some(job.id), cpanel::protocol::Call::Apply { step: *step }))
        .collect();
    target.shell(&format!("pkill -u enemy; kill {} 2>/dev/null", pid.trim()), b"");
    failures.guard(&row(29, "a mounted directory"), || {
        assert_eq!(
            restored.seen("findmnt -n -o FSTYPE /home/enemy/many29; ls /home/enemy/many29"),
            "tmpfs"
        );
    });
    restored
        .seen("umount /home/enemy/many29; rmdir /home/enemy/many29; rmdir /home/enemy/flood134x");
    failures.guard(&row(120, "a race"), || {
        assert_eq!(restored.seen("ls /etc/new120 /home/shopco/public_html/new120 2>/dev/null"), "");
    });
    failures.guard(&row(61, "newer content"), || {
        assert_eq!(restored.seen("cat /home/enemy/public_html/index.html"), "mine");
    });
    failures.guard(&row(69, "mail meanwhile"), || assert_eq!(count(), arrived));
    failures.guard(&row(75, "a second time"), || {
        assert_eq!(restored.seen(look), before, "{events:?}");
    });
    restored.seen("cd /home/enemy; [ -d x10 ] && { rm -f alike10; mv x10 alike10; }; true");
    job.undo(false);
}

/// Rows 31, 32 and 76: what the account planted does not lead the rollback away.
pub fn rolled_back(restored: &Restored<'_, '_>, failures: &mut Failures) {
    restored.seen(
        "mkdir -p /root/kept31/sub; echo kept > /root/kept31/sub/file; chmod 755 /root/kept31",
    );
    restored.tried(
        "mv public_html old_html; ln -s /root/kept31 public_html; mv mail old_mail; ln -s /root/kept31 mail; \
         ln -s /etc/shadow shadow32; rm -rf odd11; ln -s /root/kept31 odd11",
    );
    restored.job.undo(true);
    failures.guard(&row(31, "a link in the way"), || {
        assert_eq!(
            restored.seen("cat /root/kept31/sub/file; ls -d /home/enemy 2>/dev/null"),
            "kept"
        );
    });
    failures.guard(&row(32, "a link that is parked"), || {
        let parked = format!("cd /var/lib/migrapanel/parked/{}", restored.job.id.id);
        let seen = restored.seen(&format!("{parked}; stat -c %a .; for f in *.tar; do tar tvf $f; done | grep -o 'shadow32 -> /etc/shadow'; cat * | grep -ac '^root:'"));
        assert_eq!(seen, "700 shadow32 -> /etc/shadow 0");
    });
    restored.seen("rm -r /root/kept31; rm -f /tmp/watched154");
}
