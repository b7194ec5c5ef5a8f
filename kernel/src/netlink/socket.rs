//! A socket that sends requests and collects their answers.
//!
//! The kernel handles a netlink request inside `sendmsg(2)`: when that returns, the answers lie in
//! the receive queue (a dump's next part is made when the part before is read). So reading never
//! waits, and an empty queue means that no answer will come.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket as RawSocket, protocols};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};

use super::message::HEADER;
use super::{Attributes, Error, Message, Reply, Result};
use crate::NetNs;

/// How many acknowledged messages go out at once: their answers must fit the receive queue, which
/// holds about 250 small messages at the kernel's default of 212,992 bytes.
const BATCH: usize = 64;
/// The length of a datagram, in bytes, that a socket can send without being told to.
const ORDINARY: usize = 64 * 1024;
/// A dump that the kernel marks as torn is started again this often.
const DUMP_TRIES: u32 = 10;
/// The kernel makes no part of a list larger than the buffer that it was once read into, and answers of
/// one message are of a few KiB at most; a larger one is an error. Two of these leave room for all else
/// in the first 64 KiB that the allocator asks for.
const BUFFER: usize = 16 * 1024;

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes: `NETLINK_ROUTE`.
    Route,
    /// Packet filtering: `NETLINK_NETFILTER`.
    Netfilter,
}

/// A netlink socket. It belongs to the network namespace in which it was opened, from wherever it
/// is used afterwards.
#[derive(Debug)]
pub struct Socket {
    socket: RawSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Opens something in another namespace; the calling thread stays where it is.
pub(crate) fn open_in<T>(ns: &NetNs, open: impl FnOnce() -> Result<T>) -> Result<T> {
    ns.run(open).map_err(Box::new)?
}

/// What a socket that hears of changes has received.
#[derive(Debug)]
pub(crate) enum News {
    /// Something has changed.
    Event(Reply),
    /// The kernel has handled the request.
    Answer(Result<()>),
}

/// What the kernel says to a message: no, yes, or yes with an object.
type Answer = Result<Option<Reply>>;

/// A message read from the socket: its header's fields and what follows.
struct Incoming<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Socket {
    /// Opens a socket in the current network namespace.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let number = match protocol {
            Protocol::Route => protocols::NETLINK_ROUTE,
            Protocol::Netfilter => protocols::NETLINK_NETFILTER,
        };
        let open = || -> io::Result<RawSocket> {
            let mut socket = RawSocket::new(number)?;
            socket.bind_auto()?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            if protocol == Protocol::Route {
                // Filters of a dump (table, protocol, link) are honoured only with strict checking.
                socket.set_netlink_get_strict_chk(true)?;
            }
            Ok(socket)
        };
        let socket = open()
            .map_err(|source| Error::Socket { what: "open a netlink socket".into(), source })?;
        Ok(Socket { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends one request and waits for its acknowledgement.
    ///
    /// # Errors
    /// [`Error::Refused`] with the kernel's error number and text.
    pub fn request(&mut self, message: &Message) -> Result<()> {
        let mut answers = self.batch(std::slice::from_ref(message))?;
        answers.pop().unwrap_or(Ok(()))
    }

    /// Sends requests together and returns an answer for each, in their order. The kernel handles
    /// each on its own: one refused does not stop those behind it.
    ///
    /// # Errors
    /// Only if the socket fails; then it is unknown which requests took effect.
    pub fn batch(&mut self, messages: &[Message]) -> Result<Vec<Result<()>>> {
        let mut answers = Vec::with_capacity(messages.len());
        for part in messages.chunks(BATCH) {
            let given = self.exchange(part, |_| NLM_F_ACK)?;
            answers.extend(answered(given, part).map(|answer| answer.map(drop)));
        }
        Ok(answers)
    }

    /// Sends requests together and reports the first refusal; those behind it have been tried all
    /// the same. A refusal comes unasked, so that one acknowledgement, of the last, is enough.
    ///
    /// # Errors
    /// The first refusal, or the socket fails.
    pub fn request_all(&mut self, messages: &[Message]) -> Result<()> {
        let mut first = Ok(());
        for part in messages.chunks(BATCH) {
            let last = part.len() - 1;
            let given = self.exchange(part, |place| if place == last { NLM_F_ACK } else { 0 })?;
            let all = refusal(given).map_or(Ok(()), Err);
            first = first.and(all);
        }
        first
    }

    /// Sends requests, and behind them questions for one object each, all together: at most
    /// [`BATCH`] of both. Returns the answers to the questions, as [`Socket::get`] does.
    ///
    /// # Errors
    /// The first refusal of a request, or the socket fails.
    pub fn request_and_get(
        &mut self,
        requests: &[Message],
        questions: &[Message],
    ) -> Result<Vec<Result<Reply>>> {
        let messages = [requests, questions].concat();
        // The answer to a question tells that the requests before it were handled.
        let mut given = self.exchange(&messages, |_| 0)?;
        let answers = given.split_off(requests.len());
        match refusal(given) {
            Some(refused) => Err(refused),
            None => Ok(objects(answers, questions)),
        }
    }

    /// Sends requests for one object each; an answer is the object, or the kernel's refusal.
    ///
    /// # Errors
    /// Only if the socket fails.
    pub fn get(&mut self, messages: &[Message]) -> Result<Vec<Result<Reply>>> {
        let mut answers = Vec::with_capacity(messages.len());
        for part in messages.chunks(BATCH) {
            answers.extend(objects(self.exchange(part, |_| 0)?, part));
        }
        Ok(answers)
    }

    /// Asks for all objects of a kind. A list that changed while it was read is read again.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it changed each time, [`Error::Refused`] if the kernel refuses.
    pub fn dump(&mut self, message: &Message) -> Result<Vec<Reply>> {
        for _ in 0..DUMP_TRIES {
            if let Some(replies) = self.dump_once(message)? {
                return Ok(replies);
            }
        }
        Err(Error::Interrupted { what: message.what().into(), tries: DUMP_TRIES })
    }

    /// Sends an nf_tables transaction: the messages between a begin and an end, which take effect
    /// together or not at all. Returns the first refusal.
    pub(crate) fn transaction(
        &mut self,
        begin: &Message,
        messages: &[Message],
        end: &Message,
    ) -> Result<()> {
        let first = self.sequence.wrapping_add(1);
        let last = first.wrapping_add(messages.len() as u32);
        let mut bytes = Vec::new();
        begin.finish(first, 0, &mut bytes);
        for (sequence, message) in (first.wrapping_add(1)..).zip(messages) {
            // A refusal comes unasked, so one acknowledgement is enough, and fits any queue.
            message.finish(sequence, if sequence == last { NLM_F_ACK } else { 0 }, &mut bytes);
        }
        self.sequence = last.wrapping_add(1);
        end.finish(self.sequence, 0, &mut bytes);
        self.make_room(begin.what(), bytes.len())?;
        self.send(begin.what(), &bytes)?;

        let mut acknowledged = false;
        let mut refusal = None;
        // To the end of the queue: what is left there would be taken for the next answers.
        while self.receive(begin.what())? {
            for incoming in incoming(&self.buffer) {
                let message = match incoming.sequence.wrapping_sub(first) as usize {
                    0 => begin,
                    place if place <= messages.len() => &messages[place - 1],
                    _ => continue,
                };
                match incoming.acknowledgement(message.what()) {
                    Ok(()) => acknowledged |= incoming.sequence == last,
                    Err(error) => _ = refusal.get_or_insert(error),
                }
            }
        }
        match refusal {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(Error::NoAnswer { what: begin.what().into() }),
        }
    }

    /// Lets a datagram of this length be sent, whatever the limit of the system is.
    fn make_room(&mut self, what: &str, length: usize) -> Result<()> {
        if length <= ORDINARY {
            return Ok(());
        }
        // The kernel counts its own bookkeeping, too.
        setsockopt(&self.socket, SndBufForce, &(length * 2)).map_err(|errno| Error::Socket {
            what: format!("{what} of {length} bytes"),
            source: errno.into(),
        })
    }

    /// Joins a multicast group (`RTNLGRP_*`), before the state that it reports about is read.
    pub fn subscribe(&mut self, group: u32) -> Result<()> {
        self.socket
            .add_membership(group)
            .map_err(|source| Error::Socket { what: format!("join netlink group {group}"), source })
    }

    /// The multicast messages that have arrived, without waiting. `None` if the queue overflowed
    /// and some are lost: the state must then be read afresh.
    pub fn events(&mut self) -> Result<Option<Vec<Reply>>> {
        let mut events = Vec::new();
        loop {
            match self.receive("read netlink events") {
                Ok(true) => events.extend(incoming(&self.buffer).map(|message| message.reply())),
                Ok(false) => return Ok(Some(events)),
                Err(Error::Socket { source, .. })
                    if source.raw_os_error() == Some(libc::ENOBUFS) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The bytes of a request, for whoever sends them on this socket; [`Socket::news`] has the
    /// answer.
    pub(crate) fn prepare(&mut self, message: &Message) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        message.finish(self.sequence, NLM_F_ACK, &mut bytes);
        bytes
    }

    /// Sends what [`Socket::prepare`] made.
    pub(crate) fn send_prepared(&mut self, message: &Message, bytes: &[u8]) -> Result<()> {
        self.send(message.what(), bytes)
    }

    /// What has arrived, without waiting: multicast messages, and among them the answer to the
    /// request that was prepared last. If the queue overflowed, some of it is lost.
    pub(crate) fn news(&mut self, message: &Message) -> Result<Vec<News>> {
        let mut news = Vec::new();
        loop {
            match self.receive(message.what()) {
                Ok(true) => {
                    news.extend(incoming(&self.buffer).filter_map(
                        |incoming| match incoming.kind {
                            NLMSG_ERROR if incoming.sequence == self.sequence => {
                                Some(News::Answer(incoming.acknowledgement(message.what())))
                            }
                            NLMSG_ERROR => None,
                            _ => Some(News::Event(incoming.reply())),
                        },
                    ));
                }
                Ok(false) => return Ok(news),
                Err(Error::Socket { source, .. })
                    if source.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends messages with these flags, and collects what comes back: an answer is a refusal, an
    /// acknowledgement or an object. They come in the order of the messages, so that the answer to
    /// the last one, which must be such that there is one, is the end.
    fn exchange(
        &mut self,
        messages: &[Message],
        flags: impl Fn(usize) -> u16,
    ) -> Result<Vec<Option<Answer>>> {
        let mut answers: Vec<_> = messages.iter().map(|_| None).collect();
        let Some(last) = messages.last() else { return Ok(answers) };
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for (place, message) in messages.iter().enumerate() {
            message.finish(first.wrapping_add(place as u32), flags(place), &mut bytes);
        }
        self.sequence = self.sequence.wrapping_add(messages.len() as u32);
        self.send(last.what(), &bytes)?;

        while answers.last().is_some_and(Option::is_none) && self.receive(last.what())? {
            for incoming in incoming(&self.buffer) {
                let place = incoming.sequence.wrapping_sub(first) as usize;
                let (Some(slot), Some(message)) = (answers.get_mut(place), messages.get(place))
                else {
                    continue;
                };
                *slot = Some(match incoming.kind {
                    NLMSG_ERROR => incoming.acknowledgement(message.what()).map(|()| None),
                    _ => Ok(Some(incoming.reply())),
                });
            }
        }
        if answers.last().is_some_and(Option::is_none) {
            return Err(Error::NoAnswer { what: last.what().into() });
        }
        Ok(answers)
    }

    /// One reading of a list; `None` if the kernel says that it changed meanwhile.
    fn dump_once(&mut self, message: &Message) -> Result<Option<Vec<Reply>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut bytes = Vec::new();
        message.finish(sequence, NLM_F_DUMP, &mut bytes);
        self.send(message.what(), &bytes)?;

        let mut replies = Vec::new();
        let mut torn = false;
        while self.receive(message.what())? {
            for incoming in incoming(&self.buffer).filter(|incoming| incoming.sequence == sequence)
            {
                torn |= incoming.flags & NLM_F_DUMP_INTR != 0;
                match incoming.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        incoming.acknowledgement(message.what())?;
                        return Ok((!torn).then_some(replies));
                    }
                    _ => replies.push(incoming.reply()),
                }
            }
        }
        Err(Error::NoAnswer { what: message.what().into() })
    }

    fn send(&mut self, what: &str, bytes: &[u8]) -> Result<()> {
        match self.socket.send(bytes, 0) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Socket { what: what.into(), source }),
        }
    }

    /// Reads one datagram into the buffer; false if the queue is empty.
    fn receive(&mut self, what: &str) -> Result<bool> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(Error::Malformed {
                        what: what.into(),
                        why: "a message of over 16 KiB",
                    });
                }
                Ok(_) => return Ok(true),
                Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(source) => {
                    return Err(Error::Socket { what: what.into(), source });
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Incoming<'_> {
    fn reply(&self) -> Reply {
        Reply { kind: self.kind, payload: self.payload.to_vec() }
    }

    /// Reads `struct nlmsgerr`, or the error number that ends a dump: zero is success.
    fn acknowledgement(&self, what: &str) -> Result<()> {
        let Some(number) = self.payload.first_chunk() else {
            return Err(Error::Malformed {
                what: what.into(),
                why: "an acknowledgement without an error number",
            });
        };
        match i32::from_ne_bytes(*number) {
            0 => Ok(()),
            number => Err(Error::Refused {
                what: what.into(),
                errno: Errno::from_raw(-number),
                text: self.explanation(),
            }),
        }
    }

    /// The extended acknowledgement's text: behind the error number and the request's header, and
    /// behind the request's payload where that was not left out.
    fn explanation(&self) -> String {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return String::new();
        }
        let echoed = if self.kind == NLMSG_DONE {
            0
        } else if self.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            let length = self.payload.get(4..).and_then(<[u8]>::first_chunk);
            length.map_or(HEADER, |length| u32::from_ne_bytes(*length) as usize).next_multiple_of(4)
        };
        let attributes = Attributes::new(self.payload.get(4 + echoed..).unwrap_or_default());
        attributes.get(NLMSGERR_ATTR_MSG).map(|message| message.text()).unwrap_or_default()
    }
}

/// The answer to each message; the lack of one is an error.
fn answered(
    answers: Vec<Option<Answer>>,
    messages: &[Message],
) -> impl Iterator<Item = Answer> + '_ {
    answers.into_iter().zip(messages).map(|(answer, message)| {
        answer.unwrap_or_else(|| Err(Error::NoAnswer { what: message.what().into() }))
    })
}

/// The object in each answer.
fn objects(answers: Vec<Option<Answer>>, messages: &[Message]) -> Vec<Result<Reply>> {
    let named = answered(answers, messages).zip(messages).map(|(answer, message)| {
        answer?.ok_or_else(|| Error::NoAnswer { what: message.what().into() })
    });
    named.collect()
}

/// The first refusal among these.
fn refusal(answers: Vec<Option<Answer>>) -> Option<Error> {
    answers.into_iter().flatten().find_map(Result::err)
}

/// Splits a datagram into its messages; ends at the first that does not fit.
fn incoming(mut bytes: &[u8]) -> impl Iterator<Item = Incoming<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        let field = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Incoming {
            kind: field(4),
            flags: field(6),
            sequence: u32::from_ne_bytes([message[8], message[9], message[10], message[11]]),
            payload: &message[HEADER..],
        })
    })
}
