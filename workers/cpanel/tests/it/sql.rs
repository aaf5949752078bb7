//! The dump filter: definitions are rewritten, data never.

use cpanel::sql::{DumpFilter, Seen, collation};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use values::DatabaseUser;

fn filter_in(dump: &[u8], chunk: usize) -> std::io::Result<(Vec<u8>, Seen)> {
    let user = DatabaseUser::parse("shop_u").unwrap();
    let mut filter = DumpFilter::new(Vec::new(), &user);
    for part in dump.chunks(chunk.max(1)) {
        filter.write_all(part)?;
    }
    filter.finish()
}

fn filter(dump: &str) -> (String, Seen) {
    let (out, seen) = filter_in(dump.as_bytes(), 7).unwrap();
    (String::from_utf8(out).unwrap(), seen)
}

#[test]
fn definitions_are_rewritten_and_data_is_not() {
    let (out, seen) = filter(
        "/*!999999\\- enable the sandbox mode */ \n-- MySQL dump\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `a`;\nUSE `a`;\n\
         CREATE TABLE `t` (`c` varchar(9) COLLATE utf8mb4_0900_ai_ci DEFAULT 'utf8mb4_0900_ai_ci' COMMENT 'DEFINER=`x`@`y`') COLLATE=utf8mb4_0900_bin;\n\
         INSERT INTO `t` VALUES ('utf8mb4_0900_ai_ci; DEFINER=`root`@`localhost`'),('O\\'B; \\\\'),('it''s -- no'),(0xAB);\n\
         -- Dump completed on 2026-01-02  3:04:05\n",
    );
    assert!(out.starts_with("/*!999999\\- enable the sandbox mode */ \n-- MySQL dump\n"), "{out}");
    assert!(!out.contains("DATABASE") && !out.contains("USE `a`"), "{out}");
    assert!(out.contains("varchar(9) COLLATE utf8mb4_unicode_ci DEFAULT 'utf8mb4_0900_ai_ci' COMMENT 'DEFINER=`x`@`y`') COLLATE=utf8mb4_bin;"), "{out}");
    assert!(out.contains("VALUES ('utf8mb4_0900_ai_ci; DEFINER=`root`@`localhost`'),('O\\'B; \\\\'),('it''s -- no'),(0xAB);"), "{out}");
    let foreign = BTreeMap::new();
    assert_eq!(seen, Seen { rows: true, tables: true, completed: true, left_out: 2, foreign });
}

/// What real dumps hold: of mysqldump, mariadb-dump, phpMyAdmin, HeidiSQL and Adminer.
#[test]
fn statements_of_dumps_are_kept() {
    for statement in [
        "/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */",
        "/*!40101 SET NAMES utf8mb4 */",
        "/*!40101 SET SQL_MODE=IFNULL(@OLD_LOCAL_SQL_MODE, '') */",
        "/*M!100616 SET @OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY, NOTE_VERBOSITY=0 */",
        "SET time_zone = '+00:00'",
        "SET AUTOCOMMIT = 0",
        "START TRANSACTION",
        "BEGIN",
        "COMMIT",
        "LOCK TABLES `t` WRITE",
        "UNLOCK TABLES",
        "/*!40000 ALTER TABLE `t` DISABLE KEYS */",
        "DROP TABLE IF EXISTS `t`",
        "/*!50001 DROP VIEW IF EXISTS `v`*/",
        "/*!50003 DROP PROCEDURE IF EXISTS `p` */",
        "/*!50106 DROP EVENT IF EXISTS `e` */",
        "CREATE TABLE `user` (`max_time` int)",
        "CREATE UNIQUE INDEX i ON t (a)",
        "CREATE OR REPLACE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW v AS SELECT 1",
        "CREATE SEQUENCE `s` start with 1 minvalue 1 maxvalue 9 increment by 1 cache 9 nocycle",
        "SELECT SETVAL(`s`, 17, 0)",
        "DO SETVAL(`s`, 17, 0)",
        "TRUNCATE TABLE t",
        "ANALYZE TABLE t",
        "INSERT INTO t VALUES (1)",
        "REPLACE INTO t VALUES ('; DO SLEEP(9)')",
    ] {
        let dump = format!("{statement};\n");
        let (out, seen) = filter(&dump);
        assert_eq!((out, seen.left_out, seen.foreign), (dump, 0, BTreeMap::new()));
    }
}

/// Nothing else is carried out: above all nothing that computes for ever, or lifts the limit on that.
#[test]
fn statements_that_no_dump_has_are_left_out_and_counted() {
    for (statement, word) in [
        ("DO SLEEP(100000)", "DO"),
        ("/*!50001 DO SLEEP(100000) */", "DO"),
        ("SELECT BENCHMARK(1000000000, MD5('a'))", "SELECT"),
        ("SELECT SETVAL(`s`, SLEEP(9), 0)", "SELECT"),
        ("(SELECT SLEEP(9))", "others"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH"),
        ("CALL p()", "CALL"),
        ("EXECUTE s", "EXECUTE"),
        ("PREPARE s FROM 'DO SLEEP(9)'", "PREPARE"),
        ("HANDLER t OPEN", "HANDLER"),
        ("LOAD DATA INFILE '/etc/passwd' INTO TABLE t", "LOAD"),
        ("GRANT ALL ON *.* TO a@b", "GRANT"),
        ("CREATE USER a@b", "CREATE"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'x')", "CREATE"),
        ("BEGIN NOT ATOMIC DO SLEEP(9)", "BEGIN"),
        ("ANALYZE SELECT SLEEP(9)", "ANALYZE"),
        ("SET @a = SLEEP(9)", "SET"),
        ("SET @a = IFNULL(SLEEP(9), 1)", "SET"),
        ("SET STATEMENT max_statement_time=0 FOR SELECT 1", "SET"),
        ("SET max_statement_time=0", "SET"),
        ("SET @@session.`Max_Statement_Time`=0", "SET"),
        ("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET max_statement_time=0", "CREATE"),
        ("DELETE FROM t", "DELETE"),
        ("CREATE DEFINER=TRIGGER t (a int)", "CREATE"),
        ("CREATE DEFINER=a@TABLE t (a int)", "CREATE"),
    ] {
        let (out, seen) = filter(&format!("{statement};\nCREATE TABLE t (a int);\n"));
        assert_eq!(out.trim(), "CREATE TABLE t (a int);", "{statement}");
        assert_eq!(seen.foreign, BTreeMap::from([(word.to_owned(), 1)]), "{statement}");
    }
}

/// The client sends in one go what stands between two delimiters.
#[test]
fn no_statement_hides_behind_another_one() {
    let (out, seen) =
        filter("DELIMITER ;;\nINSERT INTO t VALUES (1); DO SLEEP(9);;\nDELIMITER ;\n");
    assert_eq!(out, "DELIMITER ;;\nINSERT INTO t VALUES (1) ;;\n\nDELIMITER ;\n");
    assert_eq!(seen.foreign["DO"], 1);
    let (out, seen) = filter("DELIMITER ;;\nSET @a=1; DO SLEEP(9);;\nDELIMITER ;\n");
    assert!(!out.contains("SLEEP") && seen.foreign["SET"] == 1, "{out}");
    assert!(filter_in(b"INSERT INTO t VALUES (1) /*!50000 ; DO SLEEP(9) */;\n", 7).is_err());
}

/// Both readers of a statement agree on what a comment is: MariaDB's client takes control characters
/// behind `--` for white space.
#[test]
fn comments_begin_where_the_client_begins_them() {
    let dump = "CREATE VIEW v AS SELECT 1 --\u{1} DEFINER=`a\nFROM t WHERE b = `x`;\n";
    assert_eq!(filter(dump).0, dump);
}

#[test]
fn definers_inside_executable_comments() {
    let (out, _) = filter(
        "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */;\n\
         DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER = root@'%'*/ /*!50003 TRIGGER `g` BEFORE INSERT ON `t` FOR EACH ROW BEGIN SET NEW.a='x;;'; SET NEW.b=1; END */;;\nDELIMITER ;\n\
         CREATE DEFINER=CURRENT_USER() PROCEDURE p() SELECT 1;\n",
    );
    assert!(out.contains("/*!50013 DEFINER=`shop_u`@`localhost` SQL SECURITY DEFINER */"), "{out}");
    assert!(out.contains("/*!50017 DEFINER=`shop_u`@`localhost`*/"), "{out}");
    assert!(out.contains("CREATE DEFINER=`shop_u`@`localhost` PROCEDURE p()"), "{out}");
    assert!(
        out.contains("DELIMITER ;;\n") && out.contains("SET NEW.b=1; END */;;\nDELIMITER ;\n"),
        "{out}"
    );
}

#[test]
fn settings_of_the_server_are_left_out() {
    let (out, seen) = filter(
        "SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;\nSET @@SESSION.SQL_LOG_BIN= 0;\nSET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '';\n\
         SET GLOBAL max_allowed_packet=1;\nCHANGE MASTER TO MASTER_HOST='x';\n/*!40101 SET NAMES utf8mb4 */;\nALTER DATABASE `a` COLLATE utf8mb4_0900_ai_ci;\n",
    );
    assert_eq!(out.trim(), "/*!40101 SET NAMES utf8mb4 */;");
    assert_eq!(seen.left_out, 6);
}

#[test]
fn commands_of_the_client_and_broken_ends_are_refused() {
    for dump in [
        "\\! id\n",
        "SELECT 1; \\! id\n",
        "system id;\n",
        "source /etc/passwd\n",
        "/*!50001 \\! id */;",
        "INSERT INTO t VALUES (1) \\! id\n",
        "DELIMITER '\n",
        "INSERT INTO t VALUES ('cut off",
        "/* open",
    ] {
        assert!(filter_in(dump.as_bytes(), 5).is_err(), "{dump}");
    }
}

#[test]
fn completion_means_nothing_behind_it() {
    assert!(!filter("INSERT INTO t VALUES ('\n-- Dump completed');\n").1.completed);
    assert!(!filter("-- Dump completed\nINSERT INTO t VALUES (1);\n").1.completed);
    assert!(filter("INSERT INTO t VALUES (1);\n-- Dump completed").1.completed);
}

#[test]
fn collations() {
    assert_eq!(collation("utf8mb4_de_pb_0900_as_cs"), Some("utf8mb4_unicode_ci"));
    assert_eq!(collation("UTF8MB4_0900_BIN"), Some("utf8mb4_bin"));
    assert_eq!(collation("utf8mb4_unicode_520_ci"), None);
}

proptest! {
    #[test]
    fn chunks_do_not_matter(dump in "([A-Z]{1,6}|'|`|\"|;|--|/\\*!|\\*/|/\\*|#|\\\\|\n| |=|@|DEFINER|INSERT|DELIMITER ;;\n){0,40}", chunk in 1_usize..40) {
        let whole = filter_in(dump.as_bytes(), usize::MAX).ok();
        prop_assert_eq!(whole, filter_in(dump.as_bytes(), chunk).ok());
    }

    #[test]
    fn data_is_never_touched(data in proptest::collection::vec(any::<u8>(), 0..200), chunk in 1_usize..50) {
        let mut dump = b"INSERT INTO `t` VALUES ('".to_vec();
        for byte in data {
            match byte {
                b'\'' | b'\\' => dump.extend([b'\\', byte]),
                _ => dump.push(byte),
            }
        }
        dump.extend(b"');\n");
        prop_assert_eq!(filter_in(&dump, chunk).unwrap().0, dump);
    }
}
