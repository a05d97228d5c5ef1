var teardownArea: [Bench.Group] {
    []
}
