//! Runs the real programs and the recorded suites against them.
