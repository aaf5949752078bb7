//! Places at which a job can be made to stand: just before a step's row says that it begins, just
//! before one says that it is done, the same for its undo, and just before the job's row says that all
//! of it has ended. A trigger in the test's own database holds the worker's transaction there; the
//! product knows nothing of it.

use crate::program::wait_for;
use crate::stack::Stack;
use std::time::Duration;

const TRIGGERS: &str = r"
CREATE TABLE gate (boundary text PRIMARY KEY, refuses boolean NOT NULL, loses boolean NOT NULL DEFAULT false);
CREATE FUNCTION gate_here(here text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM gate WHERE boundary = here AND refuses) THEN
        RAISE EXCEPTION 'the test lets nobody through %', here;
    END IF;
    IF EXISTS (SELECT FROM gate WHERE boundary = here AND loses) THEN
        -- A sequence is not taken back with its transaction: the second comes through.
        IF nextval('gate_lost_' || translate(here, ':', '_')) = 1 THEN
            RAISE EXCEPTION 'the test cuts the connection at %', here USING ERRCODE = '57P01';
        END IF;
        RETURN;
    END IF;
    WHILE EXISTS (SELECT FROM gate WHERE boundary = here) LOOP
        PERFORM set_config('application_name', 'at ' || here, true);
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
CREATE FUNCTION gate_of_step() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM gate_here(NEW.name || ':' || NEW.state); RETURN NEW; END $$;
CREATE FUNCTION gate_of_log() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM gate_here(NEW.step || ':undoing'); RETURN NEW; END $$;
CREATE TRIGGER gate BEFORE INSERT OR UPDATE ON job_step
    FOR EACH ROW EXECUTE FUNCTION gate_of_step();
CREATE TRIGGER gate BEFORE INSERT ON job_log
    FOR EACH ROW WHEN (NEW.message = 'Taking this step back.') EXECUTE FUNCTION gate_of_log();
CREATE FUNCTION gate_of_job() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM gate_here(NEW.phase || ':ended'); RETURN NEW; END $$;
CREATE TRIGGER gate BEFORE UPDATE ON job
    FOR EACH ROW WHEN (OLD.state IN ('running', 'unwinding') AND NEW.state IN ('done', 'failed'))
    EXECUTE FUNCTION gate_of_job();
";

/// A test's own database.
pub trait Database {
    /// Asks it, past all rules of the product; the rows, a line each.
    fn sql(&self, statement: &str) -> String;
}

impl Database for Stack {
    #[track_caller]
    fn sql(&self, statement: &str) -> String {
        Self::sql(self, statement)
    }
}

/// The first that comes through finds its database gone, and the next does not.
pub fn lose(stack: &impl Database, boundary: &str) {
    let name = boundary.replace(':', "_");
    stack.sql(&format!(
        "DROP SEQUENCE IF EXISTS gate_lost_{name};
         CREATE SEQUENCE gate_lost_{name};
         INSERT INTO gate VALUES ('{boundary}', false, true)"
    ));
}

/// Puts the gates up, all open.
pub fn install(stack: &impl Database) {
    stack.sql(TRIGGERS);
}

/// The first run through a closed gate waits there.
pub fn close(stack: &impl Database, boundaries: &[String]) {
    add(stack, boundaries, false);
}

/// What comes through fails, as if the database had refused it.
pub fn refuse(stack: &impl Database, boundary: &str) {
    add(stack, &[boundary.to_owned()], true);
}

fn add(stack: &impl Database, boundaries: &[String], refuses: bool) {
    let rows: Vec<String> = boundaries.iter().map(|b| format!("('{b}', {refuses})")).collect();
    stack.sql(&format!("INSERT INTO gate VALUES {}", rows.join(", ")));
}

/// Waits until somebody stands there.
pub async fn reached(stack: &impl Database, boundary: &str) {
    let look = format!(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'at {boundary}'"
    );
    wait_for(boundary, Duration::from_secs(120), async || {
        (!stack.sql(&look).trim().is_empty()).then_some(())
    })
    .await;
}

/// Lets whoever stands there go on.
pub fn open(stack: &impl Database, boundary: &str) {
    stack.sql(&format!("DELETE FROM gate WHERE boundary = '{boundary}'"));
}

/// The same for one whose process is dead: nothing of its transaction comes to be.
pub fn open_for_others(stack: &impl Database, boundary: &str) {
    stack.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'at {boundary}'"
    ));
    open(stack, boundary);
}
