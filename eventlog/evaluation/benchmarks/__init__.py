"""The benchmarks that come with evlog, a module each; `BenchmarkRegistry` knows their names."""
