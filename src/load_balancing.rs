//! The policies by which the pool chooses servers.

/// How the pool chooses the server of a checkout: [`Builder::load_balancing`](crate::Builder::load_balancing), and
/// [`Pool::set_load_balancing`](crate::Pool::set_load_balancing) while it runs.
///
/// Each policy chooses among the servers that are up and whose [tier](crate::Server::tier) is in use. If the chosen
/// server has no idle connection or no token, the next one that has serves, so that its share is spread evenly over the
/// others. The first server of a pool is chosen at random, so that many clients that start together do not begin at the
/// same one.
///
/// # Examples
///
/// ```
/// use connring::{LoadBalancing, Pool, Server, TcpConnector};
///
/// # fn main() -> Result<(), connring::BuildError> {
/// let pool = Pool::builder(TcpConnector::new())
///     .load_balancing(LoadBalancing::Weighted)
///     .server(Server::new("10.0.0.1:6379").weight(3))
///     .server("10.0.0.2:6379")
///     .build()?;
/// pool.set_load_balancing(LoadBalancing::RoundRobin);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadBalancing {
    /// In turn, whatever the weights. Costs nothing: each processor rotates by itself.
    #[default]
    RoundRobin,
    /// In proportion to the [weights](crate::Server::weight) of the servers that are up, exact for each processor: in a
    /// sequence of turns that repeats, each server has as many as its weight, at even distances. Costs as much as round
    /// robin, whatever the weights.
    ///
    /// The turns of a server that goes down are shared by the others at once, nearly in proportion. The background task
    /// computes the turns anew for a server that comes up and for a changed weight: within 100 ms, with thousands of
    /// servers a few hundred. Weights whose sum, divided by what they have in common, exceeds 16 384, and 16 for each
    /// server, are rounded: to as many turns in all, one at least for each server.
    Weighted,
    /// The server in turn or a random other one, whichever has fewer connections in use: the power of two choices. For
    /// servers that differ in speed, or requests that differ in cost. Without load it is round robin.
    ///
    /// It costs a word for each server that all processors write at each checkout and each return, some 20 ns on one
    /// processor and several times that where many use one server at once. Connections checked out under another policy
    /// do not count.
    LeastInUse,
}
