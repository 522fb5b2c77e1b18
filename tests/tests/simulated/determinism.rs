//! One source of randomness and wall-clock time for a simulated world, so that a seed always gives the same run.
//!
//! The standard library, `rand` and others ask the C library for random octets and the time. Where a test executable defines
//! these two functions itself, it is asked instead. On a thread that simulates nothing, the kernel answers as ever.
#![allow(unsafe_code)] // The C library's getrandom(2) and clock_gettime(2) are stood in for, and called where nothing is simulated.

use std::{cell::Cell, ffi::c_void, time::Duration};

use nix::libc::{
    self, CLOCK_REALTIME, SYS_clock_gettime, SYS_getrandom, c_int, c_uint, clockid_t, size_t, ssize_t,
    timespec,
};

thread_local! {
    static CHANCE: Cell<Option<u64>> = const { Cell::new(None) };
    static WALL: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// From now on, all chance on this thread comes from `seed`, and its wall clock stands where [`set_wall_clock`] sets it.
pub fn begin(seed: u64) {
    CHANCE.set(Some(seed));
}

/// Sets this thread's wall clock, in time since 1970.
pub fn set_wall_clock(since_epoch: Duration) {
    WALL.set(Some(since_epoch));
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for keys of hash tables and seeds of generators.
fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, mixed ^ (mixed >> 31))
}

/// # Safety
/// As getrandom(2): `buffer` has room for `length` octets.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let Some(mut state) = CHANCE.get() else {
        return unsafe { libc::syscall(SYS_getrandom, buffer, length, flags) as ssize_t };
    };
    let octets = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in octets.chunks_mut(8) {
        let drawn;
        (state, drawn) = next(state);
        chunk.copy_from_slice(&drawn.to_le_bytes()[..chunk.len()]);
    }
    CHANCE.set(Some(state));
    length as ssize_t
}

/// # Safety
/// As clock_gettime(2): `time` has room for a timespec.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    match WALL.get() {
        Some(wall) if clock == CLOCK_REALTIME => {
            let (seconds, nanos) = (wall.as_secs() as i64, i64::from(wall.subsec_nanos()));
            unsafe { time.write(timespec { tv_sec: seconds, tv_nsec: nanos }) };
            0
        }
        _ => unsafe { libc::syscall(SYS_clock_gettime, clock, time) as c_int },
    }
}
