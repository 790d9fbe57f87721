//! scratch
#![allow(clippy::print_stdout, unsafe_code)]
fn main() {
    for (m, n, k, ta, tb) in [
        (64usize, 196usize, 800usize, 0, 0),
        (64, 800, 196, 0, 1),
        (800, 196, 64, 1, 0),
        (64, 512, 3136, 0, 1),
        (64, 3136, 512, 0, 0),
        (512, 3136, 64, 1, 0),
        (32, 784, 25, 0, 0),
        (32, 25, 784, 0, 1),
        (784, 32, 25, 0, 0),
        (196, 64, 800, 0, 1),
        (196, 64, 800, 0, 0),
    ] {
        let a = vec![0.5f32; m * k];
        let b = vec![0.25f32; k * n];
        let mut c = vec![0f32; m * n];
        let (acs, ars) = if ta == 0 { (1, k as isize) } else { (m as isize, 1) };
        let (bcs, brs) = if tb == 0 { (1, n as isize) } else { (k as isize, 1) };
        let mut best = f64::MAX;
        for _ in 0..5 {
            let t = std::time::Instant::now();
            let reps = ((4e8 / (2.0 * (m * n * k) as f64)) as usize).max(1);
            for _ in 0..reps {
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        c.as_mut_ptr(),
                        1,
                        n as isize,
                        false,
                        a.as_ptr(),
                        acs,
                        ars,
                        b.as_ptr(),
                        bcs,
                        brs,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
            }
            let s = t.elapsed().as_secs_f64() / reps as f64;
            if s < best {
                best = s;
            }
        }
        println!("{m}x{n}x{k} t{ta}{tb}: {:.1} GFLOP/s", 2.0 * (m * n * k) as f64 / best / 1e9);
    }
}
