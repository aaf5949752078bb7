//! Accounts on one server cannot reach each other, whatever their files say.

use crate::clients::get;
use crate::target::{Job, Target};
use cpanel::plan::{Options, Ownership};

#[test]
fn accounts_cannot_reach_each_other() {
    let target = Target::enrolled("isolation");
    for (archive, user) in [("cpmove-plain.tar", "plain"), ("cpmove-shopco.tar.gz", "shopco")] {
        let path = target.put_archive(archive);
        let job = Job::new(&target, &path, user);
        job.begin(Options::default(), Ownership::Free);
        job.apply();
    }
    let hostile = r#"cd /home/plain/public_html
cat >> .htaccess <<'END'
RewriteRule ^evil$ /home/plain/public_html/who.php [H=proxy:unix:/run/php/shopco-8.2.sock|fcgi://localhost,L]
php_value memory_limit 12M
NoSuchDirective on
AddHandler application/x-httpd-ea-php81 .php
END
cat > who.php <<'END'
<?php echo 'uid ', trim(shell_exec('id -un'));
echo @file_get_contents('/home/shopco/public_html/config.php'), @file_get_contents('/etc/passwd');
END
ln -s /home/shopco/public_html/config.php leak.txt; ln -s /etc/passwd passwd.txt
chown -h plain: who.php leak.txt passwd.txt"#;
    target.shell(hostile, b"");
    // The socket of another's PHP does not open, foreign directives and old handlers do no harm.
    assert_eq!(get(&target, "plain.example", "/evil").0, 503);
    assert_eq!(get(&target, "plain.example", "/who.php"), (200, "uid plain".to_owned()));
    assert_eq!(get(&target, "plain.example", "/leak.txt").0, 403);
    assert_eq!(get(&target, "plain.example", "/passwd.txt").0, 403);
    assert_eq!(get(&target, "plain.example", "/.htaccess").0, 403);
    let seen = target.shell(
        "su -s /bin/sh plain -c 'for f in /home/shopco/public_html/index.php /home/shopco/mail \
         /etc/migrapanel/mail/shopco.example/passwd /etc/migrapanel/tls/shopco.example/pair.pem \
         /var/lib/migrapanel /var/backups/migrations /home/.migrapanel /etc/migrapanel/server.key; \
         do test -r $f && echo $f; done; mariadb -u root -e \"select 1\"; \
         mariadb -u shopco_wp.definer -e \"select 1\"' 2>/dev/null",
        b"",
    );
    assert_eq!(seen, "");
    let modes =
        target.shell("find /home/plain /home/shopco -mindepth 1 ! -type l -perm /o+rwx", b"");
    let open: Vec<&str> = modes.lines().filter(|l| !l.contains("/mail/")).collect();
    // Made above, by root's own umask.
    assert_eq!(open, ["/home/plain/public_html/who.php"]);
}
