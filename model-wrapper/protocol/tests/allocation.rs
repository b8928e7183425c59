//! Memory stays in proportion to the body, whatever the body says. Alone in its process, for it counts every allocation.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use model_wrapper_protocol::{
    DataType, Limits, ModelMetadata, TensorMetadata,
    grpc::{ModelInferRequest, read},
    v1, v2,
};

struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(USED.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that `work` had at a time.
fn peak(work: impl FnOnce()) -> usize {
    let before = USED.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed) - before
}

/// Bytes of memory for one of the body, and a little for what does not depend on it. The dearest honest case is a tensor of BYTES,
/// whose empty strings take three bytes of the body and 32 of memory, and half as many again while the vector grows.
const PER_BYTE: usize = 24;
const FIXED: usize = 64 << 10;

fn v2_body(input: &str, data: usize) -> (Bytes, usize) {
    let json = format!("{{\"inputs\":[{input}]}}");
    let length = json.len();
    let mut body = json.into_bytes();
    body.resize(length + data, 0);
    (body.into(), length)
}

fn model(datatype: DataType) -> ModelMetadata {
    let x = TensorMetadata { name: "x".into(), datatype, shape: vec![-1] };
    ModelMetadata {
        name: "m".into(),
        versions: Vec::new(),
        platform: "fake_platform".into(),
        inputs: vec![x.clone()],
        outputs: vec![x],
        optional_inputs: Vec::new(),
        properties: Vec::new(),
    }
}

#[test]
fn memory_is_in_proportion_to_the_body() {
    let limits = Limits::default();
    let huge = 1_u64 << 60;
    let v2_bodies = [
        v2_body(&format!(r#"{{"name":"x","shape":[{huge}],"datatype":"FP64","data":[1]}}"#), 0),
        v2_body(&format!(r#"{{"name":"x","shape":[{huge}],"datatype":"BYTES","data":["a"]}}"#), 0),
        v2_body(
            &format!(r#"{{"name":"x","shape":[{huge}],"datatype":"FP64","parameters":{{"binary_data_size":{huge}}}}}"#),
            0,
        ),
        v2_body(
            r#"{"name":"x","shape":[1048576],"datatype":"BYTES","parameters":{"binary_data_size":400000}}"#,
            400_000,
        ),
        v2_body(&format!(r#"{{"name":"x","shape":[{}1],"datatype":"FP64","data":[1]}}"#, "1,".repeat(200_000)), 0),
        v2_body(&format!(r#"{{"name":"x","shape":[200000],"datatype":"FP64","data":[{}1]}}"#, "1,".repeat(199_999)), 0),
        v2_body(
            &format!(
                r#"{{"name":"x","shape":[{huge}],"datatype":"FP64","data":{}{}}}"#,
                "[".repeat(200_000),
                "]".repeat(200_000)
            ),
            0,
        ),
        v2_body(&vec![r#"{"name":"x","shape":[0],"datatype":"FP64","data":[]}"#; 5000].join(","), 0),
    ];
    for (body, length) in &v2_bodies {
        let peak = peak(|| drop(v2::decode(body, Some(*length), &limits)));
        let allowed = body.len() * PER_BYTE + FIXED;
        assert!(peak <= allowed, "{peak} bytes for a body of {}: {:?}", body.len(), &body[..100.min(body.len())]);
    }

    let v1_bodies = [
        (DataType::Fp64, format!(r#"{{"instances":[{}1]}}"#, "1,".repeat(200_000))),
        (DataType::Bytes, format!(r#"{{"instances":[{}""]}}"#, "\"\",".repeat(100_000))),
        (DataType::Fp32, format!(r#"{{"instances":[{}{{}}]}}"#, "{},".repeat(100_000))),
        (DataType::Fp32, format!(r#"{{"inputs":{{{}"x":1}}}}"#, "\"\":1,".repeat(100_000))),
    ];
    for (datatype, body) in &v1_bodies {
        let peak = peak(|| drop(v1::decode(body.as_bytes(), &model(*datatype), &limits)));
        assert!(peak <= body.len() * PER_BYTE + FIXED, "{peak} bytes for a body of {}: {}", body.len(), &body[..60]);
    }

    // 200,000 empty tensors (field 5, length 0).
    let message = Bytes::from([0x2a, 0].repeat(200_000));
    let mut refused = false;
    let peak = peak(|| refused = read::<ModelInferRequest>(message.clone()).is_err());
    assert!(refused);
    assert!(peak <= FIXED, "{peak} bytes for a message of {}", message.len());
}
