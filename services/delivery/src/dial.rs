//! Makes TCP connections: the addresses of one host one after the other, its two families side by side.
//!
//! A family that does not work must not hold up the one that does (RFC 8305): when an address has not answered after
//! 250 ms, the next one of the other family is dialled as well. Never two of one family at once, so that a provider's
//! limit on connections is not run over by ours to its dead addresses.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

/// How long one family has before the other one is tried too (RFC 8305 section 5, Connection Attempt Delay).
const HEAD_START: Duration = Duration::from_millis(250);

/// From where to dial, to which port, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialler {
    pub(crate) port: u16,
    /// Where connections leave from. An address of the other family cannot be reached from it.
    pub(crate) source: Option<IpAddr>,
    pub(crate) timeout: Duration,
}

/// One address that was dialled, and what came of it.
pub(crate) type Dialled = (IpAddr, io::Result<TcpStream>);

impl Dialler {
    /// Whether connections can leave for `address` at all.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        let family = self.source.map(|source| source.is_ipv4());
        family.is_none_or(|is_ipv4| is_ipv4 == address.is_ipv4())
    }

    /// Dials one address.
    pub(crate) async fn dial(self, address: IpAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        // Small commands must not wait for the acknowledgement of earlier ones.
        socket.set_nodelay(true)?;
        let connecting = socket.connect(SocketAddr::new(address, self.port));
        match timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// The addresses of one host, on their way to be dialled. Dropped, it lets go of what it still dials.
pub(crate) struct Race {
    dialler: Dialler,
    waiting: VecDeque<IpAddr>,
    /// The families that are being dialled.
    under_way: Vec<IpAddr>,
    dialling: FuturesUnordered<Pin<Box<dyn Future<Output = Dialled> + Send>>>,
    next_start: Instant,
}

impl Race {
    /// Nothing is dialled before [`next`](Self::next).
    pub(crate) fn new(dialler: Dialler, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            dialler,
            waiting: addresses.into_iter().collect(),
            under_way: Vec::new(),
            dialling: FuturesUnordered::new(),
            next_start: Instant::now(),
        }
    }

    /// The next address that answered or failed; `None` once all have. `allowance` is how many more may be dialled.
    pub(crate) async fn next(&mut self, allowance: &mut usize) -> Option<Dialled> {
        loop {
            let next = self.next_to_dial().filter(|_| *allowance > 0);
            tokio::select! {
                biased;
                Some(dialled) = self.dialling.next(), if !self.dialling.is_empty() => {
                    self.under_way.retain(|address| *address != dialled.0);
                    self.next_start = Instant::now();
                    return Some(dialled);
                }
                () = sleep_until(self.next_start), if next.is_some() => {
                    *allowance -= 1;
                    self.dial(next);
                }
                else => return None,
            }
        }
    }

    /// Where among those that wait the first of an idle family stands.
    fn next_to_dial(&self) -> Option<usize> {
        let busy = |is_ipv4| self.under_way.iter().any(|one| one.is_ipv4() == is_ipv4);
        let mut waiting = self.waiting.iter();
        waiting.position(|address| !busy(address.is_ipv4()))
    }

    fn dial(&mut self, at: Option<usize>) {
        let Some(address) = at.and_then(|at| self.waiting.remove(at)) else {
            return;
        };
        let dialler = self.dialler;
        self.under_way.push(address);
        self.dialling.push(Box::pin(
            async move { (address, dialler.dial(address).await) },
        ));
        self.next_start = Instant::now() + HEAD_START;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use socket2::{Domain, Socket, Type};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    /// Listeners of both families on one port.
    fn listeners() -> (u16, Socket, Socket) {
        for _ in 0..100 {
            let v4 = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            v4.bind(&SocketAddr::new(V4, 0).into()).unwrap();
            let port = v4.local_addr().unwrap().as_socket().unwrap().port();
            let v6 = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            v6.set_only_v6(true).unwrap();
            if v6.bind(&SocketAddr::new(V6, port).into()).is_ok() {
                return (port, v4, v6);
            }
        }
        panic!("no port is free in both families");
    }

    /// Lets `listener` drop whoever comes: its queue has room for one, and that one is there.
    async fn blackhole(listener: &Socket) -> Vec<TcpStream> {
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(connected) = timeout(HEAD_START, TcpStream::connect(address)).await {
            queue.push(connected.unwrap());
        }
        queue
    }

    fn dialler(port: u16) -> Dialler {
        Dialler {
            port,
            source: None,
            timeout: Duration::from_secs(2),
        }
    }

    #[tokio::test]
    async fn a_family_that_does_not_answer_holds_up_the_other_for_a_moment_only() {
        for silent in [V4, V6] {
            let (port, v4, v6) = listeners();
            let (dead, alive) = if silent == V4 { (&v4, &v6) } else { (&v6, &v4) };
            alive.listen(8).unwrap();
            let _queue = blackhole(dead).await;
            let other = if silent == V4 { V6 } else { V4 };
            let begun = Instant::now();
            let mut race = Race::new(dialler(port), [silent, other]);
            let mut allowance = 5;
            let (address, connected) = race.next(&mut allowance).await.unwrap();
            assert_eq!((address, connected.is_ok(), allowance), (other, true, 3));
            let took = begun.elapsed();
            assert!(
                took >= HEAD_START && took < dialler(port).timeout,
                "{took:?}"
            );
            // The silent one is still to be heard of, in case the session comes to nothing.
            let (address, failed) = race.next(&mut allowance).await.unwrap();
            let kind = failed.unwrap_err().kind();
            assert_eq!((address, kind), (silent, io::ErrorKind::TimedOut));
            assert!(race.next(&mut allowance).await.is_none());
        }
    }

    #[tokio::test]
    async fn the_first_address_wins_where_it_answers() {
        let (port, v4, v6) = listeners();
        v4.listen(8).unwrap();
        v6.listen(8).unwrap();
        for addresses in [[V4, V6], [V6, V4]] {
            let mut allowance = 5;
            let mut race = Race::new(dialler(port), addresses);
            let (address, connected) = race.next(&mut allowance).await.unwrap();
            let connected = connected.unwrap();
            assert!(connected.nodelay().unwrap());
            assert_eq!((address, allowance), (addresses[0], 4));
        }
    }

    #[tokio::test]
    async fn a_refusal_is_followed_by_the_next_address_at_once() {
        let (port, _v4, v6) = listeners();
        v6.listen(8).unwrap();
        let begun = Instant::now();
        let mut race = Race::new(dialler(port), [V4, V6]);
        let mut allowance = 2;
        let (first, refused) = race.next(&mut allowance).await.unwrap();
        let (second, connected) = race.next(&mut allowance).await.unwrap();
        assert_eq!((first, refused.is_err()), (V4, true));
        assert_eq!((second, connected.is_ok()), (V6, true));
        assert!(begun.elapsed() < HEAD_START, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn one_family_is_dialled_one_at_a_time_and_no_more_often_than_allowed() {
        let (port, v4, _v6) = listeners();
        let _queue = blackhole(&v4).await;
        let short = Dialler {
            timeout: HEAD_START * 2,
            ..dialler(port)
        };
        let begun = Instant::now();
        let mut race = Race::new(short, [V4, V4, V4]);
        let mut allowance = 2;
        while race.next(&mut allowance).await.is_some() {}
        assert_eq!((allowance, race.waiting.len()), (0, 1));
        assert!(
            begun.elapsed() >= short.timeout * 2,
            "{:?}",
            begun.elapsed()
        );
    }

    #[tokio::test]
    async fn a_source_address_reaches_its_own_family_only() {
        let from_v4 = Dialler {
            source: Some(V4),
            ..dialler(25)
        };
        assert!(from_v4.reaches(V4) && !from_v4.reaches(V6));
        assert!(dialler(25).reaches(V4) && dialler(25).reaches(V6));
    }
}
