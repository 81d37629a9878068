//! A run: what it is before it starts, and the loop that fills its folder.

mod observe;
mod save;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::checkpoint::{self, Progress};
use super::engine::{self, Engine, Figures};
use super::events::EventFile;
use super::folder::{self, Claim, LAST, METRICS};
use super::integer;
use super::metrics::{EvalRecord, MetricsLog, Record, TrainRecord};
pub use super::observer::{Observer, Outcome};
use super::setup::Setup;
use crate::data::sampler::epoch_order;
use crate::data::{Ahead, Source, View};
use crate::error::{Error, Result};
use crate::files::tensors::TensorFile;
use crate::gpu::{Gpu, describe};
use crate::graph::lower::RungChoice;
use crate::model::Values;

/// A run under way.
pub struct Run<'a> {
    setup: &'a Setup,
    engine: Engine,
    train: &'a dyn Source,
    test: &'a dyn Source,
    claim: Claim,
    log: MetricsLog,
    events: Option<EventFile>,
    progress: Progress,
    per_epoch: u64,
    /// Steps whose figures are in `progress` or logged.
    counted: u64,
    /// Steps done at the last evaluation.
    evaluated: u64,
    clock: Instant,
    /// Images of the interval that were trained on before the clock started.
    untimed: u64,
    /// Seconds of the interval that went by in waiting for images, and of all intervals before.
    waited: [f64; 2],
    latest: Option<TrainRecord>,
}

impl<'a> Run<'a> {
    /// Starts a run in a folder that [`folder::create`] makes.
    ///
    /// # Errors
    /// As [`Engine::new`]; [`Error::Checkpoint`] for weights that do not suit the network.
    pub fn start(setup: &'a Setup, gpu: Gpu, data: [&'a dyn Source; 2], out: &Path, force: bool) -> Result<Self> {
        let c = &setup.config;
        let engine = Engine::new(
            gpu,
            &setup.graph,
            &setup.options(RungChoice { forced: c.rungs.clone(), ..Default::default() }),
        )?;
        let mut values = match &c.init {
            None => Values::init(&setup.graph, &engine.layout, c.latent_init, c.seed),
            Some(path) => Values::start_from(&setup.graph, &engine.layout, &checkpoint::read(path)?, path)?,
        };
        values.scale_latents(&setup.graph, &engine.layout, c.latent_scale);
        engine.load(&values);
        let claim = folder::create(out, c, force)?;
        let log = MetricsLog::create(out.join(METRICS))?;
        let images = data.map(|d| d.len() as u64);
        let (rungs, adapter) = (engine.rungs.clone(), describe(&engine.exec.gpu.info));
        let progress = Progress { rungs, images, adapter, ..Default::default() };
        Ok(Self::new(setup, engine, data, claim, log, progress))
    }

    /// Goes on from a run's last checkpoint, which was read under the claim.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where it is damaged or not this network's.
    pub fn resume(
        setup: &'a Setup,
        gpu: Gpu,
        data: [&'a dyn Source; 2],
        claim: Claim,
        last: TensorFile,
    ) -> Result<Self> {
        let out = claim.path();
        let path = out.join(LAST);
        let c = &setup.config;
        let (file, own, mut progress) = checkpoint::split(last, &path)?;
        // A rung of another version does not stop the run: it goes on with what there is.
        let engine = Engine::new(gpu, &setup.graph, &setup.options(progress.rungs(&c.rungs)))?;
        progress.rungs.clone_from(&engine.rungs);
        progress.adapter = describe(&engine.exec.gpu.info);
        engine.load(&Values::from_file(&setup.graph, &engine.layout, &file, &path)?);
        engine.load_momenta(&own).map_err(|name| {
            Error::checkpoint(&path, format!("it lacks {name}, or has it in another shape"), "start anew with --init")
        })?;
        if let (Some(_), Err(name)) = (progress.observed, engine.load_seen(&own)) {
            let what = format!("its {name} is missing or no record of signs");
            return Err(Error::checkpoint(&path, what, "start anew with --init"));
        }
        let (step, epoch) = (progress.step, c.steps_per_epoch(data[0].len() as u64));
        // What a stop in the middle of an interval or epoch logged will be written again at its place.
        let keep = |r: &Record| {
            r.step() < step
                && match r {
                    Record::Train(r) => (r.step + 1).is_multiple_of(c.log_every) || r.step + 1 == c.epochs * epoch,
                    Record::Eval(r) => setup.evaluates(r.step + 1, epoch),
                    Record::Int(r) => setup.evaluates_int(r.step + 1, epoch),
                    // An observation changes what the next one is compared with: none is made for a stop's sake.
                    Record::Dynamics(_) => true,
                }
        };
        folder::sweep(out)?;
        let log = MetricsLog::resume(out.join(METRICS), keep)?;
        Ok(Self::new(setup, engine, data, claim, log, progress))
    }

    fn new(
        setup: &'a Setup,
        engine: Engine,
        [train, test]: [&'a dyn Source; 2],
        claim: Claim,
        log: MetricsLog,
        progress: Progress,
    ) -> Self {
        let (counted, mut engine) = (progress.step, engine);
        engine.exec.startup.plan += setup.took.as_secs_f64();
        engine.steps_done = progress.step as u32;
        let clock = Instant::now();
        let per_epoch = setup.config.steps_per_epoch(train.len() as u64);
        Self {
            setup,
            engine,
            train,
            test,
            claim,
            log,
            events: None,
            progress,
            per_epoch,
            counted,
            evaluated: 0,
            clock,
            untimed: 0,
            waited: [0.0; 2],
            latest: None,
        }
    }

    /// The engine.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains until all epochs are done, `--steps` is reached or `stop` is set, and leaves the folder complete.
    ///
    /// # Errors
    /// [`Error::Diverged`], [`Error::DeviceLost`], [`Error::Io`]; the last checkpoint stays.
    pub fn train(&mut self, steps: Option<u64>, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<Outcome> {
        let train = self.train;
        let outcome = std::thread::scope(|scope| self.steps(&Ahead::new(scope, train), steps, stop, observer));
        outcome.map_err(|e| match e {
            Error::DeviceLost { reason, .. } => {
                let place = format!("near step {}", self.progress.step);
                let mut hint = self.go_on();
                if reason.to_lowercase().contains("memory") {
                    hint += "; where this happens again, close what else uses the adapter, or start a run with a smaller --batch-size";
                }
                Error::DeviceLost { place, reason, hint }
            }
            other => other,
        })
    }

    /// How to go on after a lost device, as a sentence.
    fn go_on(&self) -> String {
        match self.claim.path().join(LAST).exists() {
            true => {
                format!("go on from the last checkpoint with `s3gpu train --resume {}`", self.claim.path().display())
            }
            false => "there is no checkpoint yet: start again with --force".into(),
        }
    }

    /// The error of a number that is not finite. To resume would only repeat it, so the way out is a new run.
    fn diverged(&self, step: u64, loss: String) -> Error {
        let last = self.claim.path().join(LAST);
        let kept = match last.exists() {
            true => format!("the last good checkpoint is {}, from which --init can start", last.display()),
            false => "there is no checkpoint yet".into(),
        };
        Error::Diverged { step, loss, hint: format!("start again with a lower --lr or a longer --warmup; {kept}") }
    }

    fn steps(
        &mut self,
        train: &Ahead,
        steps: Option<u64>,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let setup = self.setup;
        let c = &setup.config;
        let per_epoch = self.per_epoch;
        let total = c.epochs * per_epoch;
        let end = steps.map_or(total, |s| s.min(total));
        if self.progress.step == 0 {
            self.observe(observer)?;
        }
        (self.clock, self.untimed) = (Instant::now(), self.progress.interval.count);
        if self.progress.out_of_patience(c.patience) {
            return Ok(Outcome::OutOfPatience);
        }
        while self.progress.step < end {
            let epoch = self.progress.step / per_epoch;
            if self.progress.step.is_multiple_of(per_epoch)
                && let Some(share) = c.freezes(epoch)
            {
                self.freeze(share)?;
                observer.froze(share);
            }
            let order = epoch_order(c.seed, epoch, train.len(), c.shuffle);
            let epoch_clock = Instant::now();
            let batches = order.chunks(c.batch_size as usize).skip((self.progress.step % per_epoch) as usize);
            let batches = batches.take((end - self.progress.step) as usize);
            let parts = |batch| engine::parts(batch, c.part_size() as usize);
            train.announce(batches.clone().flat_map(parts), View::Train { epoch: epoch as u32 });
            for indices in batches {
                let rate = c.rate(self.progress.step, per_epoch);
                let first = self.engine.exec.startup.first_step.is_none();
                self.engine.step(train, indices, epoch as u32, rate as f32)?;
                self.waited[0] = train.waited().as_secs_f64() - self.waited[1];
                if first {
                    observer.started(&self.engine.exec.startup);
                }
                self.progress.step += 1;
                let at_epoch_end = self.progress.step.is_multiple_of(per_epoch);
                if self.progress.step.is_multiple_of(c.log_every) {
                    self.log_interval()?;
                } else if self.engine.is_full() {
                    self.count()?;
                }
                if c.dynamics_every > 0 && self.progress.step.is_multiple_of(c.dynamics_every) && !at_epoch_end {
                    self.observe(observer)?;
                }
                observer.step(self.progress.step, total, self.latest.as_ref());
                // At an epoch's end its evaluation belongs to what is saved.
                if stop.load(Ordering::Relaxed) && !at_epoch_end {
                    self.count()?;
                    self.save_last()?;
                    self.draw()?;
                    return Ok(Outcome::Interrupted);
                }
            }
            self.count()?;
            if !self.progress.step.is_multiple_of(per_epoch) {
                break;
            }
            if self.progress.step == total {
                self.log_interval()?;
            }
            if setup.evaluates(self.progress.step, per_epoch) {
                let record = self.evaluate()?;
                observer.eval(&record, self.latest.as_ref(), epoch_clock.elapsed().as_secs_f64());
                // A network that is not wholly frozen is no candidate.
                if !c.is_whole(epoch) {
                } else if self.progress.best.is_none_or(|best| record.top1 > best) {
                    (self.progress.best, self.progress.waited) = (Some(record.top1), 0);
                    self.save_best()?;
                } else {
                    self.progress.waited += 1;
                }
            }
            if setup.evaluates_int(self.progress.step, per_epoch) {
                self.evaluate_int(observer)?;
            }
            self.observe(observer)?;
            let out_of_patience = self.progress.out_of_patience(c.patience);
            if out_of_patience {
                // Nothing comes after it that could log these steps.
                self.log_interval()?;
            }
            self.save_epoch()?;
            self.draw()?;
            if out_of_patience && self.progress.step < total {
                return Ok(Outcome::OutOfPatience);
            }
            if stop.load(Ordering::Relaxed) && self.progress.step < end {
                return Ok(Outcome::Interrupted);
            }
        }
        if self.progress.step == total {
            return Ok(Outcome::Finished);
        }
        self.stop_early(observer)?;
        Ok(Outcome::StepsReached)
    }

    /// Freezes weights up to this share of each layer, of a method that does so; their momentum goes with the next step.
    fn freeze(&mut self, share: f64) -> Result<()> {
        self.count()?;
        let mut values = self.finite(self.engine.values()?)?;
        let (momenta, seen) = (self.engine.momenta()?, self.engine.seen()?);
        values.freeze(&self.setup.graph, &self.engine.layout, share);
        self.engine.load(&values);
        self.engine.load_momenta(&momenta).expect("the engine's own");
        self.engine.load_seen(&seen).expect("the engine's own");
        Ok(())
    }

    /// The end that `--steps` asks for: complete metrics and weights, while the checkpoint stays the one of an unbroken run.
    fn stop_early(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.save_last()?;
        let interval = self.progress.interval;
        self.log_interval()?;
        self.progress.interval = interval;
        if self.evaluated != self.progress.step {
            let record = self.evaluate()?;
            observer.eval(&record, self.latest.as_ref(), self.clock.elapsed().as_secs_f64());
            if self.progress.best.is_none() {
                self.save_best()?;
            }
        }
        self.draw()
    }

    /// Reads the figures of the steps since the last call into the interval.
    fn count(&mut self) -> Result<()> {
        for figures in self.engine.figures()? {
            if !figures.loss.is_finite() {
                return Err(self.diverged(self.counted, figures.loss.to_string()));
            }
            if !figures.regularizer.is_finite() {
                let loss = format!("{} with a regularizer of {}", figures.loss, figures.regularizer);
                return Err(self.diverged(self.counted, loss));
            }
            self.progress.interval += figures;
            self.counted += 1;
        }
        Ok(())
    }

    fn log_interval(&mut self) -> Result<()> {
        self.count()?;
        let f = std::mem::take(&mut self.progress.interval);
        if f.count == 0 {
            return Ok(());
        }
        let step = self.progress.step - 1;
        let seconds = self.clock.elapsed().as_secs_f64().max(1e-9);
        let record = TrainRecord {
            epoch: step / self.per_epoch,
            step,
            loss: f.loss / f.count as f64,
            regularizer: f.regularizer / f.steps as f64,
            correct: f.correct,
            count: f.count,
            lr: self.setup.config.rate(step, self.per_epoch),
            images_per_s: (f.count - self.untimed) as f64 / seconds,
            data_wait: (self.waited[0] / seconds).clamp(0.0, 1.0),
        };
        self.record(&Record::Train(record.clone()))?;
        self.latest = Some(record);
        (self.clock, self.untimed) = (Instant::now(), 0);
        self.waited = [0.0, self.waited.iter().sum()];
        Ok(())
    }

    fn evaluate(&mut self) -> Result<EvalRecord> {
        let paused = Instant::now();
        let figures = self.engine.evaluate(self.test)?;
        let step = self.progress.step - 1;
        if !figures.loss.is_finite() {
            return Err(self.diverged(step, format!("{} on the test set", figures.loss)));
        }
        let record = eval_record(&figures, step / self.per_epoch, step);
        self.record(&Record::Eval(record.clone()))?;
        self.evaluated = self.progress.step;
        // Evaluation does not count as training time.
        self.clock += paused.elapsed();
        Ok(record)
    }

    /// As integers. What cannot be frozen yet is told and not logged: training goes on.
    fn evaluate_int(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let paused = Instant::now();
        let values = self.finite(self.engine.values()?)?;
        let step = self.progress.step - 1;
        let outcome = integer::evaluate(self.setup, &self.engine.layout, &values, [self.train, self.test]);
        let outcome = outcome.map(|figures| eval_record(&figures, step / self.per_epoch, step));
        match &outcome {
            Ok(record) => self.record(&Record::Int(record.clone()))?,
            Err(Error::Shape { .. }) => (),
            Err(_) => return outcome.map(drop),
        }
        observer.eval_int(&outcome, paused.elapsed().as_secs_f64());
        self.clock += paused.elapsed();
        Ok(())
    }
}

/// An evaluation's figures as a record.
pub fn eval_record(f: &Figures, epoch: u64, step: u64) -> EvalRecord {
    let count = f.count.max(1) as f64;
    EvalRecord {
        epoch,
        step,
        loss: f.loss / count,
        correct: f.correct,
        count: f.count,
        top1: 100.0 * f.correct as f64 / count,
        top5: 100.0 * f.top5 as f64 / count,
    }
}
