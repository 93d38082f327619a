//! Who looks on while the load runs: takes samples, prints the tables, and sums up.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connring::{Pool, TcpConnector};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::args::Args;
use crate::record::{Mark, Recorder, Roster, Timeline};
use crate::report::Screen;
use crate::trouble::Event;
use crate::watch::StateWatch;
use crate::{picture, report, table};

/// How often the counts are read: the step of the picture.
const SAMPLE: Duration = Duration::from_millis(250);

/// How many samples make a print of the table.
const SAMPLES_PER_TABLE: usize = 4;

/// How long the pool may take to close.
const CLOSING: Duration = Duration::from_secs(2);

pub(crate) struct Observer {
    screen: Screen,
    pool: Pool<TcpConnector>,
    roster: Roster,
    recorder: Arc<Recorder>,
    began: Instant,
    timeline: Timeline,
}

impl Observer {
    pub(crate) fn new(
        screen: Screen,
        pool: Pool<TcpConnector>,
        roster: Roster,
        recorder: Arc<Recorder>,
        began: Instant,
    ) -> Self {
        let timeline = Timeline::new(&roster);
        Self { screen, pool, roster, recorder, began, timeline }
    }

    /// Looks on until the time is up or somebody presses Ctrl-C.
    ///
    /// What happens comes from the script, or, with servers that are not ours, from how the pool sees them.
    pub(crate) async fn watch(&mut self, total: Duration, script: Option<mpsc::Receiver<Event>>) {
        let mut states = script.is_none().then(|| StateWatch::new(self.roster.clone()));
        let (_, silent) = mpsc::channel(1);
        let mut script = script.unwrap_or(silent);
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await; // The first is at once.
        let mut interrupted = pin!(tokio::signal::ctrl_c());
        while self.began.elapsed() < total {
            tokio::select! {
                _ = ticks.tick() => self.sample(states.as_mut()),
                Some(event) = script.recv() => self.happened(event),
                _ = &mut interrupted => return self.screen.line("\nInterrupted."),
            }
        }
    }

    fn sample(&mut self, states: Option<&mut StateWatch>) {
        let status = self.pool.status();
        for event in states.map_or_else(Vec::new, |states| states.changes(&status)) {
            self.happened(event);
        }
        let at = self.began.elapsed();
        self.timeline.sample(self.recorder.drain(), at);
        if self.timeline.samples().len().is_multiple_of(SAMPLES_PER_TABLE) {
            let (recent, span) = self.timeline.take_recent();
            table::print(&self.screen, at, span, &recent, &status, &self.roster);
        }
    }

    fn happened(&mut self, event: Event) {
        let at = self.began.elapsed();
        self.screen.event(at, &event);
        self.timeline.mark(Mark { at, server: event.server, label: event.label });
    }

    /// Sums up. True if no acquire failed and no answer was wrong.
    pub(crate) async fn conclude(mut self, args: &Args, overdue: u64) -> bool {
        self.timeline.add_rest(self.recorder.drain());
        if let Err(error) = self.pool.close_timeout(CLOSING).await {
            self.screen.line(&format!("\nThe pool did not close: {error}"));
        }

        let picture = match picture::draw(&args.picture, &self.timeline, &self.roster) {
            Ok(()) => args.picture.display().to_string(),
            Err(error) => format!("{} was not written: {error}", args.picture.display()),
        };
        let total = self.timeline.total();
        self.screen.summary(args, self.began.elapsed(), total, overdue, &self.recorder.complaints(), &picture);
        if args.json {
            println!("{}", report::json(total));
        }
        total.failed == 0 && total.wrong == 0
    }
}
