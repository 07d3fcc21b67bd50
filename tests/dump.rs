//! Dump.
use cleanbreak::diagnose::ThreadDump;

#[test]
fn look() {
    let (tx, rx) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            rx.recv().ok();
        });
        s.spawn(|| {
            loop {
                std::hint::spin_loop();
                if tx.is_empty() && std::env::var_os("X").is_some() {
                    break;
                }
                if std::time::Instant::now().elapsed().as_secs() > 3 {
                    break;
                }
            }
        });
        let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        s.spawn(move || l.accept().is_ok());
        std::thread::sleep(std::time::Duration::from_millis(100));
        for _ in 0..2 {
            let t = std::time::Instant::now();
            let dump = ThreadDump::capture();
            println!("{:?}", t.elapsed());
            let t = std::time::Instant::now();
            println!("{dump}");
            println!("{:?}", t.elapsed());
            println!("{}", dump.grouped());
            std::fs::write("/tmp/d.pb.gz", dump.to_pprof()).unwrap();
        }
        std::process::exit(0);
    });
}
