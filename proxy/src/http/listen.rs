//! Listening sockets: a bounded backlog, and congestion control that suits loopback.

use std::io;
use std::net::SocketAddr;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel holds for us before we accept them: a burst of parallel layers times
/// images times clients, with room.
const BACKLOG: u32 = 1024;

/// BBR paces by timers, which on loopback costs two thirds of the throughput and seven times the
/// CPU. These do not; `cubic` may need a privilege that `reno` never does.
const UNPACED: [&str; 2] = ["cubic", "reno"];

/// Binds and listens.
///
/// # Errors
/// When the address is in use, not ours, or not allowed.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Sets what accepted sockets inherit. Best effort: nothing here is needed for correctness.
pub(super) fn tune(listener: &TcpListener) {
    let _ = sockopt::set_tcp_nodelay(listener, true);
    let loopback = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback() || address.ip().is_unspecified());
    if !loopback || !sockopt::tcp_congestion(listener).is_ok_and(|name| name.starts_with("bbr")) {
        return;
    }
    let chosen = UNPACED
        .iter()
        .find(|name| sockopt::set_tcp_congestion(listener, name).is_ok());
    tracing::debug!(?chosen, "loopback listener leaves bbr");
}
