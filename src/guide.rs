//! Guides: all calls in one table, how to choose the limits, what a dropped future leaves behind, how to write a
//! connector, what corresponds to what in other pools, and how it works inside.
//!
//! | guide | for |
//! |---|---|
//! | [`calls`] | looking up a call |
//! | [`limits`] | setting up a pool: how many connections, what rate, which timeouts |
//! | `PoolConfig`, with the features `serde` and `clap` | settings from a file and from flags |
//! | [`operators`](crate::operators) | running it: what it does when servers fail |
//! | [`cancel_safety`] | using it: timeouts, `select!`, aborted tasks |
//! | [`writing_a_connector`] | another protocol |
//! | [`coming_from`] | users of goconnpool, bb8, deadpool, r2d2 and sqlx |
//! | [`inside`] | readers of the code |

pub mod calls {
    #![doc = include_str!("guide/calls.md")]
}

pub mod limits {
    #![doc = include_str!("guide/limits.md")]
}

pub mod cancel_safety {
    #![doc = include_str!("guide/cancel_safety.md")]
}

pub mod writing_a_connector {
    #![doc = include_str!("guide/writing_a_connector.md")]
}

pub mod coming_from {
    #![doc = include_str!("guide/coming_from.md")]
}

pub mod inside {
    #![doc = include_str!("../docs/architecture.md")]
    // A blank line: HTML may not follow a paragraph at once.
    #![doc = ""]
    #![doc = include_str!("../docs/walk.svg")]
}
