//! The allocator with a bound: what the machine cannot hold is refused, before the kernel ends the whole process.
//!
//! Only large allocations are counted, which are tensors and files; the small ones cost nothing more. A refused tensor
//! is a panic that costs its own request or load; a refused `Vec` still ends the process, as running out of memory does.
#![expect(
    unsafe_code,
    reason = "GlobalAlloc is an unsafe trait, whose calls are handed on unchanged; three functions of C with plain \
              numbers for arguments"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_long};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

// Linked also where nothing allocates with it.
use mimalloc as _;

unsafe extern "C" {
    safe fn mi_collect(force: bool);
    safe fn mi_option_set(option: c_int, value: c_long);
    #[cfg(target_env = "gnu")]
    safe fn malloc_trim(kept: usize) -> c_int;
}

/// mimalloc's `mi_option_purge_delay`, which is a second unless it is set. Large requests come and go faster than that:
/// what they leave is then taken once more before it is given back. Were it given back much sooner, runs whose sizes
/// change would take their memory anew each time.
const PURGE_DELAY: c_int = 15;
const PURGE_DELAY_MS: c_long = 100;

/// From how many bytes on an allocation is counted.
const LARGE: usize = 1 << 20;

/// The bytes of large allocations that are held, and how many may be.
static HELD: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static HAS_REFUSED: AtomicBool = AtomicBool::new(false);

/// An allocator that refuses large allocations beyond the limit.
pub struct Bounded<A>(pub A);

/// Sets how many bytes the large allocations of this process may take together.
pub fn set_limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// How many bytes more the large allocations may take.
pub fn left() -> usize {
    let limit = LIMIT.load(Ordering::Relaxed);
    limit.saturating_sub(HELD.load(Ordering::Relaxed))
}

/// Notes that an allocator other than this one, a library's own, was refused memory.
pub fn note_refusal() {
    HAS_REFUSED.store(true, Ordering::Relaxed);
}

/// Whether anything was refused so far.
pub fn has_refused() -> bool {
    HAS_REFUSED.load(Ordering::Relaxed)
}

/// Lets what is freed go back to the system soon.
pub fn keep_little() {
    mi_option_set(PURGE_DELAY, PURGE_DELAY_MS);
}

/// Gives back to the system what this process, and the libraries in it, no longer hold: after something large was
/// loaded or dropped. The allocators by themselves keep it until much else has been allocated, or for good.
pub fn give_back() {
    mi_collect(true);
    #[cfg(target_env = "gnu")]
    malloc_trim(0);
}

fn reserve(bytes: usize) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    let fitting = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
    // Counted only when it fits: what is refused must not stand in the way of others for a moment.
    let fits = HELD
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fitting)
        .is_ok();
    if !fits {
        HAS_REFUSED.store(true, Ordering::Relaxed);
    }
    fits
}

fn release(bytes: usize) {
    HELD.fetch_sub(bytes, Ordering::Relaxed);
}

/// What is counted of an allocation of this size.
fn counted(bytes: usize) -> usize {
    if bytes < LARGE { 0 } else { bytes }
}

fn allocate(bytes: usize, allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    let bytes = counted(bytes);
    if bytes == 0 {
        return allocate();
    }
    if !reserve(bytes) {
        return ptr::null_mut();
    }
    let allocated = allocate();
    if allocated.is_null() {
        release(bytes);
    }
    allocated
}

// SAFETY: the allocator within keeps the trait's promises, and every block is handed to it with the layout and through
// the method that it was asked for; a null pointer in its place is what the trait allows.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Bounded<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps what the trait asks of `layout`.
        allocate(layout.size(), || unsafe { self.0.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps what the trait asks of `layout`.
        allocate(layout.size(), || unsafe { self.0.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a block of this allocator with its layout.
        unsafe { self.0.dealloc(block, layout) };
        release(counted(layout.size()));
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (before, after) = (counted(layout.size()), counted(size));
        if after > 0 && !reserve(after) {
            return ptr::null_mut();
        }
        // SAFETY: the caller keeps what the trait asks of the block, its layout and the new size.
        let moved = unsafe { self.0.realloc(block, layout, size) };
        release(if moved.is_null() { after } else { before });
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_given_back_makes_place() {
        let allocator = Bounded(System);
        let layout = |bytes| Layout::from_size_align(bytes, 8).expect("a small alignment");
        set_limit(4 * LARGE);
        // SAFETY: each block is given back once, with the layout that it has by then.
        unsafe {
            let first = allocator.alloc(layout(3 * LARGE));
            assert!(!first.is_null());
            assert!(allocator.alloc(layout(2 * LARGE)).is_null());
            assert!(
                allocator
                    .realloc(first, layout(3 * LARGE), 5 * LARGE)
                    .is_null()
            );
            let small = allocator.alloc(layout(LARGE - 1));
            assert!(!small.is_null(), "small ones are not counted");
            allocator.dealloc(small, layout(LARGE - 1));
            assert_eq!(left(), LARGE);
            allocator.dealloc(first, layout(3 * LARGE));
            let second = allocator.alloc_zeroed(layout(4 * LARGE));
            assert!(!second.is_null());
            let second = allocator.realloc(second, layout(4 * LARGE), 16);
            allocator.dealloc(second, layout(16));
        }
        assert_eq!(HELD.load(Ordering::Relaxed), 0);
        set_limit(usize::MAX);
    }
}
