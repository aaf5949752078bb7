//! The dump filter: definitions are rewritten, data never.

use cpanel::sql::{DumpFilter, Seen, collation};
use proptest::prelude::*;
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
    assert_eq!(seen, Seen { rows: true, tables: true, completed: true, left_out: 2 });
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
