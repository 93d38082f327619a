//! Tests of both exports on scripted servers, and of the dashboard.

#![cfg(unix)]

mod dashboard;
mod facade;
mod otel;
mod page;
mod scenario;
