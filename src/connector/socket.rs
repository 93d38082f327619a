//! What TCP and Unix sockets share: the check whether an idle socket is reusable.
//!
//! A reusable socket has nothing to read. An end of file, an error and unexpected bytes each make it unfit: its next
//! user would read a late answer to another user's request.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use socket2::SockRef;

/// The default of `check_idle_after`.
pub(super) const CHECK_IDLE_AFTER: Duration = Duration::from_millis(500);

/// Whether an idle socket is reusable. `read` is the result of a non-blocking read; with `peek`, one system call looks
/// for data as well.
pub(super) fn is_reusable(read: io::Result<usize>, socket: SockRef<'_>, peek: bool) -> bool {
    has_nothing(read) && (!peek || has_nothing(socket.peek(&mut [MaybeUninit::uninit()])))
}

fn has_nothing(read: io::Result<usize>) -> bool {
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_read_is_good_and_all_else_is_not() {
        assert!(has_nothing(Err(io::ErrorKind::WouldBlock.into())));
        assert!(!has_nothing(Err(io::ErrorKind::ConnectionReset.into())));
        assert!(!has_nothing(Ok(0)), "end of file");
        assert!(!has_nothing(Ok(1)), "bytes that nobody asked for");
    }
}
