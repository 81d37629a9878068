//! A ring of batches that threads decode ahead of whoever takes them.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::{Source, View};
use crate::error::Result;

/// Batches that are decoded or waited for at a time.
const DEPTH: usize = 3;

/// A source whose batches are decoded before they are asked for, in the order that [`Ahead::announce`] was told.
///
/// It changes when work is done and nothing else: a batch that was not announced is decoded when it is asked for.
#[derive(Debug)]
pub struct Ahead<'a> {
    source: &'a dyn Source,
    /// Nothing where the source needs no threads.
    ring: Option<Mutex<Ring>>,
    /// Jobs of older tickets are no longer wanted.
    oldest: Arc<AtomicU64>,
    waited: AtomicU64,
}

/// One image to decode.
struct Job {
    ticket: u64,
    index: u32,
    view: View,
}

/// A ticket and its image, or the panic of the thread that decoded it.
type Done = (u64, thread::Result<Result<Vec<u8>>>);

#[derive(Debug)]
struct Ring {
    view: View,
    /// Batches announced and not yet given to the threads.
    planned: VecDeque<Vec<u32>>,
    /// Batches given to the threads, each with its first image's ticket.
    under_way: VecDeque<(u64, Vec<u32>)>,
    next: u64,
    jobs: Sender<Job>,
    done: Receiver<Done>,
    /// Images that arrived before those in front of them.
    early: HashMap<u64, thread::Result<Result<Vec<u8>>>>,
}

impl<'a> Ahead<'a> {
    /// Starts the source's threads, which end with the value returned.
    pub fn new<'scope>(scope: &'scope Scope<'scope, '_>, source: &'a dyn Source) -> Self
    where
        'a: 'scope,
    {
        let oldest = Arc::new(AtomicU64::new(0));
        let ring = (source.threads() > 0).then(|| {
            let ((jobs, queue), (sender, done)) = (channel::<Job>(), channel::<Done>());
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..source.threads() {
                let (queue, sender, oldest) = (queue.clone(), sender.clone(), oldest.clone());
                scope.spawn(move || work(source, &queue, &sender, &oldest));
            }
            Mutex::new(Ring {
                view: View::Test,
                planned: VecDeque::new(),
                under_way: VecDeque::new(),
                next: 0,
                jobs,
                done,
                early: HashMap::new(),
            })
        });
        Self { source, ring, oldest, waited: AtomicU64::new(0) }
    }

    /// Says which batches will be asked for next, in this order; what was announced before is forgotten.
    pub fn announce<'b>(&self, batches: impl IntoIterator<Item = &'b [u32]>, view: View) {
        let Some(mut ring) = self.ring() else { return };
        self.oldest.store(ring.next, Ordering::Relaxed);
        ring.under_way.clear();
        ring.early.clear();
        ring.view = view;
        ring.planned = batches.into_iter().map(<[u32]>::to_vec).collect();
        ring.top_up();
    }

    /// How long [`Source::fill`] has waited for the threads in all.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    fn ring(&self) -> Option<MutexGuard<'_, Ring>> {
        self.ring.as_ref().map(|ring| ring.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.oldest.store(u64::MAX, Ordering::Relaxed);
    }
}

impl Source for Ahead<'_> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn label(&self, i: usize) -> u32 {
        self.source.label(i)
    }

    fn image_len(&self) -> usize {
        self.source.image_len()
    }

    fn fill(&self, indices: &[u32], view: View, pixels: &mut [u8]) -> Result<()> {
        let Some(mut ring) = self.ring() else { return self.source.fill(indices, view, pixels) };
        if ring.view != view || ring.under_way.front().is_none_or(|(_, next)| next != indices) {
            return self.source.fill(indices, view, pixels);
        }
        let started = Instant::now();
        let (first, _) = ring.under_way.pop_front().expect("it was just looked at");
        ring.top_up();
        for (ticket, to) in (first..).zip(pixels.chunks_exact_mut(self.image_len())) {
            to.copy_from_slice(&ring.take(ticket)?);
        }
        self.waited.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn remarks(&self) -> Vec<String> {
        self.source.remarks()
    }
}

impl Ring {
    /// Gives the threads as much as the ring holds.
    fn top_up(&mut self) {
        while self.under_way.len() < DEPTH
            && let Some(batch) = self.planned.pop_front()
        {
            let first = self.next;
            self.next += batch.len() as u64;
            for (ticket, index) in (first..).zip(&batch) {
                // The threads live as long as the sender, so that nobody is left to miss it.
                let _ = self.jobs.send(Job { ticket, index: *index, view: self.view });
            }
            self.under_way.push_back((first, batch));
        }
    }

    /// Waits for an image.
    fn take(&mut self, ticket: u64) -> Result<Vec<u8>> {
        loop {
            if let Some(image) = self.early.remove(&ticket) {
                return image.unwrap_or_else(|panic| resume_unwind(panic));
            }
            let (found, image) = self.done.recv().expect("threads live as long as the ring");
            // What was announced before and is no longer wanted has an older ticket.
            if found >= ticket {
                self.early.insert(found, image);
            }
        }
    }
}

/// A thread's life: images one by one, until the ring is gone.
fn work(source: &dyn Source, queue: &Mutex<Receiver<Job>>, done: &Sender<Done>, oldest: &AtomicU64) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { ticket, index, view }) = next else { return };
        if ticket < oldest.load(Ordering::Relaxed) {
            continue;
        }
        let image = catch_unwind(AssertUnwindSafe(|| {
            let mut pixels = vec![0; source.image_len()];
            source.fill(&[index], view, &mut pixels).map(|()| pixels)
        }));
        if done.send((ticket, image)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// Image `i` is its index, the epoch and a checksum of both; it takes longer the smaller it is, so that batches
    /// finish out of order.
    #[derive(Debug)]
    struct Slow(usize);

    impl Source for Slow {
        fn len(&self) -> usize {
            40
        }
        fn label(&self, i: usize) -> u32 {
            i as u32
        }
        fn image_len(&self) -> usize {
            3
        }
        fn fill(&self, indices: &[u32], view: View, pixels: &mut [u8]) -> Result<()> {
            for (i, to) in indices.iter().zip(pixels.chunks_exact_mut(3)) {
                thread::sleep(Duration::from_micros(100 * u64::from(40 - i % 40)));
                let epoch = if let View::Train { epoch } = view { epoch as u8 } else { 255 };
                to.copy_from_slice(&[*i as u8, epoch, (*i as u8).wrapping_mul(31) ^ epoch]);
                if *i == 99 {
                    return Err(Error::data("99", "damaged", "none"));
                }
                assert!(*i != 98, "image 98");
            }
            Ok(())
        }
        fn threads(&self) -> usize {
            self.0
        }
    }

    /// All batches of two epochs.
    fn shown(threads: usize, announce: bool) -> Vec<Vec<u8>> {
        let source = Slow(threads);
        thread::scope(|scope| {
            let ahead = Ahead::new(scope, &source);
            let order: Vec<u32> = (0..40).map(|i| i * 7 % 40).collect();
            let mut all = Vec::new();
            for epoch in 0..2 {
                let view = View::Train { epoch };
                if announce {
                    ahead.announce(order.chunks(6), view);
                }
                for batch in order.chunks(6) {
                    let mut pixels = vec![0; 3 * batch.len()];
                    ahead.fill(batch, view, &mut pixels).unwrap();
                    all.push(pixels);
                }
            }
            assert_eq!(ahead.waited() > Duration::ZERO, announce && threads > 0);
            all
        })
    }

    #[test]
    fn neither_threads_nor_announcements_change_a_byte() {
        let want = shown(0, false);
        assert_eq!(want[0][..3], [0, 0, 0]);
        for threads in [0, 1, 2, 5] {
            for announce in [false, true] {
                assert_eq!(shown(threads, announce), want, "{threads} threads, announced: {announce}");
            }
        }
    }

    #[test]
    fn what_was_not_announced_is_decoded_all_the_same() {
        let source = Slow(2);
        thread::scope(|scope| {
            let ahead = Ahead::new(scope, &source);
            let mut pixels = [0; 6];
            ahead.announce([&[1, 2][..], &[3, 4]], View::Train { epoch: 1 });
            // Another batch, another view, and then the announced one.
            ahead.fill(&[5, 6], View::Train { epoch: 1 }, &mut pixels).unwrap();
            assert_eq!((pixels[0], pixels[3]), (5, 6));
            ahead.fill(&[1, 2], View::Test, &mut pixels).unwrap();
            assert_eq!((pixels[0], pixels[1]), (1, 255));
            ahead.fill(&[1, 2], View::Train { epoch: 1 }, &mut pixels).unwrap();
            assert_eq!((pixels[0], pixels[1]), (1, 1));
            // A new announcement in the middle of an old one.
            ahead.announce([&[7, 8][..]], View::Test);
            ahead.fill(&[7, 8], View::Test, &mut pixels).unwrap();
            assert_eq!((pixels[0], pixels[3], pixels[4]), (7, 8, 255));
        });
    }

    #[test]
    fn errors_and_panics_reach_the_one_who_asks() {
        let source = Slow(2);
        let asked = |index: u32| {
            thread::scope(|scope| {
                let ahead = Ahead::new(scope, &source);
                ahead.announce([&[1, index][..], &[3, 4]], View::Test);
                ahead.fill(&[1, index], View::Test, &mut [0; 6])
            })
        };
        assert!(asked(99).unwrap_err().to_string().contains("damaged"));
        assert!(catch_unwind(AssertUnwindSafe(|| asked(98))).is_err());
        asked(2).unwrap();
    }
}
