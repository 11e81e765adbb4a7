//! Gives ONNX Runtime its memory from this process's own allocator, so that no run waits for another one's.
//!
//! Its own arena has one lock for each session, which all workers share: small models ran up to four times slower for
//! it. And what it takes here is bounded like everything else.
#![expect(
    unsafe_code,
    reason = "the callbacks of OrtAllocator, which hand blocks on to the global allocator with their layout in front"
)]

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::c_void;
use std::mem::transmute;
use std::ptr;

use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::sys::{ORT_API_VERSION, OrtAllocator, OrtMemoryInfo};

/// What its kernels ask of a block: a cache line, and on ARM64 that up to 30 bytes past its end can be read.
const ALIGNMENT: usize = 64;
const PAST_THE_END: usize = 32;

/// Stands in front of every block, with the layout to give it back with.
const HEADER: usize = ALIGNMENT;
const _: () = assert!(size_of::<Layout>() <= HEADER && align_of::<Layout>() <= ALIGNMENT);

/// What ONNX Runtime is given. It calls these functions with the address of the table, which comes first.
#[repr(C)]
struct Allocator {
    table: OrtAllocator,
    info: MemoryInfo<'static>,
    /// ONNX Runtime's own, which tells it in its way that there is no memory.
    own: *mut OrtAllocator,
}

type Alloc = unsafe extern "system" fn(*mut OrtAllocator, usize) -> *mut c_void;
/// The same function, but that C++ may throw through it.
type AllocOrThrow = unsafe extern "system-unwind" fn(*mut OrtAllocator, usize) -> *mut c_void;

/// Makes this the allocator of all sessions that ask for the environment's.
pub fn register(environment: &Environment) -> ort::Result<()> {
    let info = MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Device,
        MemoryType::Default,
    )?;
    let mut own = ptr::null_mut();
    // SAFETY: it writes a pointer to an allocator that lives as long as the library, which is never closed.
    let status = unsafe { (ort::api().GetAllocatorWithDefaultOptions)(&raw mut own) };
    // SAFETY: the status was just returned, and is used once.
    unsafe { ort::Error::result_from_status(status) }?;
    // SAFETY: the two differ in whether unwinding may pass, and ONNX Runtime, which is C++, lets it.
    let give = unsafe { transmute::<AllocOrThrow, Alloc>(give) };
    let table = OrtAllocator {
        version: ORT_API_VERSION,
        Alloc: Some(give),
        Free: Some(take_back),
        Info: Some(describe),
        Reserve: None,
    };
    // Never freed: values may be given back as long as the process lives.
    let allocator = Box::leak(Box::new(Allocator { table, info, own }));
    // SAFETY: both pointers are to what lives as long as the process, and the table is filled in for the version it names.
    let status = unsafe {
        let environment = environment.ptr().cast_mut();
        (ort::api().RegisterAllocator)(environment, ptr::from_mut(allocator).cast())
    };
    // SAFETY: the status was just returned, and is used once.
    unsafe { ort::Error::result_from_status(status) }
}

/// The layout of a block with its header.
fn layout(bytes: usize) -> Option<Layout> {
    let whole = bytes.checked_add(HEADER + PAST_THE_END)?;
    let layout = Layout::from_size_align(whole, ALIGNMENT).ok()?;
    Some(layout.pad_to_align())
}

/// A block of that many bytes; none for no bytes, as ONNX Runtime's own gives.
unsafe extern "system-unwind" fn give(this: *mut OrtAllocator, bytes: usize) -> *mut c_void {
    if bytes == 0 {
        return ptr::null_mut();
    }
    // SAFETY: the layout is larger than nothing.
    let place = layout(bytes).map(|layout| (layout, unsafe { alloc(layout) }));
    match place {
        Some((layout, whole)) if !whole.is_null() => {
            // SAFETY: the header is within the block and as aligned as the block is.
            unsafe {
                whole.cast::<Layout>().write(layout);
                whole.add(HEADER).cast()
            }
        }
        // SAFETY: ONNX Runtime calls this with the table that it was given.
        _ => unsafe { refuse(&*this.cast::<Allocator>()) },
    }
}

/// Lets ONNX Runtime's own allocator fail, which throws. Null would be written to: few of its kernels look.
unsafe fn refuse(allocator: &Allocator) -> *mut c_void {
    const IMPOSSIBLE: usize = isize::MAX as usize;
    // SAFETY: the table of its own allocator is complete and lives as long as the library. The function is C++, which
    // may throw, through this function and the one above, which hold nothing that would have to be dropped.
    unsafe {
        let Some(give) = (*allocator.own).Alloc else {
            return ptr::null_mut();
        };
        transmute::<Alloc, AllocOrThrow>(give)(allocator.own, IMPOSSIBLE)
    }
}

unsafe extern "system" fn take_back(_: *mut OrtAllocator, block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: ONNX Runtime gives back, once, what `give` has given, which has its layout in front.
    unsafe {
        let whole = block.cast::<u8>().sub(HEADER);
        dealloc(whole, whole.cast::<Layout>().read());
    }
}

unsafe extern "system" fn describe(this: *const OrtAllocator) -> *const OrtMemoryInfo {
    // SAFETY: ONNX Runtime calls this with the table that it was given, which is never freed.
    unsafe { (*this.cast::<Allocator>()).info.ptr() }
}
