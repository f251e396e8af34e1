//! Names for containers that were given none.

use rbox_spec::ContainerName;

/// A name in the style `adjective_surname`. After some tries that were taken, `attempt` (from 0) above 3 adds a
/// digit, so that a host with every plain name in use still gets new ones.
pub(crate) fn generate(attempt: u32) -> ContainerName {
    let pick =
        |words: &'static [&'static str]| words.get(fastrand::usize(..words.len())).copied().unwrap_or("");
    // All words make a name: the first round is the last.
    loop {
        let name = format!("{}_{}", pick(ADJECTIVES), pick(SURNAMES));
        let name = match attempt {
            0..=3 => name,
            4..=9 => format!("{name}{}", fastrand::u32(..10)),
            _ => format!("{name}{}", fastrand::u32(..1_000_000)),
        };
        if let Ok(name) = name.parse() {
            return name;
        }
    }
}

/// Words that fit beside any person's name.
#[rustfmt::skip]
const ADJECTIVES: &[&str] = &[
    "able", "agile", "alert", "ample", "apt", "ardent", "astute", "avid", "balmy", "blithe", "bold",
    "brave", "breezy", "brief", "bright", "brisk", "broad", "calm", "candid", "careful", "cheery",
    "chipper", "civil", "clean", "clear", "clever", "cosy", "crisp", "curious", "daring", "dashing", "deft",
    "dewy", "docile", "eager", "earnest", "easy", "elated", "exact", "fair", "famed", "fast", "fervent",
    "fine", "firm", "fleet", "fluent", "fond", "frank", "free", "fresh", "frosty", "gallant", "genial",
    "gentle", "gifted", "glad", "golden", "graceful", "grand", "grateful", "hale", "handy", "happy",
    "hardy", "hearty", "helpful", "honest", "humble", "ideal", "jaunty", "jolly", "jovial", "joyful",
    "keen", "kind", "lasting", "lavish", "light", "lithe", "lively", "loyal", "lucid", "lucky", "mellow",
    "merry", "mighty", "mild", "mirthful", "modest", "neat", "nimble", "noble", "open", "patient", "placid",
    "plucky", "polite", "prime", "prompt", "proper", "proud", "pure", "quick", "quiet", "rapid", "ready",
    "robust", "rosy", "sage", "sane", "serene", "sharp", "shiny", "silent", "sincere", "sleek", "smart",
    "smooth", "snug", "sober", "solid", "spry", "stable", "stately", "steady", "sterling", "stoic",
    "strong", "sturdy", "subtle", "sunny", "supple", "sure", "swift", "tactful", "tender", "thorough",
    "tidy", "tireless", "topical", "tranquil", "trim", "true", "trusty", "upbeat", "valiant", "vast",
    "vivid", "warm", "wary", "wise", "witty", "worthy", "zealous", "zesty", "zippy",
];

/// People of mathematics, the sciences and computing.
#[rustfmt::skip]
const SURNAMES: &[&str] = &[
    "abel", "agnesi", "aiken", "airy", "alembert", "alfven", "allen", "alvarez", "ampere", "anning",
    "appleton", "archimedes", "aristarchus", "arrhenius", "aryabhata", "avogadro", "baade", "babbage",
    "backus", "baire", "banach", "banks", "bardeen", "barkla", "bassi", "bayes", "becquerel", "bell",
    "bernal", "bernoulli", "berzelius", "bessel", "bethe", "bhabha", "biot", "birkhoff", "bjerknes",
    "blackett", "bloch", "boas", "bohr", "bolzano", "boole", "born", "bose", "boyle", "bragg", "brahe",
    "brewster", "broglie", "brouwer", "brown", "bunsen", "burbidge", "cannon", "cantor", "cardano",
    "carnot", "carson", "cartan", "cauchy", "cavendish", "cayley", "celsius", "chadwick", "chandra",
    "chatelet", "chebyshev", "cherenkov", "church", "clausius", "coriolis", "coulomb", "crick", "curie",
    "cuvier", "dalton", "darwin", "davy", "dedekind", "descartes", "dewar", "dijkstra", "diophantus",
    "dirac", "doppler", "dyson", "eddington", "edison", "ehrlich", "einstein", "eratosthenes", "erdos",
    "euclid", "euler", "fahrenheit", "faraday", "fermat", "fermi", "feynman", "fibonacci", "fischer",
    "fleming", "foucault", "fourier", "franklin", "fraunhofer", "fresnel", "gabor", "galilei", "galois",
    "galton", "galvani", "gamow", "gauss", "germain", "gibbs", "godel", "goeppert", "golgi", "haber",
    "hadamard", "hahn", "haldane", "hall", "halley", "hamilton", "hardy", "harvey", "heaviside", "hegel",
    "heisenberg", "helmholtz", "henry", "herschel", "hertz", "hess", "hilbert", "hippocrates", "hodgkin",
    "hooke", "hopper", "hubble", "humboldt", "hutton", "huxley", "huygens", "hypatia", "jacobi", "jansky",
    "jenner", "joliot", "jordan", "joule", "kapitsa", "kelvin", "kepler", "khayyam", "khorana", "kirchhoff",
    "klein", "knuth", "koch", "kolmogorov", "kovalevskaya", "krebs", "lagrange", "lamarck", "lamport",
    "landau", "laplace", "laue", "lavoisier", "leavitt", "lebesgue", "legendre", "leibniz", "lenz",
    "leonardo", "liebig", "linnaeus", "liouville", "lorentz", "lovelace", "lyell", "mach", "malpighi",
    "marconi", "markov", "maury", "maxwell", "mccarthy", "mcclintock", "meitner", "mendel", "mendeleev",
    "mercator", "michelson", "millikan", "minkowski", "moebius", "morse", "moseley", "napier", "nash",
    "nernst", "neumann", "newton", "nightingale", "nobel", "noether", "oersted", "ohm", "ostrogradsky",
    "pascal", "pasteur", "pauli", "pauling", "pavlov", "peano", "peirce", "penrose", "perey", "perrin",
    "planck", "poincare", "poisson", "priestley", "ptolemy", "pythagoras", "raman", "ramanujan", "ramsay",
    "rayleigh", "riemann", "ritchie", "roemer", "roentgen", "rubin", "russell", "rutherford", "rydberg",
    "sagan", "sakharov", "salam", "scheele", "schrodinger", "schwann", "seaborg", "shannon", "sklodowska",
    "snell", "soddy", "sommerfeld", "stokes", "tartaglia", "tesla", "thales", "thompson", "thomson",
    "torricelli", "turing", "tycho", "vesalius", "viete", "volta", "wallace", "watt", "weber", "wegener",
    "weierstrass", "weyl", "wheeler", "wiener", "wigner", "wirth", "wolf", "wren", "wright", "wu", "yalow",
    "young", "yukawa", "zeeman", "zermelo", "zuse",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn generated_names_are_valid_and_many() {
        assert!(ADJECTIVES.len() >= 100 && SURNAMES.len() >= 200);
        for words in [ADJECTIVES, SURNAMES] {
            assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len(), "a word twice");
            assert!(words.iter().all(|w| w.bytes().all(|b| b.is_ascii_lowercase())));
        }
        let names: HashSet<ContainerName> = (0..1000).map(|_| generate(0)).collect();
        assert!(names.len() > 900);
        for attempt in 0..20 {
            let name = generate(attempt);
            assert_eq!(name.as_str().ends_with(|c: char| c.is_ascii_digit()), attempt > 3, "{name}");
        }
    }
}
