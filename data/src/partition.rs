//! Dealing one data set out to clients, as the literature does: seeded, the same everywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use tributary_core::prg::Prg;

use super::{DataError, Dataset};

/// How examples are dealt to clients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Partition {
    /// Shuffled, then cut in equal parts.
    Iid,
    /// Sorted by label, cut in twice as many shards as there are clients, two shards each (McMahan
    /// et al. 2017, section 3).
    Shards,
    /// Each client draws its own class shares from a symmetric Dirichlet distribution with this
    /// concentration, and then equally many examples (Hsu, Qi and Brown 2019). Near 0 a client has
    /// one class; large is like [`Partition::Iid`].
    Dirichlet(f64),
    /// Whole writers, equally many to each client.
    Writers,
}

/// Why a text is no partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `iid`, `shards`, `dirichlet=0.5` (a number from 0.001 to 1000000) or `writers`, found `{0}`"
)]
pub struct PartitionError(String);

impl FromStr for Partition {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, PartitionError> {
        let wrong = || PartitionError(text.chars().take(60).collect());
        match text {
            "iid" => Ok(Self::Iid),
            "shards" => Ok(Self::Shards),
            "writers" => Ok(Self::Writers),
            _ => {
                let number = text.strip_prefix("dirichlet=").ok_or_else(wrong)?;
                let alpha: f64 = number.parse().map_err(|_| wrong())?;
                let range = 1e-3..=1e6;
                if range.contains(&alpha) { Ok(Self::Dirichlet(alpha)) } else { Err(wrong()) }
            }
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iid => f.write_str("iid"),
            Self::Shards => f.write_str("shards"),
            Self::Dirichlet(alpha) => write!(f, "dirichlet={alpha}"),
            Self::Writers => f.write_str("writers"),
        }
    }
}

impl Partition {
    /// The examples of each of `clients` clients, as indices into `data`; no example comes twice.
    /// The same data, number of clients and seed give the same deal on every machine.
    ///
    /// # Errors
    /// When there are too few examples, shards or writers for that many clients, and where writers
    /// are asked for but not known.
    pub fn deal(
        self,
        data: &Dataset,
        clients: usize,
        seed: u64,
    ) -> Result<Vec<Vec<usize>>, DataError> {
        let refuse = |reason| DataError::Deal {
            examples: data.len(),
            clients,
            partition: self.to_string(),
            reason,
        };
        if clients == 0 {
            return Err(refuse("there must be at least one client"));
        }
        if data.len() < clients {
            return Err(refuse("every client needs an example; take fewer clients"));
        }
        if matches!(self, Self::Shards | Self::Dirichlet(_)) && data.labels().is_none() {
            return Err(refuse("the examples have no classes; deal them as iid or writers"));
        }
        let mut prg = Prg::for_name(seed, "partition", &self.to_string());
        match self {
            Self::Iid => {
                let mut order: Vec<usize> = (0..data.len()).collect();
                prg.shuffle(&mut order);
                Ok(cut(&order, clients))
            }
            Self::Shards => {
                let shards = clients.saturating_mul(2);
                if data.len() < shards {
                    return Err(refuse("every client needs two shards; take fewer clients"));
                }
                Ok(shards_of_labels(data, clients, &mut prg))
            }
            Self::Dirichlet(alpha) => Ok(dirichlet(data, clients, alpha, &mut prg)),
            Self::Writers => {
                let writers = data.writers().ok_or_else(|| refuse("no writers are known"))?;
                by_writer(&writers, clients, &mut prg)
                    .ok_or_else(|| refuse("every client needs a writer; take fewer clients"))
            }
        }
    }
}

/// Cuts a list in parts whose lengths differ by at most one.
fn cut(list: &[usize], parts: usize) -> Vec<Vec<usize>> {
    let bound = |part: usize| {
        // In u128: list × parts may pass the machine's word on a small one.
        (part as u128 * list.len() as u128 / parts as u128) as usize
    };
    (0..parts).map(|part| list[bound(part)..bound(part + 1)].to_vec()).collect()
}

fn shards_of_labels(data: &Dataset, clients: usize, prg: &mut Prg) -> Vec<Vec<usize>> {
    let labels = data.labels().unwrap_or_default();
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by_key(|&index| (labels.get(index).copied(), index));
    let shards = cut(&order, 2 * clients);
    let mut deal: Vec<usize> = (0..shards.len()).collect();
    prg.shuffle(&mut deal);
    deal.chunks(2)
        .map(|pair| pair.iter().flat_map(|&shard| shards[shard].clone()).collect())
        .collect()
}

fn by_writer(writers: &[u32], clients: usize, prg: &mut Prg) -> Option<Vec<Vec<usize>>> {
    let mut examples: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, &writer) in writers.iter().enumerate() {
        examples.entry(writer).or_default().push(index);
    }
    if examples.len() < clients {
        return None;
    }
    let mut order: Vec<Vec<usize>> = examples.into_values().collect();
    prg.shuffle(&mut order);
    let mut dealt = vec![Vec::new(); clients];
    for (turn, mut writer) in order.into_iter().enumerate() {
        dealt[turn % clients].append(&mut writer);
    }
    Some(dealt)
}

/// Equal sizes; where a drawn class has run out, the client's shares of the others decide.
fn dirichlet(data: &Dataset, clients: usize, alpha: f64, prg: &mut Prg) -> Vec<Vec<usize>> {
    let mut pools: Vec<Vec<usize>> = vec![Vec::new(); data.classes() as usize];
    for (index, label) in data.labels().unwrap_or_default().into_iter().enumerate() {
        pools[label as usize].push(index);
    }
    pools.iter_mut().for_each(|pool| prg.shuffle(pool));
    let size = data.len() / clients;
    let deal_one = |_| {
        let shares = dirichlet_shares(pools.len(), alpha, prg);
        (0..size).filter_map(|_| draw(&shares, &mut pools, prg)).collect()
    };
    (0..clients).map(deal_one).collect()
}

/// Takes an example of a class drawn by its share among the classes that are left.
fn draw(shares: &[f64], pools: &mut [Vec<usize>], prg: &mut Prg) -> Option<usize> {
    let left = |pools: &[Vec<usize>], class: usize| !pools[class].is_empty();
    let total: f64 = (0..pools.len()).filter(|&c| left(pools, c)).map(|c| shares[c]).sum();
    let mut point = prg.unit_f64() * total;
    let mut chosen = None;
    for class in (0..pools.len()).filter(|&class| left(pools, class)) {
        // Where all shares left are zero, the fullest class is taken.
        let fuller = chosen.is_none_or(|best: usize| pools[class].len() > pools[best].len());
        if total > 0.0 {
            chosen = Some(class);
            point -= shares[class];
            if point < 0.0 {
                break;
            }
        } else if fuller {
            chosen = Some(class);
        }
    }
    pools[chosen?].pop()
}

/// Shares from the symmetric Dirichlet distribution: gamma draws over their sum, in logarithms,
/// because a small concentration's draws fall below what f64 holds.
fn dirichlet_shares(classes: usize, alpha: f64, prg: &mut Prg) -> Vec<f64> {
    let logs: Vec<f64> = (0..classes).map(|_| log_gamma_draw(alpha, prg)).collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let draws: Vec<f64> = logs.iter().map(|log| libm::exp(log - largest)).collect();
    let sum: f64 = draws.iter().sum();
    draws.iter().map(|draw| draw / sum).collect()
}

/// ln of a gamma draw with this shape and scale 1 (Marsaglia and Tsang 2000; a shape below 1 is
/// raised by one and multiplied by U^(1 ⁄ shape)). `libm` gives the same bits everywhere.
fn log_gamma_draw(shape: f64, prg: &mut Prg) -> f64 {
    if shape < 1.0 {
        let boost = libm::log(positive_unit(prg)) / shape;
        return log_gamma_draw(shape + 1.0, prg) + boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(prg);
        let v = 1.0 + c * x;
        if v <= 0.0 {
            continue;
        }
        let v = v * v * v;
        if libm::log(positive_unit(prg)) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return libm::log(d) + libm::log(v);
        }
    }
}

/// A standard normal draw (Marsaglia's polar method).
fn normal(prg: &mut Prg) -> f64 {
    loop {
        let (u, v) = (2.0 * prg.unit_f64() - 1.0, 2.0 * prg.unit_f64() - 1.0);
        let s = u * u + v * v;
        if s > 0.0 && s < 1.0 {
            return u * (-2.0 * libm::log(s) / s).sqrt();
        }
    }
}

/// Uniform in (0, 1].
fn positive_unit(prg: &mut Prg) -> f64 {
    1.0 - prg.unit_f64()
}

#[cfg(test)]
mod tests;
