//! Memory that loading leaves behind.
#![allow(unsafe_code)]

/// Gives the system back what the C allocator keeps of freed memory.
///
/// ONNX Runtime parses a model on the C heap and frees most of it in the middle of what stays, which glibc then keeps for good:
/// 160 MB after a model of 100 MB. It takes some milliseconds by 100 MB and blocks other users of that heap meanwhile, so it is
/// for after a large load, not for every request.
pub fn release_unused_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes no pointer and may be called at any time from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
