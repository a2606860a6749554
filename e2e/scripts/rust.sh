cat > all.rs <<'EOF'
use std::collections::{BTreeMap, HashMap};
use std::sync::{mpsc, Arc, Mutex};
use std::thread;
fn main() {
    let shared = Arc::new(Mutex::new(BTreeMap::new()));
    let (to, from) = mpsc::channel();
    let threads: Vec<_> = (0..8u64)
        .map(|n| {
            let (shared, to) = (shared.clone(), to.clone());
            thread::spawn(move || {
                let mut map: HashMap<String, Vec<u64>> = HashMap::new();
                for i in 0..100_000u64 {
                    map.entry(format!("key{}", (i * 31 + n) % 3001)).or_default().push(i);
                }
                shared.lock().unwrap().insert(n, map.values().map(|v| v.len() as u64 * v[0]).sum::<u64>());
                to.send(vec![n; 1000]).unwrap();
            })
        })
        .collect();
    drop(to);
    println!("{}", from.iter().map(|v| v.len()).sum::<usize>());
    for thread in threads { thread.join().unwrap(); }
    println!("{:?}", shared.lock().unwrap());
    let mut words: Vec<String> = (0..200_000).map(|i| format!("{:x}", (i as u64) * 2654435761 % 1000003)).collect();
    words.sort(); words.dedup(); words.shrink_to_fit();
    println!("{} {}", words.len(), words.concat().len());
    println!("{:?}", std::panic::catch_unwind(|| { let v: Vec<i32> = vec![]; v[0] }).is_err());
    println!("{:?}", std::process::Command::new("echo").arg("from a child").output().unwrap().stdout.len());
    let aligned = std::alloc::Layout::from_size_align(10_000, 4096).unwrap();
    unsafe { let p = std::alloc::alloc_zeroed(aligned); println!("{}", p as usize % 4096); std::alloc::dealloc(p, aligned); }
}
EOF
say build rustc -O -o all all.rs
say run ./all
say debug bash -c 'rustc -g -o debug all.rs && ./debug | tail -n 3'
say test bash -c 'echo "#[test] fn one() { assert_eq!(vec![1; 5].len(), 5) } #[test] #[should_panic] fn two() { panic!() }" > t.rs; rustc --test t.rs && ./t --test-threads 2 | sed "s/finished in.*//"'
say errors bash -c 'echo "fn main() { let x: i32 = String::new(); }" > bad.rs; rustc --color never bad.rs'
