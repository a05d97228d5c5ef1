var emulatorArea: [Bench.Group] {
    [
        Bench.Group(name: "leaves", measure: measureLeaves),
        Bench.Group(name: "threads", measure: measureThreads),
        Bench.Group(name: "space", measure: measureSpace),
        Bench.Group(name: "linear", measure: measureLinearity),
        Bench.Group(name: "measurement", measure: measureMeasurement),
    ]
}
