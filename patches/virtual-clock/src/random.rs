//! The operating system's random numbers, which the C library's `getrandom` gives to every library of the program.
//!
//! This program has a function of that name: on a simulating thread its bytes follow from the seed, on every other one
//! they are those of the kernel. The hash maps of std, the generators of `rand` and the keys of noise all end here. (The
//! crate `getrandom` looks the function up at run time, and finds this one, because the linker exports names that a
//! shared library has too.)

use std::cell::Cell;

use libc::{c_uint, c_void, size_t, ssize_t};

thread_local! {
    /// State of the generator of a simulating thread.
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on the random numbers of this thread follow from `seed`.
pub(super) fn begin(seed: u64) {
    // The function must be in the program, and the linker keeps what is used.
    std::hint::black_box(getrandom as *const ());
    STATE.set(Some(seed));
}

/// From here on the random numbers of this thread are the kernel's.
pub(super) fn end() {
    STATE.set(None);
}

/// The next number of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The C library's function: fills `buffer` with `length` random bytes.
///
/// # Safety
/// `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let Some(mut state) = STATE.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the arguments are the caller's.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as ssize_t;
    };
    if length == 0 || buffer.is_null() {
        return 0;
    }
    // SAFETY: the caller promises `length` bytes at `buffer`.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for part in bytes.chunks_mut(8) {
        let number = next(&mut state).to_le_bytes();
        part.copy_from_slice(&number[..part.len()]);
    }
    STATE.set(Some(state));
    length as ssize_t
}
