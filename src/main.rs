//! kongferry: parse, dispatch, exit code.

fn main() {}
