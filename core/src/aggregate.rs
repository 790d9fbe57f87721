//! Order-free sums: contributions become integers, and integers are added.
