//! `kairos ws-echo` against servers that look closely: what comes back, and how it ends.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, WebSocket};

use crate::harness::{Said, kairos};

type Server = WebSocket<TcpStream>;

/// Runs the client against one connection of a server.
fn against(server: impl FnOnce(&mut Server) + Send + 'static) -> Said {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/x?case=1", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let config = WebSocketConfig::default()
            .max_message_size(Some(64 << 20))
            .max_frame_size(Some(64 << 20));
        server(&mut tungstenite::accept_with_config(stream, Some(config)).unwrap());
    });
    let said = kairos(["ws-echo", &url]);
    served.join().unwrap();
    said
}

/// Says goodbye and waits for the other half of it: its code.
fn close(server: &mut Server, code: u16) -> Option<u16> {
    let frame = CloseFrame { code: code.into(), reason: "done".into() };
    server.close(Some(frame)).unwrap();
    let mut answer = None;
    while let Ok(message) = server.read() {
        if let Message::Close(frame) = message {
            answer = frame.map(|it| it.code.into());
        }
    }
    answer
}

#[test]
fn messages_of_every_length_come_back_as_they_were() {
    let said = against(|server| {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 16 << 20] {
            let text = "*".repeat(length);
            server.send(Message::text(text.clone())).unwrap();
            assert!(server.read().unwrap() == Message::text(text), "{length} as text");
            let bytes = vec![0xFE; length];
            server.send(Message::binary(bytes.clone())).unwrap();
            assert!(server.read().unwrap() == Message::binary(bytes), "{length} as bytes");
        }
        assert_eq!(close(server, 1_000), Some(1_000));
    });
    assert_eq!(said.expect(0).out, "18 messages sent back\n");
}

#[test]
fn pieces_become_one_message_with_control_frames_between_them() {
    let said = against(|server| {
        let (text, continued) = (OpCode::Data(Data::Text), OpCode::Data(Data::Continue));
        // A letter of three bytes, cut in the middle.
        let letter = "€".as_bytes();
        let first = Frame::message(letter[..1].to_vec(), text, false);
        server.send(Message::Frame(first)).unwrap();
        server.send(Message::Ping("are you there".into())).unwrap();
        let last = Frame::message(letter[1..].to_vec(), continued, true);
        server.send(Message::Frame(last)).unwrap();
        assert_eq!(server.read().unwrap(), Message::Pong("are you there".into()));
        assert_eq!(server.read().unwrap(), Message::text("€"));
        // A pong that nobody asked for is no message.
        server.send(Message::Pong("unasked".into())).unwrap();
        assert_eq!(close(server, CloseCode::Away.into()), Some(1_001));
    });
    assert_eq!(said.expect(0).out, "1 messages sent back\n");
}

#[test]
fn what_breaks_the_protocol_breaks_the_connection() {
    let check = |bytes: &'static [u8], words: &str| {
        let said = against(move |server| {
            server.get_mut().write_all(bytes).unwrap();
            while server.read().is_ok() {}
        });
        let said = said.expect(1);
        assert!(said.err.contains(words), "{words} in {}", said.err);
    };
    check(b"\x81\x01\xFF", "utf-8");
    check(b"\xC1\x01x", "Reserved bits");
    check(b"\x83\x01x", "opcode");
    check(b"\x80\x01x", "nothing to continue");
    check(b"\x09\x01x", "Fragmented control frame");
    check(b"\x81\x81\0\0\0\0x", "masked");
    check(b"\x81\x7F\x00\x00\x00\x00\x01\x00\x00\x01", "too long");
    check(b"\x88\x01\x03", "close");
}
