//! Places at which a job can be made to stand: just before a step's row says that it begins, just
//! before one says that it is done, and the same for its undo. A trigger in the test's own database
//! holds the worker's transaction there; the product knows nothing of it.

use crate::program::wait_for;
use crate::stack::Stack;
use std::time::Duration;

const TRIGGERS: &str = r"
CREATE TABLE gate (boundary text PRIMARY KEY, refuses boolean NOT NULL);
CREATE FUNCTION gate_here(here text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM gate WHERE boundary = here AND refuses) THEN
        RAISE EXCEPTION 'the test lets nobody through %', here;
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
";

/// Puts the gates up, all open.
pub fn install(stack: &Stack) {
    stack.sql(TRIGGERS);
}

/// The first run through a closed gate waits there.
pub fn close(stack: &Stack, boundaries: &[String]) {
    add(stack, boundaries, false);
}

/// What comes through fails, as if the database had refused it.
pub fn refuse(stack: &Stack, boundary: &str) {
    add(stack, &[boundary.to_owned()], true);
}

fn add(stack: &Stack, boundaries: &[String], refuses: bool) {
    let rows: Vec<String> = boundaries.iter().map(|b| format!("('{b}', {refuses})")).collect();
    stack.sql(&format!("INSERT INTO gate VALUES {}", rows.join(", ")));
}

/// Waits until somebody stands there.
pub async fn reached(stack: &Stack, boundary: &str) {
    let look = format!(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'at {boundary}'"
    );
    wait_for(boundary, Duration::from_secs(120), async || {
        (!stack.sql(&look).trim().is_empty()).then_some(())
    })
    .await;
}

/// Lets whoever stands there go on.
pub fn open(stack: &Stack, boundary: &str) {
    stack.sql(&format!("DELETE FROM gate WHERE boundary = '{boundary}'"));
}

/// The same for one whose process is dead: nothing of its transaction comes to be.
pub fn open_for_others(stack: &Stack, boundary: &str) {
    stack.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'at {boundary}'"
    ));
    open(stack, boundary);
}
