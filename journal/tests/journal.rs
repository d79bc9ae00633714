//! End to end through the public API.

use kairos_journal::{
    Frame, Journal, Mode, Options, RunFacts, create, fingerprint, recover, verify,
};

#[test]
fn writes_and_reads() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 64 << 10,
        allow_tiny_segments_for_tests: true,
        frame_max: 4096,
        populate: false,
        ..Options::default()
    };
    for run in 1..=2_u64 {
        let (mut writer, mut keeper, opened) =
            create(dir.path(), &options, RunFacts::default()).unwrap();
        assert_eq!(opened.run, run);
        assert_eq!(opened.first_seq, (run - 1) * 3000 + 1);
        for at in 0..3000_u64 {
            while !writer.ready() {
                keeper.turn();
            }
            writer
                .append(&Frame {
                    ts: at,
                    kind: 0x101,
                    schema: 1,
                    lane: 0,
                    ext: &[at],
                    payload: &[7; 64],
                })
                .unwrap();
            if at % 100 == 0 {
                keeper.turn();
            }
        }
        assert!(writer.end_run(0, b"").is_ok());
        keeper.finish().unwrap();
        let mut reader = Journal::open(dir.path()).unwrap().reader();
        let mut n = 0;
        while let Some(f) = reader.next().unwrap() {
            if !f.is_physical() {
                n += 1;
                assert_eq!(f.seq, n);
            }
        }
        assert_eq!(n, run * 3000);
        let v = verify(dir.path()).unwrap();
        assert!(v.findings.is_empty(), "{:#?}", v.findings);
        fingerprint(dir.path()).unwrap();
        let r = recover(dir.path(), Mode::Absolute, false).unwrap();
        println!("{r:?}");
    }
}
