//! Workers against real Postgres and RabbitMQ.
#![cfg(test)]
