//! The client against nginx, and against servers that send what nginx never would.

#![allow(missing_docs)]

mod it {
    mod connections;
    mod nginx;
    mod requests;
    mod stalls;
    mod support;
    mod tls;
    mod uploads;
}
