//! The observer: samples the run, prints the tables and collects the timeline.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::pools::Contestant;
use crate::record::{Mark, Recorder, Roster, Timeline};
use crate::report::Screen;
use crate::script::Event;
use crate::table;
use crate::watch::StateWatch;

/// The interval between samples, which is the time step of the picture.
const SAMPLE: Duration = Duration::from_millis(250);

/// The number of samples between two tables.
const SAMPLES_PER_TABLE: usize = 4;

pub(crate) struct Observer<'a, C> {
    screen: &'a Screen,
    contestant: C,
    roster: &'a Roster,
    recorder: Arc<Recorder>,
    began: Instant,
    timeline: Timeline,
}

impl<'a, C: Contestant> Observer<'a, C> {
    pub(crate) fn new(
        screen: &'a Screen,
        contestant: C,
        roster: &'a Roster,
        recorder: Arc<Recorder>,
        began: Instant,
    ) -> Self {
        let timeline = Timeline::new(roster);
        Self { screen, contestant, roster, recorder, began, timeline }
    }

    /// Observes until `total` has passed or Ctrl-C is pressed. Returns false after Ctrl-C.
    ///
    /// Events come from the script, or, with real servers, from changes of the servers' states.
    pub(crate) async fn watch(&mut self, total: Duration, script: Option<mpsc::Receiver<Event>>) -> bool {
        let mut states = script.is_none().then(|| StateWatch::new(self.roster.clone()));
        let (_, silent) = mpsc::channel(1);
        let mut script = script.unwrap_or(silent);
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await; // The first tick completes immediately.
        let mut interrupted = pin!(tokio::signal::ctrl_c());
        while self.began.elapsed() < total {
            tokio::select! {
                _ = ticks.tick() => self.sample(states.as_mut()),
                Some(event) = script.recv() => self.record(event),
                _ = &mut interrupted => {
                    self.screen.line("\nInterrupted.");
                    return false;
                }
            }
        }
        true
    }

    fn sample(&mut self, states: Option<&mut StateWatch>) {
        let view = self.contestant.view();
        for event in states.map_or_else(Vec::new, |states| states.changes(&view)) {
            self.record(event);
        }
        let at = self.began.elapsed();
        self.timeline.sample(self.recorder.drain(), at);
        if self.timeline.samples().len().is_multiple_of(SAMPLES_PER_TABLE) {
            let (recent, span) = self.timeline.take_recent();
            table::print(self.screen, at, span, &recent, &view, self.roster);
        }
    }

    fn record(&mut self, event: Event) {
        let at = self.began.elapsed();
        self.screen.event(at, &event);
        self.timeline.mark(Mark { at, server: event.server, label: event.label });
    }

    /// Adds the remaining counts, closes the contestant and returns the timeline.
    pub(crate) async fn conclude(mut self) -> Timeline {
        self.timeline.add_rest(self.recorder.drain());
        if let Err(error) = self.contestant.close().await {
            self.screen.line(&format!("\nThe pool did not close: {error}"));
        }
        self.timeline
    }
}
