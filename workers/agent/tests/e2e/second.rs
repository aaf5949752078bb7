//! A second restore into an account: merged or in place of what stands, and taken back.

use crate::road::everything_works;
use crate::target::{Job, Target, expectations};
use cpanel::plan::{Mode, Options, Ownership, Resolution};
use cpanel::protocol::Outcome;
use std::collections::BTreeMap;

#[test]
fn a_second_restore_merges_or_replaces_and_is_taken_back() {
    let target = Target::enrolled("second");
    let archive = target.put_archive("cpmove-shopco.tar.gz");
    let first = Job::new(&target, &archive, "shopco");
    first.begin(Options::default(), Ownership::Free);
    first.apply();
    target.shell(
        "cd /home/shopco; echo mine > public_html/index.php; rm public_html/pretty.php; \
         echo new > public_html/new.txt; rm mail/shopco.example/info/cur/*; \
         mariadb shopco_wp -e 'delete from posts'",
        b"",
    );
    let look = || {
        target.shell(
            "cd /home/shopco; find public_html mail -path '*dovecot*' -prune -o -printf '%p %m %u\\n' \
             | sort; cat public_html/index.php; mariadb -e 'show databases; show grants for shopco_wp@localhost; \
             select * from shopco_wp.posts; select * from shopco_gad.latest; select user from mysql.user'; \
             cat /etc/migrapanel/mail/*/passwd | sort; ls -R /etc/migrapanel/sites /home/.migrapanel/kept",
            b"",
        )
    };
    let changed = look();

    let rename = Resolution::Rename("shopco_wp_2".to_owned());
    let resolutions = BTreeMap::from([
        ("database:shopco_wp".to_owned(), rename),
        ("database:shopco_gad".to_owned(), Resolution::Skip),
    ]);
    let merge = Job::new(&target, &archive, "shopco");
    merge.begin(Options { resolutions, ..Options::default() }, Ownership::Own);
    let reports = merge.apply();
    assert!(reports.iter().flat_map(|r| &r.items).all(|i| i.outcome != Outcome::Failed));
    let merged = target.shell(
        "cd /home/shopco; cat public_html/index.php; ls public_html/pretty.php; \
         ls mail/shopco.example/info/cur | wc -l; mariadb -N -e 'select count(*) from shopco_wp_2.posts'",
        b"",
    );
    assert_eq!(merged, "mine\npublic_html/pretty.php\n1\n4\n");
    merge.undo(true);
    assert_eq!(changed, look());

    let over = Job::new(&target, &archive, "shopco");
    over.begin(Options { mode: Mode::Overwrite, ..Options::default() }, Ownership::Own);
    over.apply();
    everything_works(&target, &expectations("cpmove-shopco.tar.gz"));
    over.undo(true);
    assert_eq!(changed, look());
}
