//! The process's allocator: mimalloc, asked for no more than is needed.
//!
//! Its own binding asks with an alignment for every block. Where the size is no power of two, mimalloc then takes a block that is
//! larger by it, so as to move the block's start: 48 bytes became 64, one size class lost for each user that is connected. All
//! alignments that Rust asks for here are those that every block of mimalloc has anyway.
use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use std::alloc::{GlobalAlloc, Layout};

/// To be made the program's `#[global_allocator]`.
pub struct Allocator;

/// What every block of mimalloc is aligned to, if it is as large as that: MI_MAX_ALIGN_SIZE, bytes.
const NATURAL: usize = 16;

/// A block of this layout is aligned without asking. Of small ones mimalloc aligns only to their size.
fn is_natural(layout: Layout) -> bool {
    layout.align() <= NATURAL && layout.align() <= layout.size()
}

// SAFETY: mimalloc's functions do what the trait asks: blocks are of at least the size and, by `is_natural` or on request, of the
// alignment; they stay until they are freed; failures are null pointers; none unwinds. Blocks of one kind may be freed and
// reallocated as of the other.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the functions can be called with any size, and with alignments that are powers of two, as a layout's are.
        unsafe {
            match is_natural(layout) {
                true => mi_malloc(layout.size()).cast(),
                false => mi_malloc_aligned(layout.size(), layout.align()).cast(),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe {
            match is_natural(layout) {
                true => mi_zalloc(layout.size()).cast(),
                false => mi_zalloc_aligned(layout.size(), layout.align()).cast(),
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: the caller's promise: it came from here and is not used any more.
        unsafe { mi_free(pointer.cast()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: it came from here; the old block is not used any more unless this fails.
        unsafe {
            match layout.align() <= NATURAL.min(new_size) {
                true => mi_realloc(pointer.cast(), new_size).cast(),
                false => mi_realloc_aligned(pointer.cast(), new_size, layout.align()).cast(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmimalloc_sys::mi_usable_size;

    /// Of all sizes and alignments; what is written stays when the block moves.
    #[test]
    fn blocks_are_aligned_and_keep_what_is_in_them() {
        for size in (1..600).chain([1_000, 4_096, 70_000]) {
            for align in [1, 2, 4, 8, 16, 32, 64, 4_096] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                // SAFETY: the size is not 0; the block is written within its size, and freed with its layout.
                unsafe {
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert!(zeroed.addr().is_multiple_of(align) && (0..size).all(|at| *zeroed.add(at) == 0));
                    let block = Allocator.alloc(layout);
                    assert!(block.addr().is_multiple_of(align), "{layout:?}");
                    block.write_bytes(7, size);
                    let larger = Layout::from_size_align(size * 2 + 1, align).expect("a layout");
                    let block = Allocator.realloc(block, layout, larger.size());
                    assert!(
                        block.addr().is_multiple_of(align) && (0..size).all(|at| *block.add(at) == 7),
                        "{layout:?}"
                    );
                    let block = Allocator.realloc(block, larger, size);
                    assert!(
                        block.addr().is_multiple_of(align) && (0..size).all(|at| *block.add(at) == 7),
                        "{layout:?}"
                    );
                    Allocator.dealloc(block, layout);
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }

    #[test]
    fn a_user_takes_its_own_size() {
        let layout = Layout::from_size_align(48, 8).expect("a layout");
        // SAFETY: the block is only measured, and freed with its layout.
        unsafe {
            let block = Allocator.alloc(layout);
            assert_eq!(mi_usable_size(block.cast()), 48);
            Allocator.dealloc(block, layout);
        }
    }
}
