//! The program under test: the same `main` and allocator as the one binary's, with a hook that some recipients are poison to.

use std::process::ExitCode;
use std::sync::Arc;

use delivery::Hook;
use model::Job;
use postrider::Additions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Panics at a job to `poison-panic@…`, and ends the process at one to `poison-abort@…`.
struct Poison;

impl Hook for Poison {
    fn before_attempt(&self, job: &Job) {
        let recipient = job.recipient.to_string();
        if recipient.starts_with("poison-panic@") {
            // A panic that prints nothing: what stands in a log and is not a log line fails a test.
            std::panic::resume_unwind(Box::new("poison"));
        }
        if recipient.starts_with("poison-abort@") {
            std::process::abort();
        }
    }
}

fn main() -> ExitCode {
    #[cfg(feature = "sabotage")]
    sabotage();
    postrider::main_with(Additions {
        hook: Some(Arc::new(Poison)),
    })
}

/// Breaks the promise that `POSTRIDER_SABOTAGE` names.
#[cfg(feature = "sabotage")]
fn sabotage() {
    let Some(name) = runtime::environment("POSTRIDER_SABOTAGE") else {
        return;
    };
    let all = model::Sabotage::ALL.into_iter();
    let chosen = all.filter(|sabotage| format!("{sabotage:?}") == name);
    chosen.for_each(model::Sabotage::choose);
}
