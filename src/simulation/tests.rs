//! Transfers over the model of the network.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt};

use super::{Dial, Interrupt, Life, Listener, Simulation, Stream, network, network::Discipline, on_host, run, spawn};
use crate::{
    clock::{Instant, sleep, timeout},
    scenario::Shape,
    shaping::InterfacePlan,
};

fn address(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

/// Result of a simulation with `hosts` hosts on this number of threads, each with this shape, in which `begin` runs at host 0.
fn simulate_on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    threads: usize,
    hosts: u8,
    shape: &str,
    discipline: Discipline,
    begin: impl FnOnce() -> F + Send + 'static,
) -> T {
    let shape: Shape = shape.parse().unwrap();
    let simulation =
        Simulation { seed: 7, start_unix_nanos: 1_000_000_000, threads, discipline, ..Simulation::default() };
    run(simulation, move || async move {
        for host in 0..hosts {
            assert!(network::add_host(host.into(), address(host)));
            network::shape(host.into(), &InterfacePlan::symmetric(shape));
        }
        on_host(0, || tokio::spawn(begin())).unwrap().await.unwrap()
    })
    .unwrap()
}

/// The same on one thread.
fn simulate<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    hosts: u8,
    shape: &str,
    discipline: Discipline,
    begin: impl FnOnce() -> F + Send + 'static,
) -> T {
    simulate_on(1, hosts, shape, discipline, begin)
}

async fn pair(from: u8, to: u8, port: u16) -> (Stream, Stream) {
    let socket = SocketAddr::new(address(to), port);
    let mut listener = Listener::bind(socket).unwrap();
    let (one, other) =
        futures::join!(Dial::new(address(from), socket), std::future::poll_fn(|context| listener.poll_accept(context)));
    (one.unwrap(), other.0)
}

/// Milliseconds until `bytes` from host 0 are at host 1, over a connection that has just been made.
async fn transfer(port: u16, to: u8, bytes: usize) -> f64 {
    let (mut one, mut other) = pair(0, to, port).await;
    let begun = Instant::now();
    let sent: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    let expected = sent.clone();
    let task = spawn(async move {
        one.write_all(&sent).await.unwrap();
        one.close().await.unwrap();
    });
    let mut got = vec![];
    other.read_to_end(&mut got).await.unwrap();
    task.await.unwrap();
    assert!(got == expected);
    begun.elapsed().as_secs_f64() * 1e3
}

#[test]
fn a_small_message_takes_the_latency_and_a_handshake_a_round_trip() {
    let (handshake, message) = simulate(2, "latency=50", Discipline::Fair, || async {
        let begun = Instant::now();
        let (mut one, mut other) = pair(0, 1, 1).await;
        let handshake = begun.elapsed();
        let begun = Instant::now();
        one.write_all(&[1; 100]).await.unwrap();
        other.read_exact(&mut [0; 100]).await.unwrap();
        (handshake, begun.elapsed())
    });
    assert_eq!((handshake.as_millis(), message.as_millis()), (150, 50));
}

#[test]
fn a_message_takes_its_serialisation_time_and_the_round_trips_of_slow_start() {
    // 64 KiB are 46 segments; the initial window is 10, then 20 and 40.
    let slow_start = simulate(2, "latency=50", Discipline::Fair, || transfer(1, 1, 64 << 10));
    assert!((250.0..253.0).contains(&slow_start), "{slow_start}");
    let paced = simulate(2, "throughput=1000", Discipline::Fair, || transfer(1, 1, 64 << 10));
    assert!((66.0..72.0).contains(&paced), "{paced}");
    let both = simulate(2, "latency=5,throughput=1000", Discipline::Fifo, || transfer(1, 1, 64 << 10));
    assert!((70.0..90.0).contains(&both), "{both}");
}

#[test]
fn two_transfers_share_an_interface_in_turns_or_one_after_the_other() {
    async fn two() -> [f64; 2] {
        let (first, second) = futures::join!(transfer(1, 1, 64 << 10), transfer(2, 2, 64 << 10));
        [first, second]
    }
    let fair = simulate(3, "throughput=1000", Discipline::Fair, two);
    let fifo = simulate(3, "throughput=1000", Discipline::Fifo, two);
    for all in [fair, fifo] {
        let last = all[0].max(all[1]);
        assert!((130.0..150.0).contains(&last), "{fair:?} {fifo:?}");
    }
    assert!((fair[0] - fair[1]).abs() < 15.0, "{fair:?}");
}

#[test]
fn losses_cost_time_and_no_bytes() {
    let times: Vec<f64> = simulate(2, "latency=10,loss=5", Discipline::Fair, || async {
        let mut times = vec![];
        for port in 1..30 {
            times.push(transfer(port, 1, 64 << 10).await);
        }
        times
    });
    assert!(times.iter().all(|time| *time >= 30.0), "{times:?}");
    assert!(times.iter().any(|time| *time > 70.0) && times.iter().all(|time| *time < 5000.0), "{times:?}");
}

#[test]
fn a_large_transfer_uses_the_rate_of_its_link() {
    for discipline in [Discipline::Fair, Discipline::Fifo] {
        let time = simulate(2, "latency=20,throughput=10000", discipline, || transfer(1, 1, 2_000_000));
        // 2 MB and headers are 212 ms; slow start and a full queue cost some more.
        assert!((300.0..700.0).contains(&time), "{discipline:?} {time}");
    }
}

#[test]
fn a_paused_host_does_not_run_and_a_killed_one_breaks_its_connections() {
    let (paused, broken) = simulate(2, "latency=1", Discipline::Fair, || async {
        let (mut one, other) = pair(0, 1, 1).await;
        let life = std::sync::Arc::new(Life::default());
        let echo = life.spawn(async move {
            let (mut reader, mut writer) = other.split();
            futures::io::copy(&mut reader, &mut writer).await.ok();
        });
        let begun = Instant::now();
        life.pause();
        one.write_all(&[1; 10]).await.unwrap();
        let silent = timeout(Duration::from_secs(1), one.read_exact(&mut [0; 10])).await;
        assert!(silent.is_err());
        life.resume();
        one.read_exact(&mut [0; 10]).await.unwrap();
        let paused = begun.elapsed();
        network::kill(1);
        life.kill();
        sleep(Duration::from_millis(5)).await;
        assert!(echo.is_finished());
        (paused, one.read(&mut [0; 1]).await.is_err())
    });
    assert!(paused >= Duration::from_secs(1) && paused < Duration::from_millis(1010), "{paused:?}");
    assert!(broken);
}

#[test]
fn a_cut_network_delivers_after_it_is_whole_again() {
    let waited = simulate(2, "latency=1", Discipline::Fair, || async {
        let (mut one, mut other) = pair(0, 1, 1).await;
        let plan = InterfacePlan::symmetric("latency=1".parse().unwrap());
        network::shape(1, &InterfacePlan { blocked: vec![address(0)], ..plan.clone() });
        let begun = Instant::now();
        one.write_all(&[1; 10]).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        assert!(timeout(Duration::from_secs(1), other.read_exact(&mut [0; 10])).await.is_err());
        network::shape(1, &plan);
        other.read_exact(&mut [0; 10]).await.unwrap();
        begun.elapsed()
    });
    assert!(waited > Duration::from_secs(6) && waited < Duration::from_secs(20), "{waited:?}");
}

#[test]
fn nobody_answers_at_a_port_that_does_not_listen() {
    let (error, waited) = simulate(2, "latency=50", Discipline::Fair, || async {
        let begun = Instant::now();
        let error = Dial::new(address(0), SocketAddr::new(address(1), 1)).await.unwrap_err();
        (error.kind(), begun.elapsed())
    });
    assert_eq!((error, waited.as_millis()), (std::io::ErrorKind::ConnectionRefused, 100));
}

#[test]
fn a_seed_gives_the_same_times_again() {
    let run = || simulate(2, "latency=10,jitter=5,loss=2", Discipline::Fair, || transfer(1, 1, 1 << 20));
    assert_eq!(run().to_bits(), run().to_bits());
}

/// Milliseconds that each of some transfers of `bytes` takes there and back, between hosts of two threads.
fn over_two_threads(shape: &str, bytes: usize) -> Vec<f64> {
    let shape: Shape = shape.parse().unwrap();
    let simulation = Simulation { seed: 7, threads: 2, ..Simulation::default() };
    run(simulation, move || async move {
        for host in 0..2 {
            assert!(network::add_host(host.into(), address(host)));
            network::shape(host.into(), &InterfacePlan::symmetric(shape));
        }
        let socket = SocketAddr::new(address(1), 1);
        let echo = async move {
            let mut listener = Listener::bind(socket).unwrap();
            let (mut stream, _) = std::future::poll_fn(|context| listener.poll_accept(context)).await;
            let mut buffer = vec![0; bytes];
            while stream.read_exact(&mut buffer).await.is_ok() {
                stream.write_all(&buffer).await.unwrap();
            }
        };
        let ask = async move {
            let mut stream = Dial::new(address(0), socket).await.unwrap();
            let sent: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
            let mut times = vec![];
            for _ in 0..5 {
                let begun = Instant::now();
                stream.write_all(&sent).await.unwrap();
                let mut got = vec![0; bytes];
                stream.read_exact(&mut got).await.unwrap();
                assert!(got == sent);
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            times
        };
        let echoing = on_host(1, move || tokio::spawn(echo)).unwrap();
        let times = on_host(0, move || tokio::spawn(ask)).unwrap().await.unwrap();
        echoing.await.unwrap();
        times
    })
    .unwrap()
}

#[test]
fn hosts_of_two_threads_talk_as_those_of_one_do() {
    for time in over_two_threads("latency=50", 100) {
        assert!((100.0..100.1).contains(&time), "{time}");
    }
    // A latency that a packet may not have at all makes the threads meet after each of the shortest ones.
    for time in over_two_threads("latency=1,jitter=1", 100) {
        assert!((0.04..4.0).contains(&time), "{time}");
    }
    // A window of 1.2 segments over the root of the loss (Mathis et al., 1997) makes 430 KB/s: 2.4 s each way.
    let times = over_two_threads("latency=20,loss=1", 1 << 20);
    assert!(times.iter().all(|time| (2000.0..12000.0).contains(time)), "{times:?}");
    assert_eq!(times, over_two_threads("latency=20,loss=1", 1 << 20));
}

#[test]
fn a_reader_that_takes_its_time_holds_the_sender_up_and_not_forever() {
    let times = simulate(2, "latency=5", Discipline::Fair, || async {
        let (mut one, mut other) = pair(0, 1, 1).await;
        let writing = spawn(async move {
            let begun = Instant::now();
            one.write_all(&vec![1; 20 << 20]).await.unwrap();
            one.close().await.unwrap();
            begun.elapsed()
        });
        sleep(Duration::from_secs(10)).await;
        let mut got = vec![];
        other.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 20 << 20);
        writing.await.unwrap()
    });
    assert!(times > Duration::from_secs(10) && times < Duration::from_secs(12), "{times:?}");
}

#[test]
fn a_connection_whose_ends_are_dropped_is_forgotten() {
    let ends = simulate(2, "latency=5", Discipline::Fair, || async {
        for port in 1..20 {
            transfer(port, 1, 10_000).await;
        }
        sleep(Duration::from_secs(1)).await;
        super::world::act(|world| world.ends.iter().flatten().count()).0
    });
    assert_eq!(ends, Some(0));
}

#[test]
fn a_simulation_in_which_nothing_can_happen_ends_with_that_reason() {
    let simulation = Simulation::default();
    let ended = run(simulation, std::future::pending::<()>);
    assert!(ended.unwrap_err().contains("no event is left"));
}

#[test]
fn a_thread_that_fails_ends_the_simulation() {
    for threads in [1, 2] {
        let simulation = Simulation { threads, ..Simulation::default() };
        let ended = run(simulation, || async {
            assert!(network::add_host(0, address(0)));
            assert_eq!(on_host(0, || -> u32 { panic!("a fault of the simulation") }), None);
            sleep(Duration::from_secs(1)).await;
        });
        assert_eq!(ended.unwrap_err(), "the simulation has failed");
    }
}

#[test]
fn an_interrupt_ends_a_wait() {
    let interrupt = Interrupt::default();
    let simulation = Simulation { interrupt: interrupt.clone(), ..Simulation::default() };
    let asked = interrupt.clone();
    run(simulation, move || async move {
        interrupt.ask();
        let forever = async {
            loop {
                sleep(Duration::from_millis(1)).await;
            }
        };
        futures::future::select(std::pin::pin!(asked.asked()), std::pin::pin!(forever)).await;
    })
    .unwrap();
}
