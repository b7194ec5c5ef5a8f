//! The proof that the daemon's loop turns: whoever wants to know wakes it, and it answers in its next
//! turn. So it turns when it is asked to, and never for the proof alone.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How many may wait for an answer; who comes on top of them waits to be let in.
const QUEUE: usize = 16;

/// The loop's end.
#[derive(Debug)]
pub struct Pulse {
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// The end of those who ask.
#[derive(Clone, Debug)]
pub struct Hand {
    ask: mpsc::Sender<oneshot::Sender<()>>,
}

/// Both ends.
pub fn pulse() -> (Pulse, Hand) {
    let (ask, asked) = mpsc::channel(QUEUE);
    (Pulse { asked }, Hand { ask })
}

impl Pulse {
    /// Waits until somebody asks, and answers. Cancel-safe.
    pub async fn asked(&mut self) {
        match self.asked.recv().await {
            // Who gave up waiting needs no answer.
            Some(answer) => drop(answer.send(())),
            None => std::future::pending().await,
        }
    }

    /// Answers all who wait: a turn for another reason is a turn.
    pub fn beat(&mut self) {
        while let Ok(answer) = self.asked.try_recv() {
            let _ = answer.send(());
        }
    }
}

impl Hand {
    /// Whether the loop turns within this time.
    pub async fn feels(&self, patience: Duration) -> bool {
        let turned = async {
            let (answer, turned) = oneshot::channel();
            self.ask.send(answer).await.is_ok() && turned.await.is_ok()
        };
        timeout(patience, turned).await.unwrap_or(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn a_loop_that_turns_is_felt_and_one_that_stands_still_is_not() {
        runtime().block_on(async {
            let (mut pulse, hand) = pulse();
            let turning = async {
                loop {
                    pulse.asked().await;
                }
            };
            tokio::select! {
                felt = hand.feels(Duration::from_secs(30)) => assert!(felt),
                () = turning => {}
            }
            assert!(!hand.feels(Duration::from_millis(10)).await);
            drop(pulse);
            assert!(!hand.feels(Duration::from_secs(30)).await, "it has ended");
        });
    }

    #[test]
    fn a_turn_for_another_reason_answers_all_who_wait() {
        runtime().block_on(async {
            let (mut pulse, hand) = pulse();
            let long = Duration::from_secs(30);
            let turn = async {
                // They have asked by now: the others are polled first.
                tokio::task::yield_now().await;
                pulse.beat();
            };
            let (first, second, ()) =
                tokio::join!(biased; hand.feels(long), hand.feels(long), turn);
            assert!(first && second);
        });
    }
}
