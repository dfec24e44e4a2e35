//! Costs of one message at either end without the network: composing, reading, counting.

#![allow(clippy::expect_used, reason = "a benchmark that can not be set up has nothing to say")]

use std::{hint::black_box, sync::Arc};

use apollo_network_benchmark::{
    clock::unix_nanos,
    message::{Base, DeliveryTracker, Extension, Message, compose},
    metrics::Metrics,
    network::{Roster, Traffic, peer_id},
    node::{MeasurementWindow, Recorder},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;

const EXTENSION: Extension = Extension { run_id: 1, class: 0, trial: 0, send_lag_micros: 17, life: 1, sent_before: 0 };

fn wire_format(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    for size in [1024, 64 << 10] {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("compose {size} B"), |bencher| {
            bencher.iter(|| compose(3, black_box(7), black_box(1_700_000_000_000_000_000), size, &EXTENSION));
        });
    }
    let bytes = compose(3, 7, 1_700_000_000_000_000_000, 1024, &EXTENSION);
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| bencher.iter(|| Message::decode(black_box(&bytes))));
    group.finish();
}

fn tracker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tracker");
    group.throughput(Throughput::Elements(1));
    group.bench_function("in order", |bencher| {
        let mut tracker = DeliveryTracker::new(Base::Zero);
        let mut index = 0;
        bencher.iter(|| {
            index += 1;
            tracker.record(3, index, None)
        });
    });
    group.bench_function("duplicate", |bencher| {
        let mut tracker = DeliveryTracker::new(Base::Zero);
        tracker.record(3, 0, None);
        bencher.iter(|| tracker.record(3, black_box(0), None));
    });
    group.bench_function("one in a hundred lost", |bencher| {
        let mut tracker = DeliveryTracker::new(Base::Zero);
        let mut index = 0;
        bencher.iter(|| {
            index += if index % 100 == 0 { 2 } else { 1 };
            tracker.record(3, index, None)
        });
    });
    group.finish();
}

fn histogram(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("histogram");
    group.throughput(Throughput::Elements(1));
    group.bench_function("record", |bencher| {
        let mut histogram = Histogram::<u64>::new(3).expect("precision");
        let mut micros = 1;
        bencher.iter(|| {
            micros = micros * 31 % 1_000_003;
            histogram.record(black_box(micros))
        });
    });
    group.finish();
}

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recorder");
    group.throughput(Throughput::Elements(1));
    let source = peer_id(3);
    let now = unix_nanos();
    let mut bytes = compose(3, 0, now, 1024, &EXTENSION);
    for (name, boundaries, max_arrivals) in [
        ("everything for one arrival", vec![], 0),
        ("everything for one arrival in one of nine phases", (1..=8).map(|k| now + k * 1_000_000_000).collect(), 0),
        ("everything for one arrival with its record", vec![], 100_000),
    ] {
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("the table is consistent");
        let recorder = Recorder::new(0, 1, Arc::new(Roster::new(5)), metrics).with_arrivals(max_arrivals);
        // Only a window with an end has records of arrivals.
        let to_unix_nanos = now + 1_000_000_000_000;
        let window = MeasurementWindow { boundaries, to_unix_nanos, ..MeasurementWindow::everything(Base::Zero) };
        recorder.begin(&window);
        let mut index = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                index += 1;
                // A full room keeps a part of the arrivals only: each of these is recorded.
                if index == 90_000 && max_arrivals > 0 {
                    recorder.begin(&window);
                    index = 0;
                }
                bytes[8..16].copy_from_slice(&u64::to_be_bytes(index));
                recorder.received(Some(source), Some(source), None, black_box(&bytes));
            });
        });
    }
    group.bench_function("handing an arrival to another thread instead", |bencher| {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<u8>>(1024);
        let sink = std::thread::spawn(move || receiver.iter().map(|bytes| bytes.len()).sum::<usize>());
        bencher.iter_batched(
            || bytes.clone(),
            |bytes| sender.send(bytes).expect("the other thread lives"),
            criterion::BatchSize::SmallInput,
        );
        drop(sender);
        black_box(sink.join().expect("it does not panic"));
    });
    group.finish();
}

criterion_group!(benches, wire_format, tracker, histogram, receive);
criterion_main!(benches);
