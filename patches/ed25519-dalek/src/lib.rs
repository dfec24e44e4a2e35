//! The part of `ed25519-dalek`'s interface that `libp2p-identity` has, over that crate.
//!
//! In a simulation one thread plays a thousand nodes, each of which checks the signature of each copy of a message that
//! it gets: the same bytes with the same key thousands of times. On a thread that simulates, a valid signature and a
//! valid key are remembered, and the same ones are not computed again. Both are functions of the bytes alone, which are
//! compared in full, so that the answer is the same. Every other thread only passes the calls on.

mod memory;
#[cfg(test)]
mod tests;

pub use original::{SecretKey, Signature, SignatureError, Signer};

/// A key that checks signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey(original::VerifyingKey);

impl VerifyingKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// Fails if they are no point of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignatureError> {
        memory::key(bytes).map(Self)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

/// Checks signatures.
pub trait Verifier<S> {
    /// Checks that `signature` is that of `message`.
    ///
    /// # Errors
    /// Fails if it is not.
    fn verify(&self, message: &[u8], signature: &S) -> Result<(), SignatureError>;
}

impl Verifier<Signature> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        memory::verify(&self.0, message, signature)
    }
}

/// A key that signs.
#[derive(Clone)]
pub struct SigningKey(original::SigningKey);

impl SigningKey {
    /// The key of a secret.
    pub fn from_bytes(secret: &SecretKey) -> Self {
        Self(original::SigningKey::from_bytes(secret))
    }

    /// The key of a secret and its public key.
    ///
    /// # Errors
    /// Fails if the two do not belong together.
    pub fn from_keypair_bytes(bytes: &[u8; 64]) -> Result<Self, SignatureError> {
        original::SigningKey::from_keypair_bytes(bytes).map(Self)
    }

    /// The secret and the public key.
    pub fn to_keypair_bytes(&self) -> [u8; 64] {
        self.0.to_keypair_bytes()
    }

    /// The secret.
    pub fn to_bytes(&self) -> SecretKey {
        self.0.to_bytes()
    }

    /// The key that checks its signatures.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }
}

impl Signer<Signature> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignatureError> {
        self.0.try_sign(message)
    }
}
