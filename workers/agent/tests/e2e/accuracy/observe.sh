# Everything that a restore could change, a line each: key, tab, what is there.
export LC_ALL=C
for f in passwd group gshadow subuid subgid; do sed "s/^\([^:]*\):/$f:\1\t/" /etc/$f; done
sed 's/^\([^:]*\):\([^:]*\):.*/shadow:\1\t\2/' /etc/shadow
roots="/etc /home /root /var/lib/migrapanel /var/backups /var/spool/cron /var/mail /run/php /usr/local"
skipped=(-name '*-' -o -name '.*.lock' -o -name .lines -o -name 'dovecot.*' -o -name 'dovecot-*'
    -o -path '/var/lib/migrapanel/locks/*' -o -path /var/lib/migrapanel/jobs -o -path /var/lib/migrapanel/parked
    -o -path /etc/migrapanel/kept -o -path /home/.migrapanel -o -path '/var/backups/migrations/*'
    -o -path /etc/passwd -o -path /etc/shadow -o -path /etc/group -o -path /etc/gshadow
    -o -path /etc/subuid -o -path /etc/subgid)
find $roots -xdev \( "${skipped[@]}" \) -prune -o -printf 'file:%p\t%y %m %U:%G %l\n'
find $roots -xdev \( "${skipped[@]}" \) -prune -o -type f -print0 | xargs -0 md5sum |
    sed 's/^\([0-9a-f]*\)  \(.*\)/md5:\2\t\1/'
find /var/log/apache2 -name '*example*' -printf 'file:%p\t%y\n'
for f in /etc/migrapanel/mail/passwd /etc/migrapanel/mail/*/{passwd,boxes,aliases}; do
    [ ! -e "$f" ] || awk -v f="$f" -F: '{ print "line:" f ":" $1 "\t" $0 }' "$f"
done
databases="SELECT schema_name FROM information_schema.schemata
    WHERE schema_name NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')"
mariadb -Nre "$databases" | while read -r d; do
    sum=$(mariadb-dump --skip-dump-date --skip-comments --routines --triggers --events --hex-blob --skip-extended-insert "$d" | md5sum)
    printf 'db:%s\t%s\n' "$d" "$sum"
done
mariadb -Nr <<'SQL'
SELECT CONCAT('charset:', schema_name, '\t', default_character_set_name, ' ', default_collation_name)
    FROM information_schema.schemata;
SELECT CONCAT('dbuser:', user, IF(host = 'localhost', '', CONCAT('@', host)), '\t', IFNULL(JSON_VALUE(priv, '$.plugin'), ''), ' ',
    IF(user LIKE '%.definer', '', IFNULL(JSON_VALUE(priv, '$.authentication_string'), '')), ' ',
    IFNULL(JSON_VALUE(priv, '$.account_locked'), '0'), ' ', IFNULL(JSON_VALUE(priv, '$.access'), '0'))
    FROM mysql.global_priv;
SELECT CONCAT('grant:', user, ':', REPLACE(db, '\\', ''), '\t', host, ' ', CONCAT_WS('', select_priv, insert_priv, update_priv,
    delete_priv, create_priv, drop_priv, grant_priv, references_priv, index_priv, alter_priv,
    create_tmp_table_priv, lock_tables_priv, create_view_priv, show_view_priv, create_routine_priv,
    alter_routine_priv, execute_priv, event_priv, trigger_priv, delete_history_priv)) FROM mysql.db;
SQL
for u in alpha beta; do crontab -l -u $u 2>/dev/null | sed "s/^/crontab:$u\t/" | sort | tr '\n' ' '; echo; done
