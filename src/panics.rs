//! Handles panics.
//!
//! If a thread that has called [`mark_fatal`] panics, the process ends. The hook of [`install`] starts that at once, before
//! the stack is unwound, because destructors can wait for brokers. The hook ignores panics inside [`contain`]: the caller
//! reports them. A panic in any other thread is logged.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::task::Poll;
use std::thread;

thread_local! {
    /// The part of the process that cannot run without this thread.
    static FATAL: Cell<Option<&'static str>> = const { Cell::new(None) };
    /// The number of calls of [`contain`] on this thread's stack.
    static CONTAINED: Cell<usize> = const { Cell::new(0) };
}

/// Ends the process if the current thread panics from now on. `part` is the role that the thread belongs to, or
/// `process`.
pub fn mark_fatal(part: &'static str) {
    FATAL.set(Some(part));
}

/// Calls `work` and returns its result. A panic is not logged.
///
/// # Errors
/// Returns the payload of the panic if `work` panics.
pub fn contain<T>(work: impl FnOnce() -> T) -> thread::Result<T> {
    CONTAINED.set(CONTAINED.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(CONTAINED.get() - 1);
    result
}

/// Calls `work` and returns its result. A panic is logged, and it is not fatal even on a marked thread.
///
/// # Errors
/// Returns the payload of the panic if `work` panics.
pub fn survive<T>(work: impl FnOnce() -> T) -> thread::Result<T> {
    let part = FATAL.take();
    let result = catch_unwind(AssertUnwindSafe(work));
    FATAL.set(part);
    result
}

/// Awaits `work` and returns its result. A panic is logged, and it is not fatal even on a marked thread.
///
/// # Errors
/// Returns the payload of the panic if `work` panics.
pub async fn survive_future<T>(work: impl Future<Output = T>) -> thread::Result<T> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| match survive(|| work.as_mut().poll(context)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Replaces the process's panic hook. `on_fatal` is called on a marked thread that panics, with the part that it was marked
/// with.
pub fn install(on_fatal: impl Fn(&'static str) + Send + Sync + 'static) {
    set_hook(Box::new(move |panic| {
        if CONTAINED.get() > 0 {
            return;
        }
        log_panic(panic);
        if let Some(part) = FATAL.get() {
            on_fatal(part);
        }
    }));
}

/// Logs the location of a panic. The message is logged only if it is a literal, because a formatted one can contain text of
/// a record.
fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let message = literal_message(info.payload().downcast_ref());
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    tracing::error!(
        thread,
        location,
        panic = message,
        "a thread panicked: a fault of this program{backtrace}"
    );
}

fn literal_message(message: Option<&&'static str>) -> &'static str {
    message
        .copied()
        .unwrap_or("not logged, because it can hold text of a record; RUST_BACKTRACE=1 logs the calls")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The only test that replaces the hook, because the process has only one.
    #[test]
    fn only_an_uncontained_panic_of_a_marked_thread_is_fatal() {
        static FATAL_PANICS: AtomicUsize = AtomicUsize::new(0);
        let before = std::panic::take_hook();
        install(|part| {
            if part == "tested" {
                FATAL_PANICS.fetch_add(1, Ordering::SeqCst);
            }
        });
        let panics = |marked: bool, contained: bool| {
            let run = move || {
                if marked {
                    mark_fatal("tested");
                }
                if contained {
                    assert!(contain(|| panic!("contained on purpose")).is_err());
                } else {
                    panic!("on purpose");
                }
            };
            let ended = thread::spawn(run).join();
            assert_eq!(ended.is_ok(), contained);
            FATAL_PANICS.load(Ordering::SeqCst)
        };
        assert_eq!(panics(false, false), 0);
        assert_eq!(panics(true, true), 0);
        assert_eq!(panics(true, false), 1);
        let survived = thread::spawn(|| {
            mark_fatal("tested");
            assert!(survive(|| panic!("survived on purpose")).is_err());
            FATAL.get()
        });
        assert_eq!((survived.join().unwrap(), FATAL_PANICS.load(Ordering::SeqCst)), (Some("tested"), 1));
        set_hook(before);
    }

    #[test]
    fn a_future_that_panics_is_survived() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failing = std::future::poll_fn(|_| -> Poll<()> { panic!("on purpose") });
        assert!(runtime.block_on(survive_future(failing)).is_err());
        assert_eq!(runtime.block_on(survive_future(async { 7 })).ok(), Some(7));
    }

    #[test]
    fn a_formatted_message_is_not_logged() {
        let secret = contain(|| panic!("{}", "the text of a record")).unwrap_err();
        assert!(!literal_message(secret.downcast_ref()).contains("the text"));
        let plain = contain(|| panic!("a literal")).unwrap_err();
        assert_eq!(literal_message(plain.downcast_ref()), "a literal");
    }
}
