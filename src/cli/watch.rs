//! `s3gpu train --watch`: live curves on a screen of their own, by ratatui.
//!
//! A thread owns the terminal, so that keys and a new size are answered while a step runs; the run only leaves word of what it did.

use std::cell::Cell;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{cursor, execute};

use super::view;
use super::watch_screen::{Screen, draw};
use crate::error::Result;
use crate::gpu::Startup;
use crate::train::folder::METRICS;
use crate::train::metrics::{self, EvalRecord, Record, TrainRecord};
use crate::train::run::{Observer, Run};
use crate::train::setup::Setup;

/// Between two looks at the keyboard.
const TICK: Duration = Duration::from_millis(100);
/// Between two pictures while nobody presses a key: training needs the CPU, too.
const PICTURE: Duration = Duration::from_millis(500);

/// Whether the terminal is ours: in raw mode, on its other screen.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Whether a watch has the terminal, so that nobody else writes to it.
pub(super) fn is_open() -> bool {
    OPEN.load(Ordering::Relaxed)
}

thread_local! {
    /// Whether this is the thread that draws.
    static DRAWS: Cell<bool> = const { Cell::new(false) };
}

/// Held while a picture is drawn.
static DRAWING: Mutex<()> = Mutex::new(());

/// Gives the terminal back; whoever ends the process calls it first.
pub(super) fn restore() {
    if OPEN.swap(false, Ordering::Relaxed) {
        // A picture under way is finished first, unless it is the one that panics.
        let mut tries = 0;
        let mut picture = DRAWING.try_lock();
        while picture.is_err() && tries < 20 {
            std::thread::sleep(Duration::from_millis(10));
            (picture, tries) = (DRAWING.try_lock(), tries + 1);
        }
        ratatui::restore();
        // A picture hides it.
        let _ = execute!(std::io::stdout(), cursor::Show);
    }
}

/// A run's screen.
pub(super) struct Watch {
    screen: Arc<Mutex<Screen>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Takes the terminal; none, with a note why, where there is no such terminal. `interrupt` is what Ctrl-C does.
    pub(super) fn open(
        setup: &Setup,
        run: &Run,
        out: &Path,
        stop: Arc<AtomicBool>,
        interrupt: impl Fn() + Send + 'static,
    ) -> Option<Self> {
        let term = std::env::var("TERM").unwrap_or_default();
        // Windows has consoles without a TERM.
        let able = std::io::stdout().is_terminal() && term != "dumb" && (cfg!(windows) || !term.is_empty());
        if !able {
            note!("note: --watch needs a terminal, so there are lines instead");
            return None;
        }
        // What a resumed run has done before; a damaged log is the run's to report.
        let records = metrics::read(out.join(METRICS)).unwrap_or_default();
        Self::start(Screen::new(setup, run.progress(), records, out), stop, interrupt)
    }

    fn start(screen: Screen, stop: Arc<AtomicBool>, interrupt: impl Fn() + Send + 'static) -> Option<Self> {
        let screen = Arc::new(Mutex::new(screen));
        tell_panics(screen.clone());
        let mut terminal = match ratatui::try_init() {
            Ok(terminal) => terminal,
            Err(e) => {
                ratatui::restore();
                note!("note: --watch cannot have this terminal ({e}), so there are lines instead");
                return None;
            }
        };
        OPEN.store(true, Ordering::Relaxed);
        let shared = screen.clone();
        let work = move || {
            DRAWS.set(true);
            let mut drawn: Option<Instant> = None;
            while is_open() {
                let due = drawn.is_none_or(|at| at.elapsed() >= PICTURE);
                if due {
                    let state = lock(&shared).clone();
                    let stopping = stop.load(Ordering::Relaxed);
                    let drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
                    let picture = is_open().then(|| terminal.draw(|frame| draw(frame, &state, stopping)).is_ok());
                    drop(drawing);
                    if picture == Some(false) {
                        // The terminal has gone; the run goes on.
                        restore();
                    }
                    drawn = Some(Instant::now());
                }
                // Without a keyboard the picture goes on.
                if !event::poll(TICK).unwrap_or_else(|_| {
                    std::thread::sleep(TICK);
                    false
                }) {
                    continue;
                }
                match event::read() {
                    Ok(Event::Key(key)) if asks_to_stop(key) => interrupt(),
                    Ok(_) | Err(_) => (),
                }
                drawn = None;
            }
        };
        Some(Self { screen, thread: Some(std::thread::spawn(work)) })
    }

    /// Gives the terminal back, and leaves the evaluations on it.
    pub(super) fn finish(&mut self) {
        restore();
        if let Some(thread) = self.thread.take() {
            // It ends at its next look; where it panicked, its message has been printed.
            let _ = thread.join();
            for line in std::mem::take(&mut lock(&self.screen).lines) {
                say!("{line}").unwrap_or_default();
            }
        }
    }
}

/// A panic of the run's own thread, which ends the process, or of the screen's gives the terminal back before it is told. Another thread's
/// can be survived, as a decoder's that meets a damaged picture: it is told when the screen has gone.
fn tell_panics(screen: Arc<Mutex<Screen>>) {
    let (report, run) = (std::panic::take_hook(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |panic| {
        let survived = !DRAWS.get() && std::thread::current().id() != run;
        if survived && is_open() {
            // A thread that waits here for a screen that it holds itself would wait for ever.
            if let Ok(mut screen) = screen.try_lock() {
                screen.lines.push(format!("note: a thread {}", panic.to_string().replace('\n', " ")));
                return;
            }
        }
        restore();
        report(panic);
    }));
}

/// A run that panics takes its screen down, too.
impl Drop for Watch {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `q`, Esc or Ctrl-C, which a terminal in raw mode hands over as a key.
fn asks_to_stop(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

impl Observer for Watch {
    fn started(&mut self, startup: &Startup) {
        let mut screen = lock(&self.screen);
        screen.lines.extend(startup.notes.iter().map(|n| format!("note: {n}")));
    }
    fn step(&mut self, done: u64, total: u64, latest: Option<&TrainRecord>) {
        let mut screen = lock(&self.screen);
        screen.steps(done, total);
        if let Some(record) = latest {
            screen.add(Record::Train(record.clone()));
        }
    }
    fn eval(&mut self, r: &EvalRecord, train: Option<&TrainRecord>, seconds: f64) {
        let mut screen = lock(&self.screen);
        let line = view::evaluation(r, train, seconds, screen.epochs);
        screen.lines.push(line);
        if let Some(record) = train {
            screen.add(Record::Train(record.clone()));
        }
        screen.add(Record::Eval(r.clone()));
    }
    fn eval_int(&mut self, outcome: &Result<EvalRecord>, seconds: f64) {
        let mut screen = lock(&self.screen);
        let line = view::integers(outcome, seconds, screen.epochs);
        screen.lines.push(line);
        if let Ok(record) = outcome {
            screen.add(Record::Int(record.clone()));
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::train::Config;
    use crate::train::checkpoint::Progress;

    #[test]
    #[ignore = "panics on a terminal, which the test below gives it"]
    fn a_panic_on_the_screen() {
        let setup = Setup::new(Config::on("shapes").unwrap()).unwrap();
        let screen = Screen::new(&setup, &Progress::default(), Vec::new(), Path::new("runs/a"));
        let _watch = Watch::start(screen, Arc::default(), || ()).expect("a terminal");
        std::thread::sleep(2 * PICTURE);
        let survived = std::thread::spawn(|| panic!("of a decoder")).join();
        assert!(survived.is_err() && is_open(), "the screen stays");
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let this = std::env::current_exe().unwrap();
        let test = "cli::watch::tests::a_panic_on_the_screen";
        let line = format!("stty rows 30 cols 100; {} --ignored --exact {test} --nocapture", this.display());
        // In a session of its own, so that nothing stops it for want of this one's terminal.
        let mut script = Command::new("setsid");
        script.args(["-w", "script", "-qec", &line]).arg(&seen).env("TERM", "xterm").stdin(std::process::Stdio::null());
        let Ok(output) = script.output() else {
            assert!(
                std::env::var_os("S3GPU_REQUIRE_ALL").is_none(),
                "install util-linux, whose `script` makes a terminal"
            );
            eprintln!("SKIPPED: a panic on a terminal, as there is no `script` to make one");
            return;
        };
        let text = String::from_utf8_lossy(&std::fs::read(&seen).unwrap()).into_owned();
        assert!(!output.status.success(), "{text}");
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in {text:?}"));
        let (taken, shown) = (place("\u{1b}[?1049h"), place("q or Ctrl-C"));
        let (given, told, survived) = (place("\u{1b}[?1049l"), place("on purpose"), place("of a decoder"));
        assert!(taken < shown && shown < given && given < told && given < survived, "{text:?}");
        assert!(text.rfind("\u{1b}[?25h") > text.rfind("\u{1b}[?25l"), "the cursor stays hidden: {text:?}");
    }
}
