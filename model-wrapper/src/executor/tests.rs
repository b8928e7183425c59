use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use model_wrapper_protocol::{Cancel, DataType, ModelMetadata, TensorData, TensorMetadata};
use parking_lot::Condvar;
use prometheus::Registry;

use super::*;

const SOON: Duration = Duration::from_secs(30);

/// A model of a row of bytes that answers its input. It can be held in its run, counts its runs and ends when cancelled.
#[derive(Clone, Default)]
struct FakeModel {
    control: Arc<Control>,
    metadata: Option<ModelMetadata>,
    behaviour: Behaviour,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Behaviour {
    #[default]
    Echo,
    /// Panics in its first run.
    PanicFirst,
    /// Answers one row whatever goes in.
    MixRows,
}

#[derive(Default)]
struct Control {
    /// Runs that may go on; none: all.
    passes: Mutex<Option<usize>>,
    released: Condvar,
    cancelled: AtomicBool,
    runs: AtomicUsize,
    rows: Mutex<Vec<usize>>,
    threads: Mutex<Vec<std::thread::ThreadId>>,
}

impl Backend for FakeModel {
    fn metadata(&self) -> &ModelMetadata {
        self.metadata.as_ref().expect("made by `model`")
    }

    fn arm(&mut self) {
        self.control.cancelled.store(false, Ordering::SeqCst);
    }

    fn run(&mut self, inputs: &[Tensor], _: &[String]) -> Result<Vec<Tensor>, InferError> {
        let control = &self.control;
        let earlier = control.runs.fetch_add(1, Ordering::SeqCst);
        control.rows.lock().push(inputs[0].shape[0]);
        control.threads.lock().push(std::thread::current().id());
        let mut passes = control.passes.lock();
        while *passes == Some(0) && !control.cancelled.load(Ordering::SeqCst) {
            control.released.wait(&mut passes);
        }
        *passes = passes.map(|left| left.saturating_sub(1));
        drop(passes);
        if control.cancelled.load(Ordering::SeqCst) {
            return Err(InferError::Cancelled);
        }
        match self.behaviour {
            Behaviour::PanicFirst if earlier == 0 => panic!("a fake failure"),
            Behaviour::Echo | Behaviour::PanicFirst => Ok(inputs.to_vec()),
            Behaviour::MixRows => Ok(vec![tensor(1, 9)]),
        }
    }

    fn canceller(&self) -> Arc<dyn Cancel> {
        self.control.clone()
    }
}

impl Cancel for Control {
    fn cancel(&self) {
        let _passes = self.passes.lock();
        self.cancelled.store(true, Ordering::SeqCst);
        self.released.notify_all();
    }
}

impl Control {
    fn hold(&self) {
        self.pass(Some(0));
    }

    fn release(&self) {
        self.pass(None);
    }

    fn pass(&self, runs: Option<usize>) {
        *self.passes.lock() = runs;
        self.released.notify_all();
    }

    async fn ran(&self, runs: usize) {
        let deadline = Instant::now() + SOON;
        while self.runs.load(Ordering::SeqCst) < runs {
            assert!(Instant::now() < deadline, "only {:?} runs", self.runs);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn model(behaviour: Behaviour) -> FakeModel {
    let tensor = |name: &str| TensorMetadata { name: name.into(), datatype: DataType::Uint8, shape: vec![-1, 1] };
    let metadata = ModelMetadata {
        name: "fake".into(),
        versions: vec!["1".into()],
        platform: "fake".into(),
        inputs: vec![tensor("x")],
        outputs: vec![tensor("x")],
        optional_inputs: Vec::new(),
        properties: vec![],
    };
    FakeModel { metadata: Some(metadata), behaviour, ..FakeModel::default() }
}

fn tensor(rows: usize, content: u8) -> Tensor {
    Tensor {
        name: "x".into(),
        datatype: DataType::Uint8,
        shape: vec![rows, 1],
        data: TensorData::Fixed(Bytes::from(vec![content; rows])),
    }
}

fn request(content: u8) -> InferRequest {
    InferRequest { inputs: vec![tensor(1, content)], ..InferRequest::default() }
}

fn start(model: &FakeModel, queue_length: usize, batching: Option<Batching>) -> Arc<Executor> {
    let metrics = WrapperMetrics::register(&Registry::new()).unwrap();
    let settings = ExecutorSettings { queue_length, batching };
    Arc::new(Executor::start(Box::new(model.clone()), settings, metrics).unwrap())
}

fn send(executor: &Arc<Executor>, content: u8, within: Duration) -> tokio::task::JoinHandle<Outcome> {
    let executor = executor.clone();
    tokio::spawn(async move { executor.infer(request(content), Instant::now() + within).await })
}

async fn queued(executor: &Executor, length: usize) {
    let deadline = Instant::now() + SOON;
    while executor.shared.lock().queue.len() != length {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn each_caller_gets_its_own_answer() {
    let executor = start(&model(Behaviour::Echo), 100, None);
    let answers: Vec<_> = (0..50).map(|content| send(&executor, content, SOON)).collect();
    for (content, answer) in answers.into_iter().enumerate() {
        let (outputs, _) = answer.await.unwrap().unwrap();
        assert_eq!(outputs, [tensor(1, content as u8)]);
    }
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let fake = model(Behaviour::Echo);
    fake.control.hold();
    let executor = start(&fake, 2, None);
    let running = send(&executor, 0, SOON);
    fake.control.ran(1).await;
    let waiting = [send(&executor, 1, SOON), send(&executor, 2, SOON)];
    queued(&executor, 2).await;
    let refused = executor.infer(request(3), Instant::now() + SOON).await;
    assert_eq!(refused, Err(InferError::Busy { limit: 2 }));
    fake.control.release();
    assert!(running.await.unwrap().is_ok());
    for answer in waiting {
        let (_, timings) = answer.await.unwrap().unwrap();
        assert!(timings.queue > Duration::ZERO);
    }
}

#[tokio::test]
async fn a_deadline_ends_waiting_and_running() {
    let fake = model(Behaviour::Echo);
    fake.control.hold();
    let executor = start(&fake, 10, None);
    let running = send(&executor, 0, Duration::from_millis(100));
    fake.control.ran(1).await;
    let waiting = send(&executor, 1, Duration::from_millis(20));
    assert_eq!(waiting.await.unwrap(), Err(InferError::DeadlineExceeded));
    queued(&executor, 0).await;
    assert_eq!(running.await.unwrap(), Err(InferError::DeadlineExceeded));
    fake.control.release();
    assert!(executor.infer(request(2), Instant::now() + SOON).await.is_ok());
    assert_eq!(fake.control.runs.load(Ordering::SeqCst), 2);
    let late = executor.infer(request(3), Instant::now()).await;
    assert_eq!(late, Err(InferError::DeadlineExceeded));
}

#[tokio::test]
async fn a_caller_that_leaves_is_forgotten_or_cancelled() {
    let fake = model(Behaviour::Echo);
    fake.control.hold();
    let executor = start(&fake, 10, None);
    let running = send(&executor, 0, SOON);
    fake.control.ran(1).await;
    let waiting = send(&executor, 1, SOON);
    queued(&executor, 1).await;
    waiting.abort();
    queued(&executor, 0).await;
    assert!(!fake.control.cancelled.load(Ordering::SeqCst));
    running.abort();
    // Only a cancelled run makes way for this one: the model is still held.
    let next = send(&executor, 2, SOON);
    fake.control.ran(2).await;
    fake.control.release();
    assert!(next.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_panic_costs_its_request_only() {
    let executor = start(&model(Behaviour::PanicFirst), 10, None);
    let failed = executor.infer(request(0), Instant::now() + SOON).await.unwrap_err();
    assert_eq!(failed.reason(), "internal");
    assert!(executor.infer(request(0), Instant::now() + SOON).await.is_ok());
}

#[tokio::test]
async fn requests_that_wait_run_as_one_batch() {
    let fake = model(Behaviour::Echo);
    fake.control.hold();
    let batching = Batching { max_rows: 4, window: Duration::ZERO };
    let executor = start(&fake, 100, Some(batching));
    let mut answers = vec![send(&executor, 0, SOON)];
    fake.control.ran(1).await;
    answers.extend((1..=6).map(|content| send(&executor, content, SOON)));
    queued(&executor, 6).await;
    fake.control.release();
    for (content, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().unwrap().0, [tensor(1, content as u8)]);
    }
    assert_eq!(*fake.control.rows.lock(), [1, 4, 2]);
}

#[tokio::test]
async fn one_leaver_does_not_cancel_the_others_of_its_batch() {
    let fake = model(Behaviour::Echo);
    fake.control.hold();
    let executor = start(&fake, 100, Some(Batching { max_rows: 4, window: Duration::ZERO }));
    let first = send(&executor, 0, SOON);
    fake.control.ran(1).await;
    let batch: Vec<_> = (1..=2).map(|content| send(&executor, content, SOON)).collect();
    queued(&executor, 2).await;
    fake.control.pass(Some(1));
    first.await.unwrap().unwrap();
    fake.control.ran(2).await;
    batch[0].abort();
    let deadline = Instant::now() + SOON;
    while executor.shared.lock().running.len() != 1 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fake.control.release();
    let stays = batch.into_iter().nth(1).unwrap();
    assert_eq!(stays.await.unwrap().unwrap().0, [tensor(1, 2)]);
}

#[tokio::test]
async fn a_model_that_mixes_rows_is_not_batched_again() {
    let fake = model(Behaviour::MixRows);
    fake.control.hold();
    let executor = start(&fake, 100, Some(Batching { max_rows: 8, window: Duration::ZERO }));
    let mut answers = vec![send(&executor, 0, SOON)];
    fake.control.ran(1).await;
    answers.extend((1..=3).map(|content| send(&executor, content, SOON)));
    queued(&executor, 3).await;
    fake.control.release();
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap().0, [tensor(1, 9)]);
    }
    assert_eq!(*fake.control.rows.lock(), [1, 3, 1, 1, 1]);
    assert!(executor.shared.lock().window.is_none());
}

#[tokio::test]
async fn a_brief_model_runs_where_it_is_called_and_its_deadline_is_watched() {
    let fake = model(Behaviour::Echo);
    let executor = start(&fake, 10, None);
    let here = std::thread::current().id();
    let deadline = Instant::now() + SOON;
    // How many it takes depends on how long the first runs took on this machine.
    while !fake.control.threads.lock().contains(&here) {
        assert!(Instant::now() < deadline, "it never ran here");
        executor.infer(request(1), Instant::now() + SOON).await.unwrap();
    }
    fake.control.threads.lock().clear();
    fake.control.hold();
    let stuck = executor.infer(request(1), Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(stuck, Err(InferError::DeadlineExceeded));
    fake.control.release();
    executor.infer(request(1), Instant::now() + SOON).await.unwrap();
    let threads = fake.control.threads.lock();
    assert!(threads[0] == here || threads[1] == here, "{threads:?}");
    assert_ne!(threads[1], here, "a run of 20 ms is not brief");
}

#[tokio::test]
async fn dropped_while_it_runs_it_ends() {
    let fake = model(Behaviour::Echo);
    fake.control.hold();
    let executor = start(&fake, 10, None);
    let running = send(&executor, 0, SOON);
    fake.control.ran(1).await;
    executor.shared.close();
    assert_eq!(running.await.unwrap(), Err(InferError::Cancelled));
}
