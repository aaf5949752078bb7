//! Roads between our processes and the servers that they share with other tests: a road can be cut,
//! as if the server at its end had stopped, without anybody else noticing.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

#[derive(Debug, Default)]
struct Traffic {
    is_cut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// A road to one server.
#[derive(Debug)]
pub struct Road {
    entrance: SocketAddr,
    traffic: Arc<Traffic>,
}

impl Road {
    /// The URL with its server at the end of a new road, and the road.
    pub fn to(url: &str) -> (String, Self) {
        let (before, rest) = url.rsplit_once('@').unwrap();
        let (server, path) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let road = Self { entrance: listener.local_addr().unwrap(), traffic: Arc::default() };
        let (traffic, server) = (Arc::clone(&road.traffic), server.to_owned());
        spawn(move || {
            for near in listener.incoming().flatten() {
                if !traffic.is_cut.load(Ordering::SeqCst)
                    && let Ok(far) = TcpStream::connect(&server)
                {
                    join(&traffic, &near, &far);
                }
            }
        });
        (format!("{before}@{}/{path}", road.entrance), road)
    }

    /// From now on nothing comes through, and what is under way is cut off.
    pub fn cut(&self) {
        self.traffic.is_cut.store(true, Ordering::SeqCst);
        self.sever();
    }

    /// What is under way is cut off; new connections come through.
    pub fn sever(&self) {
        for stream in self.traffic.streams.lock().unwrap().drain(..) {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub fn mend(&self) {
        self.traffic.is_cut.store(false, Ordering::SeqCst);
    }
}

fn join(traffic: &Traffic, near: &TcpStream, far: &TcpStream) {
    for (from, to) in [(near, far), (far, near)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        traffic.streams.lock().unwrap().push(from.try_clone().unwrap());
        spawn(move || {
            // However it ends, both sides are to know.
            drop(copy(&mut from, &mut to));
            drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
        });
    }
}
