use super::*;

#[tokio::test]
async fn counts_of_a_removed_server_are_forgotten_at_last() {
    let connector = connring::connect_fn(|_: Server| async { Ok::<_, std::io::Error>(()) });
    let pool = Pool::builder(connector).servers(["a", "b"]).build().unwrap();
    let export = Export::new(&pool);
    let known = || {
        let published = export.shared.published.lock().unwrap();
        let mut names: Vec<_> = published.counts.keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    };
    pool.deregister("a").unwrap();
    (0..KEEP).for_each(|_| export.update());
    assert_eq!(known(), ["a", "b"]);
    export.update();
    assert_eq!(known(), ["b"]);
    pool.register("a").unwrap();
    export.update();
    assert_eq!(known(), ["a", "b"]);
}
