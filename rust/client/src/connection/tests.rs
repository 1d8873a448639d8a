use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::Connection;
use crate::error::FetchError;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// A peer on loopback that runs `script` on its first connection.
fn peer(script: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || script(listener.accept().unwrap().0));
    port
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).unwrap();
    let mut frame = vec![0; i32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut frame).unwrap();
    frame
}

fn connect(port: u16) -> Connection {
    Connection::connect("127.0.0.1", port, soon(), 4 << 20, |_| true).unwrap()
}

#[test]
fn a_call_returns_the_response_frame_and_reuses_its_buffer() {
    let port = peer(|mut stream| {
        for _ in 0..2 {
            let frame = read_frame(&mut stream);
            stream.write_all(&(frame.len() as i32).to_be_bytes()).unwrap();
            stream.write_all(&frame).unwrap();
        }
    });
    let mut connection = connect(port);
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    assert_eq!(connection.call(&large, soon()).unwrap(), large);
    assert_eq!(connection.call(b"small", soon()).unwrap(), b"small");
}

#[test]
fn a_claimed_size_above_the_bound_is_refused_before_memory_is_taken() {
    let port = peer(|mut stream| {
        read_frame(&mut stream);
        stream.write_all(&i32::MAX.to_be_bytes()).unwrap();
    });
    let error = connect(port).call(b"x", soon()).unwrap_err();
    assert!(matches!(error, FetchError::ResponseSize { claimed: 2_147_483_647, .. }), "{error}");
}

#[test]
fn a_negative_size_is_refused() {
    let port = peer(|mut stream| {
        read_frame(&mut stream);
        stream.write_all(&(-5_i32).to_be_bytes()).unwrap();
    });
    assert!(matches!(
        connect(port).call(b"x", soon()).unwrap_err(),
        FetchError::ResponseSize { claimed: -5, .. }
    ));
}

#[test]
fn a_silent_peer_costs_no_more_than_the_deadline() {
    let port = peer(|stream| {
        thread::sleep(Duration::from_secs(2));
        drop(stream);
    });
    let started = Instant::now();
    let error = connect(port).call(b"x", started + Duration::from_millis(80)).unwrap_err();
    assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_peer_that_drips_bytes_is_bounded_by_the_deadline() {
    let port = peer(|mut stream| {
        read_frame(&mut stream);
        stream.write_all(&1000_i32.to_be_bytes()).unwrap();
        while stream.write_all(b".").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let started = Instant::now();
    let error = connect(port).call(b"x", started + Duration::from_millis(150)).unwrap_err();
    assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_closed_connection_is_named_as_such() {
    let port = peer(|mut stream| {
        read_frame(&mut stream);
        stream.write_all(&[0, 0]).unwrap();
    });
    let error = connect(port).call(b"x", soon()).unwrap_err();
    assert!(matches!(error, FetchError::Disconnected { .. }), "{error}");
}

#[test]
fn a_refused_connection_says_where() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Connection::connect("127.0.0.1", port, soon(), 1024, |_| true).unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[test]
fn shutting_the_socket_down_ends_a_call_at_once() {
    let port = peer(|stream| {
        thread::sleep(Duration::from_secs(3));
        drop(stream);
    });
    let shown: Arc<Mutex<Option<Arc<Socket>>>> = Arc::default();
    let keep = Arc::clone(&shown);
    let mut connection = Connection::connect("127.0.0.1", port, soon(), 1024, |socket| {
        *keep.lock().unwrap() = Some(Arc::clone(socket));
        true
    })
    .unwrap();
    let started = Instant::now();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        shown.lock().unwrap().as_ref().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert!(connection.call(b"x", soon()).is_err());
    assert!(started.elapsed() < Duration::from_secs(2));
    other.join().unwrap();
}

#[test]
fn silence_is_told_while_it_lasts_and_the_answer_is_taken_when_it_comes() {
    let (answer_now, may_answer) = std::sync::mpsc::channel();
    let port = peer(move |mut stream| {
        let frame = read_frame(&mut stream);
        may_answer.recv().unwrap();
        stream.write_all(&(frame.len() as i32).to_be_bytes()).unwrap();
        stream.write_all(&frame).unwrap();
    });
    let told = std::cell::Cell::new(0);
    let silent = |silence: FetchError| {
        assert!(matches!(silence, FetchError::Silent { .. }), "{silence}");
        told.set(told.get() + 1);
        if told.get() == 2 {
            answer_now.send(()).unwrap();
        }
    };
    let mut connection = connect(port);
    let answer = connection.call_impatiently(b"x", soon(), Duration::from_millis(10), &silent);
    assert_eq!(answer.unwrap(), b"x");
    assert!(told.get() >= 2);
}

#[test]
fn patience_does_not_outlast_the_deadline() {
    let (_ended, ends) = std::sync::mpsc::channel::<()>();
    let port = peer(move |_stream| assert!(ends.recv().is_err()));
    let mut connection = connect(port);
    let deadline = Instant::now() + Duration::from_millis(30);
    let error = connection.call_impatiently(b"x", deadline, Duration::from_millis(10), &|_| {}).unwrap_err();
    assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
}
