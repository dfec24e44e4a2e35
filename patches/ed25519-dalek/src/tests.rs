use super::{Signature, Signer, SigningKey, Verifier, memory::size};

fn simulating(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let guard = virtual_clock::enter(0, 0).expect("no simulation is on this thread");
        test();
        drop(guard);
    });
    thread.join().expect("the test passes");
}

/// Checks of a valid signature and of others that differ in each part.
fn check_all() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let other = SigningKey::from_bytes(&[8; 32]);
    let signature: Signature = key.sign(b"message");
    for _ in 0..3 {
        assert!(key.verifying_key().verify(b"message", &signature).is_ok());
        assert!(key.verifying_key().verify(b"messagf", &signature).is_err());
        assert!(key.verifying_key().verify(b"messag", &signature).is_err());
        assert!(other.verifying_key().verify(b"message", &signature).is_err());
        assert!(key.verifying_key().verify(b"message", &other.sign(b"message")).is_err());
    }
    let bytes = key.verifying_key().to_bytes();
    assert_eq!(super::VerifyingKey::from_bytes(&bytes).ok(), Some(key.verifying_key()));
}

#[test]
fn on_every_thread_the_answer_is_the_same_and_only_a_simulation_remembers() {
    check_all();
    assert_eq!(size(), (0, 0));
    simulating(|| {
        check_all();
        assert_eq!(size(), (1, 7));
    });
}

#[test]
fn the_oldest_messages_are_forgotten() {
    simulating(|| {
        let key = SigningKey::from_bytes(&[7; 32]);
        let messages: Vec<Vec<u8>> = (0..5).map(|number| vec![number; 12 << 20]).collect();
        for message in &messages {
            assert!(key.verifying_key().verify(message, &key.sign(message)).is_ok());
        }
        assert_eq!(size(), (2, 24 << 20));
        assert!(key.verifying_key().verify(&messages[0], &key.sign(&messages[0])).is_ok());
    });
}
