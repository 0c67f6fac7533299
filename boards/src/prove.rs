//! Runs the tests.
