//! What a server is like, so that a rollback can be held against it.

use crate::server::Server;
use std::collections::BTreeSet;

/// Files with rights, owners and content; databases and their users; web sites; who listens. Left
/// out: logs, the agent's journals, the descriptions of analyzed archives, which another try needs,
/// and the copies that `useradd` and its kin leave of their files.
const SCRIPT: &str = r#"
cd /
places=(home etc root/.ssh var/mail var/spool/cron var/backups/migrations var/lib/migrapanel/cron)
mkdir -p var/lib/migrapanel/cron
skip=(-name 'passwd-' -o -name 'shadow-' -o -name 'group-' -o -name 'gshadow-' -o -name 'sub[ug]id-' -o -name .pwd.lock)
skip+=(-o -path 'home/.migrapanel/*/account.json' -o -path 'home/.migrapanel/*/analysis.json')
find "${places[@]}" -xdev ! \( "${skip[@]}" -o -regex 'home/\.migrapanel/[0-9a-f-]*' \) -printf 'file %p %y %m %U:%G %l\n'
find "${places[@]}" -xdev -type f ! \( "${skip[@]}" \) -print0 | xargs -0 sha256sum
mariadb -N -e 'SHOW DATABASES; SELECT * FROM mysql.global_priv; SELECT * FROM mysql.db; SELECT * FROM mysql.tables_priv; SELECT * FROM mysql.procs_priv' | sed 's/^/mariadb /'
apache2ctl -S 2>&1 | sed 's/^/apache /'
ss -Hltn | awk '{print "listens " $4}'
find run/php -printf 'socket %p %m %U:%G\n' | grep -v '\.pid'
"#;

#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub fn of(server: &Server) -> Self {
        let lines: BTreeSet<String> = server.sh(SCRIPT).lines().map(str::to_owned).collect();
        for kind in ["file home d ", "file etc/passwd f ", "mariadb mysql", "apache ", "listens "] {
            assert!(lines.iter().any(|line| line.starts_with(kind)), "no {kind}in {lines:#?}");
        }
        Self(lines)
    }

    /// Ends the test when the server differs in more than what two applies may come to differently:
    /// the password of the locked user that dumps are loaded by, times, the job's id in a file's name,
    /// and Dovecot's own notes.
    #[track_caller]
    pub fn assert_like(&self, now: &Self) {
        let counts = |line: &&String| {
            let chosen = line.starts_with("mariadb ") && line.contains(".definer\t{");
            !chosen && !line.contains("/dovecot.") && !line.contains("/dovecot-uid")
        };
        let timeless = |line: &String| match line.split_once("\"password_last_changed\":") {
            Some((before, _)) => before.to_owned(),
            None => match line.split_once("migrapanel/cron/") {
                Some((before, name)) => format!("{before}{:?}", name.split('.').next()),
                None => line.clone(),
            },
        };
        let like = |all: &Self| Self(all.0.iter().filter(counts).map(timeless).collect());
        like(self).assert_same(&like(now));
    }

    /// The same without the files below a directory.
    pub fn without(self, dir: &str) -> Self {
        let below = format!("{dir}/");
        Self(self.0.into_iter().filter(|line| !line.contains(&below)).collect())
    }

    /// Ends the test when the server is not as it was.
    #[track_caller]
    pub fn assert_same(&self, now: &Self) {
        let gone: Vec<_> = self.0.difference(&now.0).collect();
        let new: Vec<_> = now.0.difference(&self.0).collect();
        assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
    }
}
