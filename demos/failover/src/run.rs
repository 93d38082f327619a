//! One run: the load, the script and the observer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::args::Args;
use crate::load::Load;
use crate::now;
use crate::observe::Observer;
use crate::pools::Contestant;
use crate::protocol::Protocol;
use crate::record::{Recorder, Roster, Timeline};
use crate::report::Screen;
use crate::script;
use crate::servers::OwnServer;

/// The parts that all runs share.
pub(crate) struct Setup<'a> {
    pub(crate) args: &'a Args,
    pub(crate) screen: &'a Screen,
    pub(crate) roster: &'a Roster,
    pub(crate) protocol: &'a Protocol,
}

/// The result of one run.
pub(crate) struct Run {
    /// The name of the contestant, for headings.
    pub(crate) title: &'static str,
    pub(crate) lasted: Duration,
    pub(crate) timeline: Timeline,
    /// Requests that were due but not begun at the end.
    pub(crate) overdue: u64,
    /// The first few different failures, with their numbers of occurrences.
    pub(crate) failures: Vec<(String, u64)>,
}

impl Setup<'_> {
    /// Runs the load through one contestant.
    ///
    /// After a complete run, returns this program's own servers for the next run, all of them serving.
    ///
    /// # Errors
    ///
    /// Returns an error if a step of the script fails.
    pub(crate) async fn run<C: Contestant>(
        &self,
        contestant: C,
        own: Option<Vec<OwnServer>>,
    ) -> Result<(Run, Option<Vec<OwnServer>>), Box<dyn Error>> {
        let total = Duration::from_secs(self.args.seconds);
        self.screen.heading(C::TITLE);
        let began = now();
        let recorder = Arc::new(Recorder::new(self.roster));
        let load = Load::start(self, contestant.clone(), recorder.clone(), began);
        let (sender, events) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel();
        let is_scripted = own.is_some();
        let script = own.map(|own| tokio::spawn(script::play(own, contestant.clone(), total, sender, stopped)));

        let mut observer = Observer::new(self.screen, contestant, self.roster, recorder.clone(), began);
        let is_whole = observer.watch(total, is_scripted.then_some(events)).await;

        // Stops the load first, because it needs the servers until its last request is answered.
        let overdue = load.stop().await;
        let own = match script {
            Some(script) if is_whole || script.is_finished() => {
                let _ = stop.send(());
                Some(script.await?.map_err(|error| format!("the script failed: {error}"))?)
            }
            Some(script) => {
                script.abort();
                None
            }
            None => None,
        };
        let timeline = observer.conclude().await;
        let lasted = began.elapsed();
        let run = Run { title: C::TITLE, lasted, timeline, overdue, failures: recorder.failures() };
        Ok((run, own.filter(|_| is_whole)))
    }
}
