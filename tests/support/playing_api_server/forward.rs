//! Port-forwards over a WebSocket, bridged to the loopback: a channel for data and one for errors, as in a kubelet.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    body::Body,
    extract::Request,
    http::{Response, StatusCode},
};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{
    Cluster,
    answer::{Answer, not_found, refused},
    fate::take,
    http::Target,
};

const PROTOCOL: &str = "v4.channel.k8s.io";

pub fn answer(cluster: &Arc<Cluster>, target: &Target, mut request: Request) -> Answer {
    cluster.faults.forwards.fetch_add(1, Ordering::Relaxed);
    let unreachable = cluster.faults.unreachable.lock().unwrap().clone();
    if take(&cluster.faults.refuse_forwards) || target.name.as_ref() == Some(&unreachable) {
        return refused(500, "InternalError", "error dialing backend: No agent available");
    }
    let (namespace, pod) = (target.namespace.as_deref().unwrap(), target.name.as_deref().unwrap());
    if cluster.store.get(namespace, "pods", pod).is_none() {
        return not_found("pods", pod);
    }
    let headers = request.headers();
    let offered = headers.get("sec-websocket-protocol").map_or("", |value| value.to_str().unwrap());
    assert!(offered.split(", ").any(|one| one == PROTOCOL), "{offered}");
    let accept = derive_accept_key(headers.get("sec-websocket-key").unwrap().as_bytes());
    let port: u16 = target.asked("ports").unwrap().parse().unwrap();
    let inside = cluster.kubelet.port(namespace, pod, port);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        bridge(socket, port, inside).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-accept", accept)
        .header("sec-websocket-protocol", PROTOCOL)
        .body(Body::empty())
        .unwrap()
}

fn frame(channel: u8, bytes: &[u8]) -> Message {
    let mut frame = vec![channel];
    frame.extend_from_slice(bytes);
    Message::binary(frame)
}

async fn bridge(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, port: u16, inside: Option<u16>) {
    for channel in [0, 1] {
        if socket.send(frame(channel, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    let stream = match inside {
        Some(inside) => TcpStream::connect(("127.0.0.1", inside)).await.ok(),
        None => None,
    };
    let Some(stream) = stream else {
        let words = format!("failed to connect to localhost:{port} inside the pod: connection refused");
        let _ = socket.send(frame(1, words.as_bytes())).await;
        let _ = socket.close(None).await;
        return;
    };
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = stream.into_split();
    let out = async {
        let mut buffer = vec![0; 8192];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if sink.send(frame(0, &buffer[..count])).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    let back = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) if bytes.first() == Some(&0) && write.write_all(&bytes[1..]).await.is_ok() => {}
                Message::Binary(_) | Message::Close(_) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}
