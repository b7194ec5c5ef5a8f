//! A child process that waits for the kernel in the place of its parent: for the answer to a datagram
//! that comes long after what it asks for is done, or for the end of a socket.
//!
//! The child makes nothing but system calls, on memory that its parent had prepared: no allocation,
//! no lock, no destructor. It holds nothing that somebody waits for: the standard streams, which a
//! runtime reads until their end, and all else that it inherited are closed before it sends. It
//! ends when the kernel lets it, whatever becomes of its parent, which does not wait for it: that is
//! for processes that are about to end themselves.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, fork, getppid};

/// A process that was started to send a datagram.
#[derive(Debug)]
pub(crate) struct Child {
    /// Ends when the child does; before that, it tells what failed.
    report: PipeReader,
}

impl Child {
    /// Has this datagram sent on a socket that is shared with the child: the answer can be read
    /// from it here.
    ///
    /// # Errors
    /// There is no child: the process may have no other, or nobody would wait for its end.
    pub(crate) fn send(socket: BorrowedFd<'_>, datagram: &[u8]) -> io::Result<Child> {
        refuse_to_be_collected()?;
        let (report, word) = io::pipe()?;
        // SAFETY: the child calls `send_and_end` alone, which makes system calls only and does not
        // return. It would be sound in a process with threads, too.
        #[allow(unsafe_code)]
        match unsafe { fork() }? {
            ForkResult::Child => send_and_end(socket.as_raw_fd(), datagram, word.as_raw_fd()),
            ForkResult::Parent { .. } => Ok(Child { report }),
        }
    }

    /// Why the datagram was not sent; none if it was, or if the child was killed. Waits for its end.
    pub(crate) fn failure(&mut self) -> Option<Errno> {
        let mut errno = [0; size_of::<i32>()];
        let told = self.report.read_exact(&mut errno);
        told.ok().map(|()| Errno::from_raw(i32::from_ne_bytes(errno)))
    }
}

/// Leaves the end of a socket to a child, which waits until this process has closed its own first.
/// Where there can be no child, this process waits itself.
pub(crate) fn close_later(socket: impl AsFd) {
    // What is dropped last, here and below, is what the child waits for.
    let left = leave(socket.as_fd());
    drop(socket);
    drop(left);
}

fn leave(socket: BorrowedFd<'_>) -> io::Result<PipeWriter> {
    refuse_to_be_collected()?;
    let (parent_is_done, own) = io::pipe()?;
    // SAFETY: as in `Child::send`.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Child => {
            wait_and_end(socket.as_raw_fd(), parent_is_done.as_raw_fd(), own.as_raw_fd())
        }
        ForkResult::Parent { .. } => Ok(own),
    }
}

/// Orphans go to process 1, which waits for them if it is an init. One that calls plugins itself is a
/// runtime that is alone in a container, and would collect dead children.
fn refuse_to_be_collected() -> io::Result<()> {
    if getppid().as_raw() == 1 { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// The child's life.
#[allow(unsafe_code)]
fn send_and_end(socket: RawFd, datagram: &[u8], word: RawFd) -> ! {
    let mut part = libc::iovec { iov_base: datagram.as_ptr() as *mut _, iov_len: datagram.len() };
    // SAFETY: system calls on this process's own file descriptors, with pointers to a datagram that
    // is not changed and to values of this function. Of a message header, all zero is a value.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        // Standard input and output become what is needed. The rest goes; the standard error for
        // itself, since a filter of system calls may not know the younger call.
        libc::dup2(socket, 0);
        libc::dup2(word, 1);
        libc::close(2);
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        // Nothing else of ours is sent by this call: by its name, tests make it fail.
        if libc::sendmsg(0, &raw const message, 0) < 0 {
            let errno = Errno::last_raw().to_ne_bytes();
            libc::write(1, errno.as_ptr().cast(), errno.len());
        }
        libc::_exit(0)
    }
}

/// The life of a child that closes a socket. `own` is its copy of what the parent closes last.
#[allow(unsafe_code)]
fn wait_and_end(socket: RawFd, parent_is_done: RawFd, own: RawFd) -> ! {
    // SAFETY: system calls on this process's own file descriptors, with a pointer to a value of this
    // function.
    unsafe {
        // With its own copy open it would wait for itself; the younger call may not be known.
        libc::close(own);
        libc::dup2(socket, 0);
        libc::dup2(parent_is_done, 1);
        libc::close(2);
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        let mut byte = 0u8;
        while libc::read(1, (&raw mut byte).cast(), 1) < 0 && Errno::last_raw() == libc::EINTR {}
        // The grace period that the end of the socket needs is waited for before, without the lock
        // that other users of the packet filter need.
        libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0);
        libc::_exit(0)
    }
}
